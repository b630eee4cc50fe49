#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two nodes and a witness: the node that is cut off waits, the one that reaches the witness serves, and after the cut
both do. A peer that says goodbye is no split brain."""
from support import check, echo_farm, lab

WITNESS = "10.42.0.160"  # the client


def resource(node, name):
    return node.stead(f"get -m echo -r {name}", check=False).stdout.strip()


def log(node):
    return node.stead("log -m echo -s 2000").stdout


def configure(farm):
    check(f"inet {WITNESS}/" in farm.client.sh("ip -4 addr show dev eth0").stdout, "the witness is there")
    for node in farm.nodes:
        path = node.disk / "etc" / "modules" / "echo" / "conf" / "userconfig.xml"
        path.write_text(path.read_text().replace("<user>", (
            f'<check><splitbrain ident="witness" exec="ping" arg="10.42.0.253 {WITNESS}"/></check><user>')))
        node.stead("config -m echo")
    farm.start("echo")
    for node in farm.nodes:
        lab.wait_for(f"{node.name} Ready", lambda: node.ready("echo"), 20)
        check(resource(node, "splitbrain.uptodate") == "up", f"{node.name}: nothing in doubt")


def cut(farm):
    lost, kept = farm.nodes[:2]
    lost.unplug_silently()
    lab.wait_for("the lost node waits", lambda: lost.state("echo") == 1, 15)
    check(resource(lost, "splitbrain.uptodate") == "down" and resource(lost, "splitbrain.witness") == "down",
          "no witness answers the lost node")
    check("splitbrain_failure" in log(lost), "the default rule says why")
    lab.wait_for("the witness answers the other", lambda: resource(kept, "splitbrain.witness") == "up", 15)
    check(kept.ready("echo") and resource(kept, "splitbrain.uptodate") == "up", "the other serves")
    lost.plug_back()
    for node in (lost, kept):
        lab.wait_for(f"{node.name} Ready", lambda: node.ready("echo"), 30)
        lab.wait_for("nothing in doubt", lambda: resource(node, "splitbrain.witness") == "init"
                     and resource(node, "splitbrain.uptodate") == "up", 15)


def goodbye(farm):
    leaving, staying = farm.nodes[:2]
    asked = log(staying).count("isolated")
    leaving.stead("stop -m echo")
    lab.wait_for("a view of one", lambda: "view: node2 (" in staying.stead("state -m echo -v").stdout)
    check(staying.ready("echo") and log(staying).count("isolated") == asked, "a goodbye is no isolation")


if __name__ == "__main__":
    with echo_farm(start=False) as running:
        configure(running)
        running.nodes[2].stead("stop -m echo")  # two are enough
        cut(running)
        goodbye(running)
