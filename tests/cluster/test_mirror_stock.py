#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shell mirror modules in the manner of the classic product, as three different hands would write them: installed, checked,
configured, started, exchanged, broken and stopped by the real commands, without a change to them.
Usage: test_mirror_stock.py app|services|small"""
import sys

import mirror
from mirror import ALONE, PRIM, SECOND, STOP
from support import HERE, archive_of, check, lab
from test_stock import calls, prepare


def install(nodes, name, module_id, folders):
    """As an administrator does it; gives the module with both nodes configured."""
    module = mirror.Mirror.__new__(mirror.Mirror)
    module.cluster, module.name, module.nodes = nodes, name, nodes.nodes[:2]
    archive = archive_of(HERE / f"stock_mirror_{name}")
    for node in module.nodes:
        for folder in folders:
            node.sh(f"mkdir -p '{folder}'")
        check("installed" in node.stead(f"module install -m {name} -M {module_id} {archive}").stdout, f"{node.name}: installs")
        check(node.stead(f"confcheck -m {name}", check=False).returncode == 0, "confcheck")
        done = node.stead(f"config -m {name}")
        check("inactive" not in done.stdout + done.stderr, "config: nothing is left without a plugin")
    return module


def state_is(module, node, *codes):
    return module.wait_ready(node, *codes, timeout=30)


def form(module):
    one, two = module.nodes
    module.stead(one, "prim")
    state_is(module, one, ALONE)
    module.stead(two, "second")
    state_is(module, one, PRIM)
    state_is(module, two, SECOND)
    return one, two


def app(nodes):
    module = install(nodes, "app", 1, ["/srv/app"])
    one, two = module.nodes
    one.sh("echo 'color=blue' >/srv/app/app.conf; mkdir /srv/app/cache; echo here >/srv/app/cache/x; echo t >/srv/app/a.tmp")
    form(module)
    check(one.processes("stockapp") and not two.processes("stockapp"), "the application runs on the primary alone")
    check(two.sh("ls /srv/app").stdout.split() == ["app.conf", "state"],
          "the secondary shows the copy, without what is left out")
    lab.wait_for("the checker", lambda: module.stead(one, "get -r custom.content").stdout.strip() == "up")
    one.kill("stockapp")
    lab.wait_for("errd restarts it", lambda: one.processes("stockapp") and one.sh("cat /srv/app/state").stdout == "2\n", 20)
    state_is(module, one, PRIM)
    module.stead(one, "swap")
    state_is(module, two, PRIM)
    state_is(module, one, SECOND)
    check(two.processes("stockapp") and not one.processes("stockapp") and two.sh("cat /srv/app/state").stdout == "3\n",
          "swap moves it, with its data")
    check(f"{lab.VIP}/32" in two.sh("ip addr").stdout, "and its address")
    two.sh(": >/srv/app/state")
    lab.wait_for("the checker's restart", lambda: "restart called by" in module.log(two), 20)
    state_is(module, two, PRIM)
    two.power_off()
    state_is(module, one, ALONE)
    check(one.processes("stockapp"), "power cut: the other one serves")
    seen = (one.disk / "var/modules/app/var/transitions").read_text().splitlines()
    wanted = ["STOP WAIT start", "WAIT ALONE start", "ALONE PRIM start", "PRIM SECOND stop", "SECOND ALONE start"]
    check([line.rsplit(" ", 1)[0] for line in seen] == [line.rsplit(" ", 1)[0] for line in wanted], f"transitions: {seen}")
    module.stead(one, "stop")
    check(one.state("app") == STOP and not one.processes("stockapp"), "stop")
    check(one.sh("cat /srv/app/app.conf /srv/app/cache/x").stdout == "color=blue\nhere\n", "stopped, all is at its place")


def services(nodes):
    for node in nodes.nodes:
        prepare(node)
    module = install(nodes, "services", 2, ["/srv/db", "/srv/log files"])
    one, two = module.nodes
    check(calls(one) == ["cat alpha", "disable alpha", "cat beta", "disable beta"], "postconfig disabled the units")
    one.sh("echo data >/srv/db/table; echo line >'/srv/log files/log 1'")
    form(module)
    check("start alpha" in calls(one) and "start beta" not in calls(two), "the units start on the primary alone")
    lab.wait_for("the pre-checkers", lambda: module.stead(two, "get -r custom.quota").stdout.strip() == "up")
    check("start_second: " in module.log(two), "get works in start_second")
    one.sh("pkill -x beta; rm -f /run/unit.beta")  # errd: stopstart, so that the other node takes over
    lab.wait_for("failover by errd", lambda: two.state("services") in (ALONE, PRIM), 40)
    state_is(module, one, SECOND)
    state_is(module, two, PRIM)
    check(two.sh("cat '/srv/db/served by'").stdout == "node1\nnode2\n", "with its data")
    check(two.sh("cat '/srv/log files/log 1'").stdout == "line\n", "in both directories")
    module.stead(two, "stop")
    state_is(module, one, ALONE)
    module.stead(one, "stop")
    check([node.state("services") for node in module.nodes] == [STOP, STOP], "both stop")
    check("10.42.0.101/" not in one.sh("ip addr").stdout, "the address is gone")


def small(nodes):
    module = install(nodes, "small", 3, ["/srv/small"])
    one, two = form(module)
    for turn in range(1, 3):
        one.kill("smallapp")
        lab.wait_for("the handler's restart", lambda: one.processes("smallapp") and one.state("small") == PRIM and
                     len(one.sh("cat /srv/small/starts").stdout.splitlines()) == turn + 1, 20)
        state_is(module, one, PRIM)
    two.power_off()
    state_is(module, one, ALONE)
    mirror.power_on_again(two)
    two.stead("start -m small", check=False)
    state_is(module, two, SECOND)
    one.power_off()
    state_is(module, two, ALONE)
    check(two.processes("smallapp") and len(two.sh("cat /srv/small/starts").stdout.splitlines()) == 4, "both lose power in turn")


if __name__ == "__main__":
    with mirror.cluster() as pair:
        {"app": app, "services": services, "small": small}[sys.argv[1]](pair)
