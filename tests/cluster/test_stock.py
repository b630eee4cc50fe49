#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A shell module in the manner of the classic product, with every helper such scripts call, and our own shell_farm:
installed, configured, started, stopped by the real commands."""
from support import HERE, archive_of, check, lab

SYSTEMCTL = """#!/bin/sh
echo "$*" >>/run/systemctl.calls
case "$1" in
cat) case "$2" in alpha|beta) exit 0;; esac; exit 1;;
start) touch "/run/unit.$2"; "/run/$2" -d >/dev/null 2>&1 &;;
stop) rm -f "/run/unit.$2"; pkill -x "$2"; exit 0;;
is-active) [ "$2" = --quiet ] && shift; test -e "/run/unit.$2";;
esac
"""


def prepare(node):
    """A stand-in for systemctl, in front of the real one if there is any, and services; seen by this node alone."""
    node.sh("mount -t tmpfs tmpfs /usr/local/sbin")
    node.sh(f"cat >/usr/local/sbin/systemctl <<'END'\n{SYSTEMCTL}END\nchmod 755 /usr/local/sbin/systemctl")
    for unit in ("alpha", "beta"):
        node.sh(f"printf '#!/bin/sh\\nwhile sleep 1000; do :; done\\n' >/run/{unit}; chmod 755 /run/{unit}")


def calls(node):
    return node.sh("cat /run/systemctl.calls; : >/run/systemctl.calls").stdout.splitlines()


def stock(node):
    archive = archive_of(HERE / "stock_farm")
    check("installed" in node.stead(f"module install -m stock -M 1 {archive}").stdout, "installs")
    done = node.stead("config -m stock")
    check("<errd>" not in done.stdout + done.stderr, "errd has a plugin")
    check(calls(node) == ["cat alpha", "disable alpha", "cat beta", "disable beta"], "postconfig read safeconf.xml")
    check(node.stead("confcheck -m stock").returncode == 0, "confcheck")
    node.stead("start -m stock")
    lab.wait_for("UP Ready", lambda: node.ready("stock"), 20)
    log = node.stead("log -m stock -s 1000").stdout
    check("prestart STOP WAIT start" in log and "start_both WAIT UP start" in log, "printi wrote to the module log")
    seen = calls(node)
    check(seen[-4:] == ["start alpha", "is-active --quiet alpha", "start beta", "is-active --quiet beta"],
          f"services started in order: {seen[-4:]}")
    for resource in ("proc.alpha", "proc.beta"):
        lab.wait_for(f"{resource} up", lambda: node.stead(f"get -m stock -r {resource}").stdout == "up\n")
    check(node.stead("get -m stock -r custom.app").stdout.strip() == "up", "set of a script is seen by get")
    environment = ("SAFEMODULE=stock SAFE={0}/libexec/stead/compat SAFEBIN={0}/libexec/stead/compat/private/bin "
                   "SAFEUSERBIN=/var/lib/stead/modules/stock/active/bin").format(node.lab.stage)
    for turn in range(3):  # two counts a turn: the handler's own and the restart's
        if node.state("stock") == 0:
            break
        node.sh(f"{environment} /var/lib/stead/modules/stock/active/bin/handler")
        lab.wait_for("the end of the restart", lambda: node.ready("stock") or node.state("stock") == 0)
    lab.wait_for("the loop guard", lambda: node.state("stock") == 0, 20)
    check(True, "a handler with incloop and restart -i ends in STOP by the loop guard")
    node.stead("start -m stock")
    lab.wait_for("UP Ready", lambda: node.ready("stock"), 20)
    calls(node)
    node.stead("stop -m stock")
    check(node.state("stock") == 0, "stop returns when stopped")
    check(calls(node)[:2] == ["stop beta", "stop alpha"], "services stopped in reverse order")
    output = (node.disk / "var" / "modules" / "stock" / "userlog").read_text()
    check("stop_both force=0 UP WAIT stop" in output and "stop_both force=1 WAIT STOP stop" in output,
          "the stop script ran plainly and with force, its output is in the user log")
    check(not node.sh("ip -o addr | grep -F ' 10.42.0.100/'", check=False).stdout, "the virtual address is gone")


def shell_farm(node):
    node.stead(f"module install -m web -M 2 {archive_of(lab.ROOT / 'modules' / 'shell_farm')}")
    path = node.disk / "etc" / "modules" / "web" / "conf" / "userconfig.xml"
    path.write_text(lab.replace_macro(path.read_text(), "VIP", lab.VIP))
    node.stead("config -m web")
    node.stead("start -m web")
    lab.wait_for("UP Ready", lambda: node.ready("web"), 20)
    answer = lab.wait_for("an answer", lambda: node.lab.client.sh(f"curl -s -m 2 http://{lab.VIP}/", check=False).stdout)
    check(answer == "node1\n", "shell_farm serves real HTTP")
    node.stead("stop -m web")
    check(node.state("web") == 0 and not node.processes("nginx"), "and stops, nginx with it")


if __name__ == "__main__":
    lab.enter()
    with lab.Lab(nodes=1) as machine:
        prepare(machine.nodes[0])
        machine.form_cluster()
        stock(machine.nodes[0])
        shell_farm(machine.nodes[0])
