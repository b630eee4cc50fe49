#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Single cases of the farm. usage: test_farm_cases.py arp|flooding|two"""
import contextlib
import json
import pathlib
import shutil
import sys
import tempfile
import time

from support import HERE, PORT, archive_of, check, check_shares, exactly_once, lab, udp, wait_served


@contextlib.contextmanager
def farm_with(rules="", macros=None):
    """The echo farm with more rules in its group."""
    lab.enter()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="stead-case-")) / "echo_farm"
    shutil.copytree(HERE / "echo_farm", folder)
    config = folder / "conf" / "userconfig.xml"
    config.write_text(config.read_text().replace("</cluster>", "</cluster>" + rules).replace('check="off"', 'check="on"'))
    with lab.Lab() as farm:
        farm.form_cluster()
        farm.install("echo", archive_of(folder), macros={"TRAFFIC": lab.traffic_program(), **(macros or {})})
        farm.start("echo")
        wait_served(farm)
        yield farm


def detail(node, module="echo"):
    return json.loads(node.stead(f"state -m {module} -v --json").stdout)["detail"]


def resources(node):
    return {r["name"]: r["value"] for r in detail(node)["resources"] if r["node"] == node.name}


def arp():
    """One receiver per client: the client of a dead receiver is told by the others."""
    with farm_with('<rule proto="arp" filter="on_addr"/>', {"FILTER": "on_port"}) as farm:
        for _ in range(2):
            entry = farm.client.sh(f"ip neigh show {lab.VIP}").stdout
            victim = next(node for node in farm.nodes
                          if json.loads(node.sh("ip -j link show eth0").stdout)[0]["address"] in entry)
            probe = udp(farm, "--flows", 200, "--rate", 500, "--seconds", 60, "--deadline-ms", 300)
            time.sleep(1)
            victim.unplug_silently()
            time.sleep(3)
            probe.send_signal(15)
            seen = lab.result(probe)
            check(seen["outage_ms"] <= 1000, f"the client's receiver {victim.name} died: outage {seen['outage_ms']} ms")
            check(seen["answered_by_two"] == 0, "no datagram was answered by two nodes")
            victim.plug_back()
            wait_served(farm, timeout=40)


def flooding():
    """A switch that does not flood unknown unicast: said as a resource and in the log. Also: ip. and intf. checks."""
    with farm_with(macros={"TYPE": "vmac_invisible"}) as farm:
        node1 = farm.nodes[0]
        lab.wait_for("canaries are heard", lambda: resources(node1).get("farm.flooding") == "up", 20)
        for node in farm.nodes:
            lab.sh(f"bridge link set dev {node.port()} flood off")
        lab.wait_for("farm.flooding=down", lambda: resources(node1).get("farm.flooding") == "down", 30)
        check("does not flood" in node1.stead("log -m echo -s 1000").stdout, "the log says why")
        for node in farm.nodes:
            lab.sh(f"bridge link set dev {node.port()} flood on")
        lab.wait_for("farm.flooding=up", lambda: resources(node1).get("farm.flooding") == "up", 30)
        seen = resources(node1)
        check(seen.get(f"ip.{lab.VIP}") == "up" and seen.get("intf.10.42.0.0") == "up", f"ip. and intf. are up ({seen})")
        node1.link_down()
        lab.wait_for("intf. is down", lambda: resources(node1).get("intf.10.42.0.0") == "down", 10)
        node1.link_up()
        notes = " ".join(detail(node1)["notes"])
        check("packet filter: " in notes and "lease-closed" in notes and "power node1=1" in notes, f"state -v: {notes}")


def two():
    """Two modules, each with its own virtual IP, on one interface."""
    with farm_with() as farm:
        farm.install("other", archive_of(HERE / "echo_farm"), module_id=2,
                     macros={"TRAFFIC": lab.traffic_program(), "VIP": "10.42.0.101", "VIP6": "fd42::101", "POWER1": 2,
                             "TYPE": "vmac_invisible"})
        farm.start("other")

        def ask(address, count=4000):
            return lab.result(farm.traffic("udp", "--target", address, "--port", PORT, "--sources", lab.CLIENTS,
                                           "--flows", 4000, "--rate", 4000, "--count", count))
        lab.wait_for("the second module serves", lambda: ask("10.42.0.101", 200)["unanswered"] == 0, 15)
        for address, powers in ((lab.VIP, (1, 1, 1)), ("10.42.0.101", (2, 1, 1))):
            seen = ask(address)
            exactly_once(seen)
            check_shares(seen, dict(zip(("node1", "node2", "node3"), powers)), tolerance=3)
        farm.nodes[1].stead("stop -m other")
        exactly_once(ask(lab.VIP))
        exactly_once(ask("10.42.0.101"))


{"arp": arp, "flooding": flooding, "two": two}[sys.argv[1]]()
