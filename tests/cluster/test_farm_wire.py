#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The farm's filter on real frames. usage: test_farm_wire.py guards|ndp directed|invisible, or cookies|tcx|harm"""
import datetime
import json
import re
import signal
import sys
import time

from farm_load import SIX, load, nothing_lost
from frames import Capture
from support import check, echo_farm, exactly_once, lab, udp, wait_served

VMAC = "5a:fe:0a:2a:00:64"
OTHER_CLIENT, OTHER_CLIENT6 = "10.42.100.77", "fd42::c:77"


def own_mac(host):
    return json.loads(host.sh("ip -j link show eth0").stdout)[0]["address"]


def ask6(farm, *more):
    return farm.traffic("udp", *SIX, *more)


def guards(mode):
    """What the kernel would say with the VIP as sender leaves with the node's own address; nothing comes from the vMAC."""
    with echo_farm(TYPE=f"vmac_{mode}") as farm:
        node = farm.nodes[1]
        node.sh("sysctl -qw net.ipv4.conf.all.arp_announce=0 net.ipv4.conf.eth0.arp_announce=0")  # the kernel's own way
        with Capture(node) as seen:
            node.sh("ip neigh flush all; ip -6 neigh flush all", check=False)
            node.sh(f"ping -c 2 -W 1 -I {lab.VIP} {OTHER_CLIENT}", check=False)
            node.sh(f"ping -6 -c 2 -W 1 -I {lab.VIP6} {OTHER_CLIENT6}", check=False)
            exactly_once(lab.result(udp(farm, "--flows", 500, "--rate", 2000, "--count", 2000)))
            exactly_once(lab.result(ask6(farm, "--flows", 500, "--rate", 2000, "--count", 2000)))
        check(VMAC not in seen.sources(), f"{len(seen.frames)} frames left, none from the virtual MAC ({seen.sources()})")
        asked = [sender for sender, target in seen.arp_requests() if target == OTHER_CLIENT]
        check(asked and set(asked) == {node.address()}, f"ARP for the client says the node's own address ({asked})")
        asked = [source for source, target in seen.solicitations() if target == OTHER_CLIENT6]
        check(asked and lab.VIP6 not in asked, f"solicitations for the client never come from the VIP ({asked})")
        known = node.sh(f"ip -6 neigh show {OTHER_CLIENT6}").stdout
        check(own_mac(farm.client) in known, f"and were understood, checksum and all ({known.strip()})")


def ndp(mode):
    """The IPv6 address on the wire: who says where it is, and what a client loses when that node dies."""
    with echo_farm(TYPE=f"vmac_{mode}") as farm:
        def entry():
            found = re.search(r"lladdr (\S+)", farm.client.sh(f"ip -6 neigh show {lab.VIP6}").stdout)
            return found.group(1) if found else ""
        for _ in range(2):
            farm.client.sh("ip -6 neigh flush all", check=False)
            exactly_once(lab.result(ask6(farm, "--flows", 300, "--rate", 1500, "--count", 1500)))
        late = farm.nodes[1]
        late.stead("stop -m echo")
        late.sh("sysctl -qw net.ipv6.conf.eth0.accept_dad=1 && ip addr add fd42::abcd/64 dev eth0")
        farm.start("echo", [late])
        check("tentative" not in late.sh("ip -6 addr show dev eth0").stdout,
              "serves once its kernel may use the node's own addresses, to ask for a client's MAC")
        macs = {own_mac(node): node for node in farm.nodes}
        if mode == "invisible":
            check(entry() == VMAC, f"the client was told the virtual MAC ({entry()})")
        else:
            check(entry() in macs, f"the client was told a node's MAC ({entry()})")
        victim = macs.get(entry(), farm.nodes[0])
        probe = ask6(farm, "--flows", 200, "--rate", 500, "--seconds", 60, "--deadline-ms", 300)
        time.sleep(1)
        victim.unplug_silently()
        time.sleep(3)
        probe.send_signal(signal.SIGTERM)
        seen = lab.result(probe)
        check(seen["outage_ms"] <= 1000 and seen["answered_by_two"] == 0, f"{victim.name} died: {seen}")
        check(entry() != own_mac(victim), f"the client was told of the next one ({entry()})")


def cookies():
    """SYN cookies everywhere (net.ipv4.tcp_syncookies=2): the final ACK finds no socket, also while buckets move."""
    with echo_farm(TYPE="vmac_invisible") as farm:
        for node in farm.nodes:
            node.sh("sysctl -qw net.ipv4.tcp_syncookies=2")

        def move():
            for power in (4, 1, 3, "default"):
                farm.nodes[0].stead(f"power -m echo node2 {power}")
                time.sleep(0.5)
        nothing_lost("moves with SYN cookies", *load(farm, move, hold=200, rate=300))
        nothing_lost("moves with SYN cookies, IPv6", *load(farm, move, hold=200, rate=300, six=True))
        used = [int(re.search(r"SyncookiesRecv\s+(\d+)", node.sh("nstat -az TcpExtSyncookiesRecv").stdout).group(1))
                for node in farm.nodes]
        check(sum(used) > 500, f"connections that were accepted by their cookie: {used}")


def tcx():
    """A foreign tcx program would decide before the farm's: refused by name, and told of when it comes later."""
    with echo_farm(start=False) as farm:
        node = farm.nodes[0]

        def guest():
            process = node.spawn([sys.executable, str(lab.ROOT / "tests/support/tcx_guest.py"), "eth0"],
                                 own_pids=False, stdout=-1, stderr=-1)
            said = process.stdout.readline()
            if "attached" not in said:
                print(f"SKIPPED: this kernel has no tcx: {process.communicate()[1]}")
                sys.exit(77)
            return process
        before = guest()
        done = node.stead("start -m echo", check=False)
        said = (done.stdout + done.stderr).strip()
        check(done.returncode != 0 and all(word in said for word in ("guest_tcx", "eth0", "detach it")),
              f"refused: {said}")
        before.kill()
        before.wait()
        node.stead("stop -m echo", check=False)
        farm.start("echo")
        wait_served(farm)
        later = guest()
        lab.wait_for("the alarm", lambda: "was put before us on eth0" in node.stead("log -m echo -s 200").stdout)
        later.kill()
        later.wait()
        wait_served(farm)


def address_comes_back(node):
    """By the kernel's own stamps: gone, and there again within 200 ms."""
    for address, length in ((lab.VIP, 32), (lab.VIP6, 128)):
        events = node.disk / "events"
        with events.open("w") as out:
            monitor = node.spawn(["ip", "-o", "-ts", "monitor", "address", "dev", "eth0"], own_pids=False, stdout=out)
        time.sleep(0.5)  # until it listens
        node.sh(f"ip addr del {address}/{length} dev eth0")
        lab.wait_for("both events", lambda: events.read_text().count(f"{address}/{length}") >= 2, 5)
        monitor.kill()
        monitor.wait()
        lines = [line for line in events.read_text().splitlines() if f"{address}/{length}" in line]
        gone, back = (datetime.datetime.fromisoformat(re.search(r"\[(\S+)\]", line).group(1)) for line in lines[:2])
        check("Deleted" in lines[0] and "Deleted" not in lines[1] and back - gone <= datetime.timedelta(milliseconds=200),
              f"{address} was put back {(back - gone).total_seconds() * 1000:.1f} ms after somebody removed it")


def harm():
    """Somebody takes the filter or the addresses away: back in place at once, with a line in the log and no restart."""
    with echo_farm(TYPE="vmac_invisible") as farm:
        node = farm.nodes[1]
        host = node.processes("stead-host")
        address_comes_back(node)
        for what, back in (("tc qdisc del dev eth0 clsact", "tc filter show dev eth0 ingress | grep stead_ingress"),
                           ("ip link set dev eth0 xdp off", "ip link show dev eth0 | grep prog/xdp")):
            lines = len(node.stead("log -m echo -s 10000").stdout.splitlines())
            begin = time.monotonic()
            node.sh(what)
            lab.wait_for(f"the filter after '{what}'", lambda: node.sh(back, check=False).returncode == 0, 5)
            took = time.monotonic() - begin
            lab.wait_for("the log line", lambda: any(
                "was taken away; put back" in line
                for line in node.stead("log -m echo -s 10000").stdout.splitlines()[lines:]), 5)
            print(f"ok: '{what}': back after {1000 * took:.0f} ms (two programs run included)")
            exactly_once(lab.result(udp(farm, "--flows", 1000, "--rate", 3000, "--count", 3000)))
        guest = ('__attribute__((section("xdp"), used)) int guest_xdp(void *c) { return 2; }\n'
                 'char _license[] __attribute__((section("license"), used)) = "GPL";\n')
        (node.disk / "guest.c").write_text(guest)
        node.sh(f"clang-14 -O2 -g -target bpf -c {node.disk}/guest.c -o {node.disk}/guest.o")
        node.sh(f"ip -force link set dev eth0 xdpdrv obj {node.disk}/guest.o sec xdp")
        lab.wait_for("the loss of XDP in state -v",
                     lambda: "slot taken by 'guest_xdp'" in node.stead("state -m echo -v").stdout, 5)
        exactly_once(lab.result(udp(farm, "--flows", 1000, "--rate", 3000, "--count", 3000)))
        check(node.processes("stead-host") == host and node.ready("echo"), "the module never restarted")


case, *arguments = sys.argv[1:]
{"guards": guards, "ndp": ndp, "cookies": cookies, "tcx": tcx, "harm": harm}[case](*arguments)
