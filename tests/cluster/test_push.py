#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""-E and -G: what is edited on one node goes to the others and is applied there, whole or not at all."""
import support
from support import check, lab


def edited(node, module="echo"):
    return node.disk / "etc" / "modules" / module / "conf" / "userconfig.xml"


def active(node, module="echo"):
    return (node.disk / "var" / "modules" / module / "active" / "conf" / "userconfig.xml").read_text()


def push_a_module(farm):
    node1, node2, node3 = farm.nodes
    node1.stead(f"module install -m echo -M 7 {support.archive_of(support.HERE / 'echo_farm')}")
    path = edited(node1)
    path.write_text(lab.replace_macro(path.read_text(), "TRAFFIC", lab.traffic_program()))
    done = node1.stead('-H "*" -E echo')
    check("node2 has it" in done.stdout + done.stderr, "progress is told")
    for node in farm.nodes:
        check(node.stead("module listid").stdout.split() == ["echo", "7"], f"{node.name}: same module, same number")
        check(active(node) == path.read_text(), f"{node.name}: same configuration in force")
    farm.start("echo")
    support.wait_served(farm)


def push_to_a_running_module(farm):
    node1, node2, _ = farm.nodes
    before, path = active(node2), edited(node1)
    good = path.read_text()
    path.write_text(good.replace("<service", "<serviec", 1).replace("</service", "</serviec", 1))
    failed = node1.stead("-H node2 -E echo", check=False)
    check(failed.returncode == 65 and "serviec" in failed.stdout + failed.stderr, "a bad configuration is refused by name")
    check(active(node2) == before and edited(node2).read_text() == before, "and node2 is as it was, edited and active")
    path.write_text(good)
    check(node1.stead("-H node2,node3 -E echo").returncode == 0, "the good one is taken while the module runs")
    support.wait_served(farm)
    node2.stead("module install -m other -M 9 " + str(support.archive_of(support.HERE / "echo_farm")))
    node1.stead("module install -m other -M 8 " + str(support.archive_of(support.HERE / "echo_farm")))
    failed = node1.stead("-H node2 -E other", check=False)
    check(failed.returncode == 73 and "number 9 here and 8 there" in failed.stdout + failed.stderr,
          "another number is refused")


def push_the_cluster(farm):
    node1, _, node3 = farm.nodes
    old = (node3.disk / "etc" / "cluster.xml").read_text()
    new = old.replace("</cluster>", "<!-- pushed --></cluster>").replace('name="default"', 'name="main"')
    (node1.disk / "etc" / "cluster.xml").write_text(new)
    check(node1.stead('-H "*" -G').returncode == 0, "cluster.xml is taken by all")
    for node in farm.nodes:
        check((node.disk / "etc" / "cluster.xml").read_text() == new, f"{node.name}: edited is the new one")
        check((node.disk / "var" / "cluster" / "cluster.xml").read_text() == new, f"{node.name}: active is the new one")
    lab.wait_for("all nodes heard on the renamed LAN", lambda: node1.stead("cluster state").stdout.count("main heard") == 3)
    check(node1.stead('level -H "*"').returncode == 0, "-H works at once")
    (node1.disk / "etc" / "cluster.xml").write_text(new.replace("</lans>", "", 1))
    failed = node1.stead("-H node2 -G", check=False)
    check(failed.returncode == 65, "a broken file is refused here, before anybody gets it")
    check((farm.nodes[1].disk / "etc" / "cluster.xml").read_text() == new, "node2 keeps its own")


def without_nodes(farm):
    for command in ("-G", "-E echo"):
        failed = farm.nodes[0].stead(command, check=False)
        check(failed.returncode == 64 and "-H NODES" in failed.stderr, f"'{command}' says that it needs -H")


lab.enter()
with lab.Lab() as cluster:
    cluster.form_cluster()
    lab.wait_for("nodes hear each other", lambda: cluster.nodes[0].stead("cluster state").stdout.count("heard") == 3)
    push_a_module(cluster)
    push_to_a_running_module(cluster)
    without_nodes(cluster)
    push_the_cluster(cluster)
