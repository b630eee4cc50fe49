#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Several modules in one cluster: two mirrors crossed on two nodes, two mirrors that share a spare node, a farm beside a mirror,
eight mirrors on one node. Usage: test_mirror_ntier.py crossed|spare|farm|eight"""
import sys
import time

import mirror
from mirror import ALONE, PRIM, SECOND
from support import HERE, archive_of, check, lab, served_by


def one_mirror(nodes, name, module_id, service="", pair=None):
    """A mirror of its own directory with its own address."""
    place, address = f"/srv/{name}", f"10.42.0.{110 + module_id}"
    xml = (f'<safe><service mode="mirror" {service}><vip><interface_list><interface check="off"><real_interface>'
           f'<virtual_addr addr="{address}" check="off"/></real_interface></interface></interface_list></vip>'
           f'<rfs><replicated dir="{place}"/></rfs><user nicestoptimeout="10s" forcestoptimeout="10s"/></service></safe>\n')
    for node in pair or nodes.nodes[:2]:
        node.sh(f"mkdir -p {place}")
    module = mirror.Mirror(nodes, name=name, module_id=module_id, xml=xml, nodes=pair)
    module.place, module.address = place, address
    return module


def at(module):
    """Where it is served, by state, data and address."""
    found = [node for node in module.nodes if node.init.poll() is None and node.state(module.name) in (ALONE, PRIM)]
    return found[0] if len(found) == 1 and f" {module.address}/" in found[0].sh("ip -o addr").stdout else None


def write_all(modules, word):
    for module in modules:
        at(module).sh(f"echo {word} {module.name} >>{module.place}/file")


def read_all(modules, lines):
    for module in modules:
        seen = at(module).sh(f"cat {module.place}/file").stdout
        check(seen == "".join(f"{word} {module.name}\n" for word in lines), f"{module.name} has all its data on {at(module).name}")


def crossed(nodes):
    one, two = nodes.nodes
    modules = [one_mirror(nodes, "a", 1, 'defaultprim="node1"'), one_mirror(nodes, "b", 2, 'defaultprim="node2"')]
    modules[0].form(one)
    modules[1].form(two)
    write_all(modules, "first")
    two.power_off()
    lab.wait_for("both on node1", lambda: [at(module) for module in modules] == [one, one])
    write_all(modules, "second")
    mirror.power_on_again(two)
    for module in modules:
        two.stead(f"start -m {module.name}", check=False)
    lab.wait_for("b goes home by itself", lambda: [at(module) for module in modules] == [one, two], 60)
    for module in modules:
        lab.wait_for("both in sync", lambda: sorted(node.state(module.name) for node in module.nodes) == [PRIM, SECOND], 30)
    read_all(modules, ["first", "second"])
    one.power_off()
    lab.wait_for("both on node2", lambda: [at(module) for module in modules] == [two, two])
    read_all(modules, ["first", "second"])


def spare(nodes):
    """N-1: node3 is the spare of both."""
    one, two, three = nodes.nodes
    modules = [one_mirror(nodes, "a", 1, pair=[one, three]), one_mirror(nodes, "b", 2, pair=[two, three])]
    modules[0].form(one)
    modules[1].form(two)
    write_all(modules, "first")
    one.power_off()
    lab.wait_for("a on the spare", lambda: [at(module) for module in modules] == [three, two])
    two.power_off()
    lab.wait_for("b as well", lambda: [at(module) for module in modules] == [three, three])
    read_all(modules, ["first"])


def farm(nodes):
    """The web tier on every node, its data in a mirror: a node's death costs each its own part."""
    one = nodes.nodes[0]
    nodes.install("echo", archive_of(HERE / "echo_farm"), module_id=9, macros={"TRAFFIC": lab.traffic_program()})
    module = one_mirror(nodes, "a", 1)
    nodes.start("echo")
    module.form(one)
    write_all([module], "first")
    names = {node.name for node in nodes.nodes}
    lab.wait_for("the farm serves", lambda: served_by(nodes, names), 20)
    one.power_off()
    lab.wait_for("the mirror moved", lambda: at(module) == nodes.nodes[1])
    lab.wait_for("the farm goes on", lambda: served_by(nodes, names - {"node1"}), 20)
    read_all([module], ["first"])
    mirror.power_on_again(one)
    for name in ("echo", "a"):
        one.stead(f"start -m {name}", check=False)
    lab.wait_for("the farm is whole", lambda: served_by(nodes, names), 30)
    lab.wait_for("the mirror is whole", lambda: sorted(node.state("a") for node in module.nodes) == [PRIM, SECOND], 30)


def eight(nodes):
    one, two = nodes.nodes
    modules = [one_mirror(nodes, f"m{i}", i) for i in range(1, 9)]
    for module in modules:
        module.stead(one, "prim")
        module.stead(two, "second")
    for module in modules:
        module.wait_ready(one, PRIM, timeout=60)
        module.wait_ready(two, SECOND, timeout=60)
    write_all(modules, "first")
    began = time.monotonic()
    one.power_off()
    lab.wait_for("all eight on node2", lambda: all(at(module) == two for module in modules), 30)
    check(True, f"all eight moved in {time.monotonic() - began:.1f} s")
    write_all(modules, "second")
    mirror.power_on_again(one)
    for module in modules:
        one.stead(f"start -m {module.name}", check=False)
    for module in modules:
        lab.wait_for(f"{module.name} whole", lambda: sorted(node.state(module.name) for node in module.nodes) == [PRIM, SECOND], 60)
    read_all(modules, ["first", "second"])


if __name__ == "__main__":
    case = sys.argv[1]
    with mirror.cluster(nodes=3 if case in ("spare", "farm") else 2) as group:
        {"crossed": crossed, "spare": spare, "farm": farm, "eight": eight}[case](group)
