#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Single cases of the farm. usage: test_farm_cases.py arp|flooding|two|tempo|lans|silent|grown|nic|paces"""
import contextlib
import json
import re
import shutil
import sys
import time

from farm_load import nothing_lost
from support import (HERE, PORT, archive_of, check, check_shares, echo_farm, exactly_once, lab, served_by, shares, tcp,
                     udp, wait_served)


@contextlib.contextmanager
def farm_with(rules="", macros=None, lans=("default",)):
    """The echo farm with more rules in its group, and heartbeats on all of `lans`."""
    lab.enter()
    folder = lab.temporary("case") / "echo_farm"
    shutil.copytree(HERE / "echo_farm", folder)
    config = folder / "conf" / "userconfig.xml"
    config.write_text(config.read_text().replace("</cluster>", "</cluster>" + rules)
                      .replace('"CHECK" value="off"', '"CHECK" value="on"')
                      .replace('<lan name="default"/>', "".join(f'<lan name="{lan}"/>' for lan in lans)))
    with lab.Lab(lans=lans) as farm:
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
        lab.wait_for("interface_failure takes it to WAIT", lambda: node1.state("echo") == 1, 20)
        node1.link_up()
        lab.wait_for("UP again", lambda: node1.ready("echo"), 30)
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
            exactly_once(seen, farm)
            check_shares(seen, dict(zip(("node1", "node2", "node3"), powers)), tolerance=3)
        farm.nodes[1].stead("stop -m other")
        exactly_once(ask(lab.VIP), farm)
        exactly_once(ask("10.42.0.101"), farm)


def tempo():
    """slowstart: a joiner's share grows. movecap: a transition ends although connections are open."""
    with echo_farm(TYPE="vmac_invisible", SLOWSTART="5s", MOVECAP="3s", DRAIN="0s") as farm:
        node1, node2, node3 = farm.nodes

        def share():
            seen = lab.result(udp(farm, "--flows", 2000, "--rate", 5000, "--count", 2000))
            exactly_once(seen, farm)
            return shares(seen).get("node3", 0)
        lab.wait_for("all shares have grown", lambda: 31 < share() < 36, 20)
        node3.stead("stop -m echo")
        node3.stead("start -m echo")
        grown = [lab.wait_for("node3 serves", share, 20)]
        check(grown[0] < 25, f"node3 begins small ({grown[0]} %)")
        lab.wait_for("its whole share", lambda: grown.append(share()) or grown[-1] > 31, 20)
        check(any(grown[0] + 3 < step < 28 for step in grown), f"and grows in steps ({grown})")

        held = tcp(farm, "--rate", 0, "--hold", 300, "--seconds", 60, "--held-interval-ms", 200)
        time.sleep(2)
        node1.stead("power -m echo node2 9")
        holding = "still held by earlier owners"
        lab.wait_for("the transition", lambda: holding in node1.stead("state -m echo -v").stdout, 5)
        begin = time.monotonic()
        lab.wait_for("its end", lambda: all(holding not in node.stead("state -m echo -v").stdout for node in farm.nodes), 15)
        check(time.monotonic() - begin < 8, f"movecap=3s ended the transition after {time.monotonic() - begin:.1f} s")
        time.sleep(1)
        held.send_signal(15)
        seen = lab.result(held)
        check(seen["held_broken"] > 0, f"connections that outlived it were reset, not left hanging ({seen['broken_by']})")


def lans():
    """One of two LANs goes down: without the virtual IP's nothing is served there, without the other nothing is lost."""
    with farm_with(lans=("default", "repli")) as farm:
        node3 = farm.nodes[2]

        def cut(lan, wait):
            held = tcp(farm, "--rate", 200, "--hold", 200, "--seconds", 60, "--deadline-ms", 900)
            probe = udp(farm, "--flows", 200, "--rate", 500, "--seconds", 60, "--deadline-ms", 300)
            time.sleep(1.5)
            node3.link_down(lan)
            wait()
            time.sleep(1)
            held.send_signal(15)
            probe.send_signal(15)
            return lab.result(held), lab.result(probe)

        def members():
            return all("view: node1 node2 node3 (" in node.stead("state -m echo -v").stdout for node in farm.nodes)
        seen, datagrams = cut("repli", lambda: time.sleep(1))
        nothing_lost("the heartbeats' second LAN is down", seen, datagrams)
        node3.link_up("repli")
        seen, datagrams = cut("default", lambda: lab.wait_for(
            "node3 gives its share away", lambda: " node3=0" in farm.nodes[0].stead("state -m echo -v").stdout, 10))
        check(members(), "node3 is still a member, by the other LAN")
        broken = {name: count for name, count in seen["broken_by"].items() if name != "node3"}
        check(not broken, f"no connection of the others broke ({seen['broken_by']})")
        check(datagrams["outage_ms"] <= 500 and datagrams["answered_by_two"] == 0, f"outage {datagrams['outage_ms']} ms")
        check(lab.result(udp(farm, "--flows", 500, "--rate", 2000, "--count", 1000))["names"].keys() == {"node1", "node2"},
              "node1 and node2 serve all")
        node3.link_up("default")
        wait_served(farm)


def silent():
    """A node's port on the virtual IP's network is pulled: its carrier stays up, and the others hear it on the other LAN."""
    with farm_with(lans=("default", "repli"), macros={"TYPE": "vmac_directed"}) as farm:
        node1, node2, node3 = farm.nodes

        def pull(node, others, limit_ms):
            probe = udp(farm, "--flows", 200, "--rate", 500, "--seconds", 60, "--deadline-ms", 300)
            time.sleep(1.5)
            node.unplug_silently()
            lab.wait_for("the others serve all", lambda: served_by(farm, {one.name for one in others}), 10)
            probe.send_signal(15)
            seen = lab.result(probe)
            check(seen["outage_ms"] <= limit_ms and seen["answered_by_two"] == 0,
                  f"{node.name} is pulled: outage {seen['outage_ms']} ms")
            node.plug_back()
            wait_served(farm, [node.name, *(one.name for one in others)], timeout=30)
        for node in farm.nodes:  # one of them receives for all
            pull(node, [one for one in farm.nodes if one != node], 700)
        node3.stead("stop -m echo")
        wait_served(farm, ["node1", "node2"])
        for node, other in ((node1, node2), (node2, node1)):
            pull(node, [other], 4000)


def grown():
    """A node is added to cluster.xml while the farm runs, and the nodes are restarted one after the other: those that do
    not hear the old ones wait, nothing is answered twice, and all serve once the last one has stopped."""
    lab.enter()
    folder = lab.temporary("case") / "echo_farm"
    shutil.copytree(HERE / "echo_farm", folder)
    config = folder / "conf" / "userconfig.xml"
    config.write_text(re.sub("<cluster>.*</cluster>", "", config.read_text(), flags=re.DOTALL))
    archive, macros = archive_of(folder), {"TRAFFIC": lab.traffic_program(), "TYPE": "vmac_invisible"}
    with lab.Lab(nodes=3) as farm:
        larger, everyone = farm.cluster_xml(), farm.nodes
        node1, node2, node3 = everyone
        farm.nodes = [node1, node2]
        farm.form_cluster()
        farm.install("echo", archive, macros=macros)
        farm.start("echo")
        wait_served(farm)
        for node in farm.nodes:
            (node.disk / "etc" / "cluster.xml").write_text(larger)
            check("on every node" in node.stead("cluster config").stdout, "cluster config says what running modules need")
        for name in ("cluster.xml", "cluster.key"):
            shutil.copy(node1.disk / "etc" / name, node3.disk / "etc" / name)
        node3.start_steadd()
        farm.nodes = [node3]
        farm.install("echo", archive, macros=macros)
        farm.nodes = everyone
        probe = udp(farm, "--flows", 200, "--rate", 500, "--seconds", 60, "--deadline-ms", 300)

        def waits(node):
            return "address_taken" in node.stead("state -m echo").stdout
        node3.stead("start -m echo")
        lab.wait_for("node3 waits", lambda: waits(node3), 10)
        node1.stead("stopstart -m echo")
        lab.wait_for("node1 waits too", lambda: waits(node1), 20)
        check(node2.ready("echo"), "node2 serves")
        node2.stead("stopstart -m echo")
        for node in everyone:
            lab.wait_for(f"{node.name} serves", lambda node=node: node.ready("echo"), 20)
        wait_served(farm)
        probe.send_signal(15)
        seen = lab.result(probe)
        check(seen["answered_more"] == 0, "nothing was answered twice")
        check(seen["outage_ms"] < 6000, f"outage {seen['outage_ms']} ms: the last one's stop, and the others' start")


def paces():
    """A node with another timing of its own stays out, and says with whom it differs: its lease would outlast the others'
    takeover."""
    with farm_with() as farm:
        node3 = farm.nodes[2]
        path = node3.disk / "etc" / "modules" / "echo" / "conf" / "userconfig.xml"
        good = path.read_text()
        node3.stead("stop -m echo")
        for other in (good.replace('name="PROFILE" value="default"', 'name="PROFILE" value="safe"'),
                      good.replace("<farm ", '<farm pulse="100ms" slost_count="8" ')):
            path.write_text(other)
            node3.stead("config -m echo")
            node3.stead("start -m echo", check=False)
            lab.wait_for("node3 says why it waits", lambda: "its configuration differs from that of node" in
                         node3.stead("state -m echo -v").stdout, 20)
            wait_served(farm, ["node1", "node2"])
            node3.stead("stop -m echo")
        path.write_text(good)
        node3.stead("config -m echo")
        node3.stead("start -m echo")
        wait_served(farm)


def nic():
    """The interface is taken out of a running node, addresses and all, and put in again: the node comes back by itself.
    Until then it can be stopped."""
    with farm_with(macros={"DRAIN": "0s"}) as farm:
        node3 = farm.nodes[2]

        def take_out():
            lab.sh(f"ip link del {node3.port()}")
            lab.wait_for("the start fails, and is to be tried again",
                         lambda: "could not start" in node3.stead("state -m echo").stdout and node3.state("echo") == 1, 20)
        probe = udp(farm, "--flows", 200, "--rate", 500, "--seconds", 60, "--deadline-ms", 300)
        take_out()
        check(node3.stead("waitstart -m echo -t 1", check=False).returncode == 75, "waitstart waits")
        check(node3.stead("waitstop -m echo -t 1", check=False).returncode == 75, "it is not stopped")
        node3.plug_in("default")
        lab.wait_for("node3 serves again", lambda: node3.ready("echo"), 40)
        wait_served(farm)
        probe.send_signal(15)
        seen = lab.result(probe)
        check(seen["outage_ms"] < 1000 and seen["answered_more"] == 0, f"outage {seen['outage_ms']} ms, nothing twice")
        node3.stead("resetloop -m echo")  # a rule and the farm each asked once, and would again: more than maxloop
        take_out()
        check("is stopped" in node3.stead("stop -m echo").stdout and node3.state("echo") == 0, "a stop ends the attempts")
        node3.plug_in("default")
        time.sleep(5)
        check(node3.state("echo") == 0, "and it stays stopped")


{"arp": arp, "flooding": flooding, "two": two, "tempo": tempo, "lans": lans, "silent": silent, "grown": grown, "nic": nic, "paces": paces}[sys.argv[1]]()
