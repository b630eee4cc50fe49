#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The cluster key is renewed under traffic: nothing is lost, and who joins later, or was down, is told what to do."""
import support
from support import check, lab


def key_of(node):
    return (node.disk / "etc" / "cluster.key").read_bytes()


def views(node):
    import json
    return json.loads(node.stead("state -v -m echo --json").stdout)["detail"]["view"]["epoch"]


def rotate_under_traffic(farm):
    old, epochs = key_of(farm.nodes[0]), [views(node) for node in farm.nodes]
    load = support.udp(farm, "--flows", 500, "--rate", 1000, "--count", 5000)
    farm.nodes[0].stead("cluster genkey --rotate")
    support.exactly_once(lab.result(load))
    keys = {key_of(node) for node in farm.nodes}
    check(len(keys) == 1 and old not in keys, "all nodes have the same new key")
    check(not any((node.disk / "etc" / "cluster.key.next").exists() for node in farm.nodes), "the old one is forgotten")
    check([views(node) for node in farm.nodes] == epochs, "no view changed")
    check(farm.nodes[1].stead('level -H "*"', check=False).returncode == 0, "-H works with the new key")


def restart_with_new_key(farm):
    node = farm.nodes[2]
    node.kill("stead-host")
    lab.wait_for("a new stead-host joins", lambda: node.ready("echo"), 20)
    support.wait_served(farm)
    check(True, "a host started after the rotation joins those that were there before")


def stopped_half_way(farm):
    node1, _, node3 = farm.nodes
    node3.kill("steadd")
    node3.steadd.wait()
    before = key_of(node1)
    done = node1.stead("cluster genkey --rotate", check=False)
    check(done.returncode == 79 and "node3" in done.stderr, "a node that is down stops the rotation, and is named")
    check(key_of(node1) == before, "and the key in use stays")
    node3.start_steadd()
    lab.wait_for("node3 is back", lambda: node1.stead("level -H node3", check=False).returncode == 0)
    node1.stead("cluster genkey --rotate")
    check(len({key_of(node) for node in farm.nodes}) == 1 and key_of(node1) != before, "given again, it finishes")
    support.wait_served(farm)


def newcomer(farm):
    """node3 is replaced by a new machine: an empty disk with today's key."""
    node1, _, node3 = farm.nodes
    node3.stead("stop -m echo")
    node3.kill("steadd", "TERM")
    node3.steadd.wait()
    node3.sh("rm -rf /var/lib/stead/* /run/stead")
    node3.start_steadd()
    lab.wait_for("the seed comes from a peer", lambda: (node3.disk / "var/cluster/seed").read_bytes() ==
                 (node1.disk / "var/cluster/seed").read_bytes())
    node3.sh("rm -rf /etc/stead/modules")
    archive = support.archive_of(support.HERE / "echo_farm")
    node3.stead(f"module install -m echo -M 1 {archive}")
    path = node3.disk / "etc" / "modules" / "echo" / "conf" / "userconfig.xml"
    path.write_text(lab.replace_macro(path.read_text(), "TRAFFIC", lab.traffic_program()))
    node3.stead("config -m echo")
    farm.start("echo", [node3])
    support.wait_served(farm)
    check(True, "a machine added after a rotation serves its share")


def main():
    with support.echo_farm() as farm:
        for one in (rotate_under_traffic, restart_with_new_key, stopped_half_way, newcomer):
            one(farm)
    print("all good")


if __name__ == "__main__":
    main()
