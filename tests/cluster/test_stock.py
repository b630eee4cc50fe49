#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A shell module in the manner of the classic product, with every helper such scripts call, and our own shell_farm:
installed, configured, started, stopped by the real commands."""
from support import HERE, archive_of, check, lab

SYSTEMCTL = """#!/bin/sh
echo "$*" >>/run/systemctl.calls
case "$1" in
cat) case "$2" in alpha|beta|gamma|delta) exit 0;; esac; exit 1;;
start) [ -e "/run/fail.$2" ] && exit 1; touch "/run/unit.$2"; "/run/$2" -d >/dev/null 2>&1 &;;
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
    for turn in range(1, 5):  # incloop and the restart that follows it are one of maxloop
        check(node.ready("stock"), f"Ready before turn {turn}")
        node.sh(f"{environment} /var/lib/stead/modules/stock/active/bin/handler")
        lab.wait_for("the end of the restart", lambda: node.ready("stock") or node.state("stock") == 0)
    lab.wait_for("the loop guard", lambda: node.state("stock") == 0, 20)
    check(node.stead("log -m stock -s 2000").stdout.count("Action restart called by handler") == 3,
          "a handler with incloop and restart -i: three restarts, then STOP by the loop guard")
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


def stock_light(node):
    """Another hand's style: bash arrays, backquotes, words without quotes, verbs with leading dashes in their text."""
    node.stead(f"module install -m stl -M 3 {archive_of(HERE / 'stock_light')}")
    path = node.disk / "etc" / "modules" / "stl" / "conf" / "userconfig.xml"
    good = path.read_text()
    path.write_text(lab.replace_macro(good, "SERVICES", "gamma nosuch"))
    refused = node.stead("config -m stl", check=False)
    check(refused.returncode == 78 and "unit nosuch is not installed" in refused.stderr
          and "not applied" in refused.stderr, "postconfig refuses a unit that is not there, and nothing is applied")
    check(node.stead("start -m stl", check=False).returncode == 73, "so it is not configured")
    path.write_text(good)
    node.stead("config -m stl")
    check(node.stead("module check -m stl").returncode == 0, "module check parses the scripts")
    check("they are the same" in node.stead("confinfo -m stl").stdout, "a file made for <vhost> is no change by hand")
    calls(node)
    node.stead("start -m stl")
    node.stead("waitstart -m stl -t 30")
    check(calls(node)[-2:] == ["start gamma", "start delta"], "start_prim ran in UP, in order")
    log = node.stead("log -m stl -s 1000").stdout
    check("--- prestart of stl ---" in log, "printi takes words that begin with dashes")
    check(node.stead("get -m stl -r custom.level").stdout.strip() == "1", "set and get from a script")
    check(len(node.sh("pgrep -f [7]6001", check=False).stdout.split()) == 1, "its background program stays")
    node.stead("restart -m stl")
    lab.wait_for("the restart", lambda: node.ready("stl") and
                 node.stead("get -m stl -r custom.level", check=False).stdout.strip() == "2", 30)
    check(len(node.sh("pgrep -f [7]6001", check=False).stdout.split()) == 1, "processtree kill ended the first one")
    node.sh("touch /run/fail.delta")
    node.stead("stopstart -m stl")
    lab.wait_for("STOP after the start, not the one before it", lambda: node.state("stl") == 0 and
                 "delta does not start" in node.stead("log -m stl -s 1000").stdout, 30)
    log = node.stead("log -m stl -s 1000").stdout
    check("delta does not start" in log and "Action stop called by" in log, "a start that fails stops the module")
    node.sh("rm /run/fail.delta")
    seen = (node.disk / "var/modules/stl/var/transitions").read_text()
    check("STOP WAIT start" in seen and "WAIT UP start" in seen and "WAIT STOP stop" in seen, "transition saw each change")


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
        stock_light(machine.nodes[0])
        shell_farm(machine.nodes[0])
