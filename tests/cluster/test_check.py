#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`stead cluster check` names what is wrong, in one line each with what to do, and is content with a healthy cluster."""
import json
import sys

import support
from support import check, lab


def run(node):
    done = node.stead("cluster check", check=False)
    return done.returncode, done.stdout + done.stderr


def names(node, *words, code=1, what="", timeout=12):
    """One single WRONG line holds all the words."""
    def seen():
        exit_code, text = run(node)
        names.last = text
        return exit_code == code and any(line.startswith("WRONG") and all(word in line for word in words)
                                         for line in text.splitlines())
    try:
        lab.wait_for(what, seen, timeout)
        check(True, f"{what}: named with {words}")
    except TimeoutError:
        check(False, f"{what}: no line has {words}; got:\n{names.last}")


def content(farm, what):
    def fine():
        results = [run(node) for node in farm.nodes]
        content.last = results
        return all(code == 0 for code, _ in results)
    try:
        lab.wait_for(what, fine, 40)
        check(True, f"{what}: nothing is wrong on all nodes")
    except TimeoutError:
        check(False, f"{what}: " + "\n".join(text for _, text in content.last))


def healthy(farm):
    content(farm, "healthy")
    code, text = run(farm.nodes[0])
    for word in ("UDP 4800 passes both ways with node2", "TCP 4800", "key", "cluster.xml", "clock", "MTU", "kernel", "echo"):
        check(any(line.startswith("ok") and word in line for line in text.splitlines()), f"an ok line about {word}"
              + ("" if word in text else f"; got:\n{text}"))
    data = json.loads(farm.nodes[0].stead("cluster check --json").stdout)
    check(data["wrong"] == 0 and data["findings"] and all(finding["ok"] for finding in data["findings"]),
          "--json tells the same")


def blocked_ports(farm):
    node1, node2 = farm.nodes[:2]
    drop = ("nft add table inet filter; nft add chain inet filter input '{ type filter hook input priority 0; }'; "
            "nft add rule inet filter input ")
    node2.sh(drop + "udp dport 4800 drop")
    names(node1, "UDP 4800", "node2", what="UDP 4800 blocked on node2, seen from node1")
    names(node2, "firewall", "udp dport 4800 drop", "nft insert rule inet filter input", what="on node2 itself: the rule and the lines to add")
    node2.sh("nft delete table inet filter")
    content(farm, "UDP open again")
    node2.sh(drop + "tcp dport 4800 drop")
    names(node1, "TCP 4800", "node2", what="TCP 4800 blocked on node2")
    node2.sh("nft delete table inet filter")
    port = json.loads(node1.stead("module getports -m echo --json").stdout)["ports"][0]["port"]
    node2.sh(drop + f"udp dport {port} drop")
    names(node1, f"UDP {port}", "echo", "node2", what="the module's port blocked on node2")
    node2.sh("nft delete table inet filter")
    content(farm, "ports open again")


def files_and_addresses(farm):
    """What is not in use, not guarded, not everywhere, or somebody else's as well."""
    node1, node2 = farm.nodes[:2]
    key, xml = node2.disk / "etc" / "cluster.key", node2.disk / "etc" / "cluster.xml"
    key.chmod(0o644)
    names(node1, "cluster.key of node2", "chmod 600", what="a key that others can read")
    key.chmod(0o600)
    good = key.read_bytes()
    key.write_bytes(b"\2" * 32)
    names(node1, "cluster.key of node2", "is not the key", what="another key on node2's disk than in use")
    key.write_bytes(good)
    text = xml.read_text()
    xml.write_text(text + "<!-- edited -->\n")
    names(node2, "cluster.xml of node2 was edited", "stead cluster config", what="an edited cluster.xml")
    xml.write_text(text)
    node2.stead("module new alone --template farm -M 9")
    code, seen = run(node1)
    check("module 'alone' is on node2 and not on node1, node3" in seen, "a module on some of the nodes is told")
    node2.stead("module uninstall -m alone")
    farm.client.sh(f"ip addr add {node1.address()}/32 dev eth0")
    names(node1, node1.address(), "another host", what="an address of node1 that the client answers for too")
    farm.client.sh(f"ip addr del {node1.address()}/32 dev eth0")
    content(farm, "everything as it was")


def wrong_key(farm):
    node1, node3 = farm.nodes[0], farm.nodes[2]
    path = node3.disk / "etc" / "cluster.key"
    good = path.read_bytes()
    node3.stead('stop -m echo')
    node3.kill("steadd", "TERM")
    node3.steadd.wait()
    path.write_bytes(b"\1" * 32)
    node3.start_steadd()
    names(node1, "key", "node3", "cluster.key", what="wrong key of node3, seen from node1")
    names(node3, "key", "node1", what="wrong key of node3, seen from node3")
    node3.kill("steadd", "TERM")
    node3.steadd.wait()
    path.write_bytes(good)
    node3.start_steadd()
    farm.start("echo", [node3])
    content(farm, "right key again (old failures are forgotten)")


def configurations(farm):
    node1, node2 = farm.nodes[:2]
    path = node2.disk / "etc" / "cluster.xml"
    good = path.read_text()
    path.write_text(good.replace('<node name="node3"', '<node name="node4" addr="10.42.0.14"/><node name="node3"'))
    node2.stead("cluster config")
    names(node1, "cluster.xml", "node2", "stead cluster config", what="another cluster.xml on node2")
    path.write_text(good)
    node2.stead("cluster config")
    content(farm, "same cluster.xml again")
    node2.stead("stop -m echo")
    xml = node2.disk / "etc" / "modules" / "echo" / "conf" / "userconfig.xml"
    module = xml.read_text()
    xml.write_text(module.replace('<rule port="7000" proto="udp"', '<rule port="7001" proto="udp"'))
    node2.stead("config -m echo")
    names(node1, "echo", "node2", "userconfig.xml", what="another module configuration on node2")
    node2.stead("start -m echo")
    names(node2, "echo", "WAIT", what="it waits, with the reason")
    node2.stead("stop -m echo")
    xml.write_text(module)
    node2.stead("config -m echo")
    farm.start("echo", [node2])
    content(farm, "same module configuration again")


def foreign_programs(farm):
    node1 = farm.nodes[0]
    node1.sh("mkdir -p /tmp/bpf")
    source = ('__attribute__((section("xdp"), used)) int guest_xdp(void *c) { return 2; }\n'
              '__attribute__((section("tc"), used)) int guest_tc(void *c) { return -1; }\n'
              'char _license[] __attribute__((section("license"), used)) = "GPL";\n')
    node1.sh("cat > /tmp/bpf/guest.c <<'EOF'\n" + source + "EOF\n"
             "clang-14 -O2 -g -target bpf -c /tmp/bpf/guest.c -o /tmp/bpf/guest.o")
    node1.sh("ip link set dev eth0 xdpgeneric obj /tmp/bpf/guest.o sec xdp")
    names(node1, "XDP", "guest_xdp", "eth0", "xdp", what="a foreign XDP program")
    node1.sh("ip link set dev eth0 xdpgeneric off")
    node1.sh("tc qdisc add dev eth0 clsact 2>/dev/null; tc filter add dev eth0 ingress prio 1 bpf da obj /tmp/bpf/guest.o sec tc")
    names(node1, "tc", "guest", "eth0", "tc filter del", what="a foreign tc program")
    node1.sh("tc filter del dev eth0 ingress prio 1")
    content(farm, "foreign programs gone")


def mtu(farm):
    node1, node2 = farm.nodes[:2]
    node2.sh("ip link set eth0 mtu 1300")
    names(node1, "MTU", "node2", "1300", what="a smaller MTU on node2")
    node2.sh("ip link set eth0 mtu 1500")
    content(farm, "same MTU again")


def flooding():
    with support.echo_farm(TYPE="vmac_invisible") as farm:
        content(farm, "healthy, invisible")
        for node in farm.nodes:
            lab.sh(f"bridge link set dev {node.port()} flood off mcast_flood on")
        lab.sh(f"bridge link set dev {farm.client.port()} flood off")
        names(farm.nodes[0], "flood", "echo", "vmac_directed", what="a switch that does not flood",
              timeout=45)


def main():
    if sys.argv[1:] == ["invisible"]:
        flooding()
        return
    with support.echo_farm() as farm:
        for one in (healthy, files_and_addresses, blocked_ports, foreign_programs, mtu, configurations, wrong_key):
            one(farm)
    print("all good")


if __name__ == "__main__":
    main()
