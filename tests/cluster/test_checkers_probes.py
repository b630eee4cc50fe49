#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The checkers tcp, http, ping, module and custom with real things: nginx killed and stopped, a gateway that goes away,
another module, scripts. One light module per case, on one node; the farm case has three and a load of clients."""
import sys
import time

from light import Module, light_xml
from support import check, lab

SHELL = "#!/bin/sh\n"
NGINX = """pid /run/page.pid;
events {}
http { access_log off; error_log /dev/null; server { listen 8080; location / { return 200 "status=ok\\n"; } } }
"""
PAGE = {"start_both": SHELL + f"cat >/run/page.conf <<'END'\n{NGINX}END\nexec /usr/sbin/nginx -c /run/page.conf\n",
        "stop_both": SHELL + "pkill -KILL -x nginx || true\nwhile pgrep -x nginx >/dev/null; do sleep 0.02; done\n"}


def logged(module, text, count=1, timeout=15):
    lab.wait_for(f"{count} x {text!r}", lambda: module.log().count(text) >= count, timeout)


def resource(module, name):
    return module.stead(f"get -r {name}", check=False).stdout.strip()


def becomes(module, name, value, timeout=15):
    lab.wait_for(f"{name} {value}", lambda: resource(module, name) == value, timeout)


def page(node, name, checks):
    module = Module(node, name, PAGE, light_xml(more=f"<check>{checks}</check>"))
    module.start()
    return module


def seen_within(module, action, text, limit):
    """How long it took until the log had this once more."""
    before = module.log().count(text)
    begun = time.monotonic()
    action()
    logged(module, text, before + 1)
    took = time.monotonic() - begun
    check(took < limit, f"{text!r} after {took:.2f} s, allowed {limit:.1f} s")


def servers(node):
    """Interval 1 s, time-out 1 s: seen within 2 s, and what a busy machine adds."""
    module = page(node, "page", """
        <tcp ident="port" when="both"><to addr="127.0.0.1" port="8080" interval="1s" timeout="1s"/></tcp>
        <http ident="page" when="both" action="restart">
          <to addr="127.0.0.1" port="8080" interval="1s" timeout="1s" body="status=ok"/></http>
        <http ident="other" when="both" action="noaction">
          <to addr="127.0.0.1" port="8080" interval="1s" timeout="1s" status="404"/></http>""")
    check(resource(module, "tcp.port") in ("init", "up"), "the port is not yet judged, or up")
    for name, value in (("tcp.port", "up"), ("http.page", "up"), ("http.other", "down")):
        becomes(module, name, value)
    check("Action" not in module.log().split("Script start_both")[-1], "a check without an action does nothing")

    seen_within(module, lambda: node.kill("nginx"), "Action restart called by", 4)
    check("Connection refused" in module.log(), "with the reason: refused")
    lab.wait_for("Ready again", lambda: node.ready("page") and node.processes("nginx"))
    becomes(module, "http.page", "up")
    becomes(module, "tcp.port", "up")

    before = module.log().count("Action restart")
    seen_within(module, lambda: node.kill("nginx", "STOP"), "Resource http.page set to down", 4)
    check("no answer within 1000 ms" in module.log(), "a server that accepts and does not answer: http sees it")
    logged(module, "Action restart", before + 1)
    lab.wait_for("Ready again", lambda: node.ready("page"))
    becomes(module, "http.page", "up")
    module.stead("stop")
    check(module.log().count("Action restart") == before + 1, "a planned stop is no failure")

    conf = module.edited() / "conf" / "userconfig.xml"
    text = conf.read_text()
    conf.write_text(text.replace('<tcp ident="port" when="both">', '<tcp ident="port" when="pre" action="restart">'))
    refused = module.stead("config", check=False)
    check(refused.returncode != 0 and "wait or noaction" in refused.stdout + refused.stderr,
          "a check before the scripts cannot restart: refused with its place")
    conf.write_text(text)


def update(node):
    """Elements come, change and go while the module runs, and the application is left alone."""
    first = '<tcp ident="port" when="both"><to addr="127.0.0.1" port="8080" interval="1s"/></tcp>'
    more = '<tcp ident="none" when="both" action="noaction"><to addr="127.0.0.1" port="8081" interval="1s"/></tcp>'
    module = page(node, "changing", first)
    becomes(module, "tcp.port", "up")
    conf = module.edited() / "conf" / "userconfig.xml"
    text = conf.read_text()
    pids = node.processes("nginx")

    def updated(checks):
        conf.write_text(text.replace(first, checks))
        module.stead("update")
    updated(first + more)
    becomes(module, "tcp.none", "down")
    check(resource(module, "tcp.port") == "up", "the other check is undisturbed")
    updated(more.replace("8081", "8080"))
    becomes(module, "tcp.none", "up")
    check(resource(module, "tcp.port") == "", "what is gone from the file has no resource")
    check(node.processes("nginx") == pids and "Action restart" not in module.log(), "the application was left alone")
    module.stead("stop")
    first_elements(node)


def first_elements(node):
    """The first element of a plugin that the module had not loaded, and then the last of it."""
    module = Module(node, "bare", {"start_both": SHELL + "exit 0\n"}, light_xml())
    module.start()
    hosts = node.processes("stead-host")
    conf = module.edited() / "conf" / "userconfig.xml"
    text = conf.read_text()
    checks = ('<errd polltimer="10s"><proc name="nosuchapp" atmax="0" action="stop"/></errd><check>'
              '<tcp ident="port" when="both" action="noaction"><to addr="127.0.0.1" port="1" interval="1s"/></tcp>'
              '<splitbrain ident="witness" arg="10.42.0.160"/></check>')
    conf.write_text(text.replace("<user ", checks + "<user "))
    module.stead("update")
    check("plugin checkers.tcp 1.0.0 in use" in module.log(), "the log says which plugins the update took in")
    becomes(module, "tcp.port", "down")
    becomes(module, "proc.nosuchapp", "up")
    check(resource(module, "splitbrain.uptodate") == "up", "three plugins at once, each at work")
    check(node.processes("stead-host") == hosts and node.ready("bare"), "without a stopstart")
    conf.write_text(text.replace("<user ", checks.replace('port="1"', 'port="99999"') + "<user "))
    check(module.stead("update", check=False).returncode != 0 and resource(module, "tcp.port") == "down",
          "a bad update changes nothing")
    conf.write_text(text)
    module.stead("update")
    becomes(module, "tcp.port", "")
    check(resource(module, "proc.nosuchapp") == "" and node.ready("bare"), "their last elements go as well")
    module.stead("stop")


def gateway(farm):
    """The client of the lab is the gateway. `pre` is armed before the scripts: the module waits for it."""
    node = farm.nodes[0]
    module = Module(node, "routed", {"start_both": SHELL + "exit 0\n"}, light_xml(more=f"""<check>
        <ping ident="gw"><to addr="{farm.client.address()}" interval="1s" timeout="1s"/></ping></check>"""))
    farm.client.unplug_silently()
    module.stead("start")
    becomes(module, "ping.gw", "down")
    check(module.code() == 1, "without its gateway the module waits")
    check("Script start_both" not in module.log(), "and starts nothing")
    farm.client.plug_back()
    lab.wait_for("Ready", lambda: node.ready("routed"))
    becomes(module, "ping.gw", "up")
    seen_within(module, farm.client.unplug_silently, "Resource ping.gw set to down", 4)
    logged(module, "Action wait called by")
    module.wait(1)
    farm.client.plug_back()
    lab.wait_for("Ready again", lambda: node.ready("routed"))
    module.stead("stop")


def other_module(node):
    base = Module(node, "base", {"start_both": SHELL + "exit 0\n"}, light_xml())
    module = Module(node, "upper", {"start_both": SHELL + "exit 0\n"}, light_xml(
        more='<check><module name="base"><to interval="1s" timeout="1s"/></module></check>'))
    module.stead("start")
    becomes(module, "module.base_127.0.0.1", "down")
    check(module.code() == 1, "it waits for the other module")
    base.start()
    lab.wait_for("Ready", lambda: node.ready("upper"))
    base.stead("stop")
    becomes(module, "module.base_127.0.0.1", "down")
    module.wait(1)
    base.start()
    lab.wait_for("Ready again", lambda: node.ready("upper"))
    becomes(module, "module.base_127.0.0.1", "up")
    check("Action stopstart" not in module.log(), "seen down, it was waited for: that is all")
    for turn, verb in enumerate(("restart", "stopstart"), 1):
        base.stead(verb)
        logged(module, "Action stopstart called by checkers.module: module base of 127.0.0.1 was restarted", turn)
        lab.wait_for("both Ready", lambda: node.ready("base") and node.ready("upper"))
        becomes(module, "module.base_127.0.0.1", "up")
    module.stead("stop")
    base.stead("stop")


LOOP = SHELL + """
echo "$@" >/run/loop.argv
while :; do
  rm /run/loop.bad 2>/dev/null && state=down || state=up
  $SAFE/safekit set -m "$1" -r "$2" -v $state -i loopcheck
  sleep 0.2
done
"""
LOOP_PROCESS = "^/bin/sh .*/loopchec[k] "  # not its leash, nor what it calls


def scripts(node):
    module = Module(node, "scripted", {"start_both": SHELL + "exit 0\n", "loopcheck": LOOP,
                                       "exists": SHELL + 'test -e "$3" || { echo "$3 is not there" >&2; exit 1; }\n',
                                       "even.lua": "local n = tonumber(stead.var.LIMIT)\n"
                                                   "if n % 2 ~= 0 then stead.fail('odd') end\n"},
                    light_xml('<user nicestoptimeout="2s" forcestoptimeout="2s"><var name="LIMIT" value="4"/></user>',
                              """<check><custom ident="loop" when="both" exec="loopcheck" arg="a b" action="restart"/>
        <custom ident="file" when="both" exec="exists" arg="/run/wanted" interval="1s" timeout="2s"/>
        <custom ident="lua" when="both" exec="even.lua" interval="1s" timeout="2s"/>
        <custom ident="gone" when="both" exec="nothing"/></check>"""))
    node.sh("touch /run/wanted")
    module.start()
    for name, value in (("loop", "up"), ("file", "up"), ("lua", "up"), ("gone", "unknown")):
        becomes(module, f"custom.{name}", value)
    check(node.sh("cat /run/loop.argv").stdout == "scripted custom.loop a b\n", "argv: module, resource, arguments")
    node.sh("rm /run/wanted")
    becomes(module, "custom.file", "down")
    down = r"Resource custom.file set to down: bin/exists: exit 1: /run/wanted is not there"
    check(down in module.log(), "with its reason: how it ended, and what it said last")
    detail = module.stead("state -v").stdout
    check("(bin/exists: exit 1: /run/wanted is not there)" in detail, "state -v tells it too")
    conf = module.edited() / "conf" / "userconfig.xml"
    conf.write_text(conf.read_text().replace('value="4"', 'value="5"'))
    module.stead("update")
    becomes(module, "custom.lua", "down")
    check("Resource custom.lua set to down: bin/even: odd" in module.log(), "a Lua check: the reason that it gives")
    node.sh("touch /run/loop.bad")
    logged(module, "Action restart called by")
    lab.wait_for("Ready again", lambda: node.ready("scripted"))
    becomes(module, "custom.loop", "up")
    check(node.sh(f"pgrep -c -f '{LOOP_PROCESS}'").stdout == "1\n", "the script that runs on runs once")
    node.sh(f"pkill -KILL -f '{LOOP_PROCESS}'")
    logged(module, "Resource custom.loop set to unknown")
    becomes(module, "custom.loop", "up")
    module.stead("stop")
    check(module.running("loopcheck") == 0, "and not after the stop")


def main():
    lab.enter()
    with lab.Lab(nodes=1) as farm:
        farm.form_cluster()
        node = farm.nodes[0]
        for case in sys.argv[1:] or ["servers", "update", "gateway", "other_module", "scripts"]:
            print(f"---- {case}", flush=True)
            globals()[case](farm if case == "gateway" else node)


if __name__ == "__main__":
    main()
