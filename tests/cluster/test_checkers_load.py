#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""200 checkers of every kind in one module, at intervals of 1 s: what its stead-host and all that it starts take of a
processor, and that no turn of the schedule is missed. Then what one run of a script costs, ours and its own. Prints the
figures; the bounds are wide enough for a machine that does much else.
Usage: test_checkers_load.py [SECONDS]"""
import json
import pathlib
import re
import sys
import time

from light import Module, light_xml
from support import check, lab

SHELL = "#!/bin/sh\n"
NGINX = """pid /run/page.pid;
events {}
http { access_log off; error_log /dev/null; server { listen 8080; location / { return 200 "status=ok\\n"; } } }
"""
HOOKS = {"start_both": SHELL + f"cat >/run/page.conf <<'END'\n{NGINX}END\nexec /usr/sbin/nginx -c /run/page.conf\n",
         "stop_both": SHELL + "pkill -KILL -x nginx || true\nwhile pgrep -x nginx >/dev/null; do sleep 0.02; done\n",
         "loopcheck": SHELL + '$SAFE/safekit set -m "$1" -r "$2" -v up -i loop\nexec sleep 86400\n',
         "true": SHELL + "exit 0\n"}
TO = 'interval="1s" timeout="1s"'


def mixed():
    """45 tcp, 45 http, 45 ping, 25 module, 15 ip, 5 intf, 10 custom that run on, 10 processes."""
    checks = [f'<tcp ident="t{i}" when="both" action="noaction"><to addr="127.0.0.1" port="8080" {TO}/></tcp>'
              f'<http ident="h{i}" when="both" action="noaction"><to addr="127.0.0.1" port="8080" {TO}/></http>'
              f'<ping ident="p{i}" when="both" action="noaction"><to addr="127.0.0.1" {TO}/></ping>' for i in range(45)]
    checks += [f'<module name="base" ident="m{i}"><to {TO}/></module>' for i in range(25)]
    checks += [f'<ip ident="i{i}" when="both"><to addr="10.42.0.11" interval="1s"/></ip>' for i in range(15)]
    checks += [f'<intf ident="f{i}"><to local_addr="10.42.0.11"/></intf>' for i in range(5)]
    checks += [f'<custom ident="c{i}" when="both" exec="loopcheck"/>' for i in range(10)]
    processes = [f'<proc name="n{i}" nameregex="^nginx$" class="both" action="noaction"/>' for i in range(10)]
    return f'<errd polltimer="1s">{"".join(processes)}</errd><check>{"".join(checks)}</check>'


def host_of(name):
    """The stead-host of the lab's node, as this program sees it."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"stead-host") and name.encode() in words:
            return int(path.parent.name)
    raise AssertionError(f"no stead-host of {name}")


def seconds_of(pid):
    """User and system time: its own, and of all that it started, ended or not."""
    def fields(number):
        return [int(value) / 100 for value in
                pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[11:15]]
    own = fields(pid)
    started = own[2] + own[3]
    below = [pid]
    while below:
        for task in pathlib.Path(f"/proc/{below.pop()}/task").glob("*/children"):
            for child in task.read_text().split():
                try:
                    started += sum(fields(child))
                    below.append(int(child))
                except OSError:
                    pass  # ended; its parent has its time
    return own[0] + own[1], started


def verdicts(module):
    """How many resources of checkers are up, and how many there are."""
    kinds = ("tcp", "http", "ping", "module", "ip", "intf", "custom", "proc")
    found = [one["value"] for one in json.loads(module.stead("state -v --json").stdout)["detail"]["resources"]
             if one["name"].split(".")[0] in kinds]
    return found.count("up"), len(found)


def probes(module):
    found = re.findall(r"probes (\d+), failed (\d+), missed (\d+)", module.stead("state -v").stdout)
    return [sum(int(one[i]) for one in found) for i in range(3)]


def measured(module, count, span):
    """Shares of one core in per cent, of the host and of what it starts; probes in a second; how many failed, missed."""
    lab.wait_for("all of them up", lambda: verdicts(module) == (count, count), 60)
    pid, before, begun = host_of(module.name), probes(module), time.monotonic()
    spent = seconds_of(pid)
    time.sleep(span)
    wall, done = time.monotonic() - begun, seconds_of(pid)
    ran, failed, missed = (b - a for a, b in zip(before, probes(module)))
    return 100 * (done[0] - spent[0]) / wall, 100 * (done[1] - spent[1]) / wall, ran / wall, failed, missed


def main():
    lab.enter()
    span = float(sys.argv[1]) if len(sys.argv) > 1 else 15
    with lab.Lab(nodes=1) as farm:
        farm.form_cluster()
        node = farm.nodes[0]
        Module(node, "base", {"start_both": SHELL + "exit 0\n"}, light_xml()).start()
        module = Module(node, "load", HOOKS, light_xml(more=mixed()))
        module.start(timeout=60)
        own, started, rate, failed, missed = measured(module, 200, span)
        check(own + started < 6, f"200 checkers of all kinds: stead-host {own:.2f} % of one core, what it started "
              f"{started:.2f} %; {rate:.0f} probes a second")
        check(failed == 0 and missed <= rate * span / 100, f"{failed} failed, {missed} turns missed")
        module.stead("stop")
        scripts = "".join(f'<custom ident="c{i}" when="both" exec="true" {TO}/>' for i in range(20))
        module = Module(node, "scripts", HOOKS, light_xml(more=f"<check>{scripts}</check>"))
        module.start(timeout=60)
        own, started, rate, failed, missed = measured(module, 20, span)
        check(failed == 0, f"a script that is run each second: {10 * own / rate:.2f} ms of stead-host, "
              f"{10 * started / rate:.2f} ms of the script, its shell and its leash")
        module.stead("stop")


if __name__ == "__main__":
    main()
