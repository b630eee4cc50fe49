#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the configuration can choose: acknowledgement by commit, the network of the replication (and that one alone cut),
ACLs, connections that are reset when the address goes. Usage: test_mirror_modes.py commit|flow|acl|tcpreset"""
import struct
import sys
import time

import mirror
from mirror import ALONE, DATA, PRIM, SECOND, WAIT, lab
from support import check

WRITER = f"""python3 -c "
import os
f = os.open('{DATA}/journal', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
n = 0
while True:
    n += 1
    os.write(f, b'%08d\\n' % n)
    if n % 10 == 0:
        os.fdatasync(f)
        with open('/run/synced.new', 'w') as note:
            note.write(str(n))
        os.replace('/run/synced.new', '/run/synced')
" >/dev/null 2>&1 &"""


PACED = f"""python3 -c "
import time
longest, end = 0, time.monotonic() + 6
while time.monotonic() < end:
    began = time.monotonic()
    with open('{DATA}/count', 'w') as file:
        file.write(str(began))
    longest = max(longest, time.monotonic() - began)
    time.sleep(0.005)
with open('/run/done', 'w') as file:
    file.write(str(longest))
" >/dev/null 2>&1 &"""


def commit(nodes):
    """What was synced survives its primary; what was only written may be lost, and then on both sides."""
    module = mirror.Mirror(nodes, rfs='ack="commit"')
    one, two = module.form()
    for turn in range(3):
        one.sh("rm -f /run/synced; " + WRITER)
        lab.wait_for("the writer", lambda: one.sh("test -e /run/synced", check=False).returncode == 0)
        time.sleep(1)
        synced = int(one.sh("cat /run/synced").stdout)
        one.kill("stead-fs") if turn == 0 else one.power_off()
        module.wait_ready(two, ALONE, PRIM, timeout=30)
        there = two.sh(f"tail -n 1 {DATA}/journal").stdout.strip()
        check(int(there) >= synced, f"turn {turn}: {synced} were synced, {there} are there")
        if turn > 0:
            mirror.power_on_again(one)
            module.stead(one, "start", check=False)
        module.wait_ready(one, SECOND, timeout=60)
        module.wait_ready(two, PRIM)
        mirror.same_trees(module, f"turn {turn}")
        two.sh(f"rm {DATA}/journal")
        one, two = two, one


def cut_and_mend(module, what, cut, mend):
    one, two = module.nodes
    one.sh(PACED)
    time.sleep(0.5)
    cut()
    module.wait_ready(one, ALONE, timeout=30)
    module.wait(two, WAIT)
    one.sh(f"echo '{what}' >{DATA}/alone")
    lab.wait_for("the writer", lambda: one.sh("test -s /run/done", check=False).returncode == 0)
    stall = float(one.sh("cat /run/done").stdout)
    check(0.2 < stall < 5, f"{what}: writers waited {stall:.1f} s (the heartbeat's 2 s, not slow_peer's 10)")
    check("Action wait called by the primary goes on alone" in module.log(two), f"{what}: the secondary's log says why it waits")
    check(two.state(module.name) == WAIT, f"{what}: the secondary is outdated and waits, whoever it hears")
    mend()
    module.wait_ready(two, SECOND, timeout=40)
    module.wait_ready(one, PRIM)
    mirror.same_trees(module, what)
    one.sh("rm /run/done")


def flow(nodes):
    """Only the network of the replication is cut, in all ways a network is: the heartbeats say who goes on."""
    one, two = nodes.nodes[:2]
    module = mirror.Mirror(nodes, xml=mirror.mirror_xml().replace(
        "<heart />", '<heart><heartbeat name="default"/><heartbeat name="repli" ident="flow"/></heart>'))
    module.form()
    cut_and_mend(module, "link down", lambda: one.link_down("repli"), lambda: one.link_up("repli"))
    cut_and_mend(module, "the secondary deaf", lambda: two.deafen(one, "repli"), two.hear_all)
    cut_and_mend(module, "the primary deaf", lambda: one.deafen(two, "repli"), one.hear_all)
    one.unplug_silently("repli")
    module.wait(two, WAIT)
    check(module.stead(two, "prim", check=False).returncode == 1, "an outdated node does not obey prim")
    one.plug_back("repli")
    module.wait_ready(two, SECOND, timeout=40)
    module.stop()
    for node in module.nodes:
        node.stead("module uninstall -m data")
    module = mirror.Mirror(nodes, name="plain", module_id=2)  # all networks, the first one carries the replication
    for node in module.nodes:
        node.sh(f"rm -rf {DATA}/*")
    module.form()
    cut_and_mend(module, "without <heartbeat>", lambda: one.unplug_silently("default"), lambda: one.plug_back("default"))


def acl_of(*entries):
    """tag, permissions, id, as the kernel keeps them."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def acl(nodes):
    """ACLs reach the other node; with acl="off" they are refused, as on a file system without."""
    none = 0xFFFFFFFF
    given = acl_of((0x01, 6, none), (0x02, 4, 1234), (0x04, 4, none), (0x10, 4, none), (0x20, 0, none))
    command = (f"python3 -c \"import os; open('{DATA}/file', 'w').close();"
               f" os.setxattr('{DATA}/file', 'system.posix_acl_access', bytes.fromhex('{given.hex()}'))\"")
    module = mirror.Mirror(nodes)
    one, two = module.form()
    one.sh(command)
    module.stop()
    mirror.same_trees(module, "an ACL")
    seen = two.sh(f"python3 -c \"import os; print(os.getxattr('{DATA}/file', 'system.posix_acl_access').hex())\"").stdout.strip()
    check(seen == given.hex(), "it is on the other node")
    for node in module.nodes:
        node.stead("module uninstall -m data")
    module = mirror.Mirror(nodes, rfs='acl="off"', name="noacl", module_id=2)
    for node in module.nodes:
        node.sh(f"rm {DATA}/file", check=False)
    one, two = module.form()
    refused = one.sh(command, check=False)
    check(refused.returncode != 0 and "Errno 95" in refused.stderr, f"acl off: {refused.stderr.strip().splitlines()[-1:]}")


def tcpreset(nodes):
    """A connection to the address ends when the address goes: its client need not wait for a time-out."""
    for turn, (word, ended) in enumerate((("on", True), ("off", False))):
        module = mirror.Mirror(nodes, name=f"m{turn}", module_id=turn + 1,
                               xml=mirror.mirror_xml().replace("<vip>", f'<vip tcpreset="{word}">'))
        one, two = module.form()
        one.sh("python3 -c \"import socket, time\n"
               "s = socket.create_server(('0.0.0.0', 7000)); c = s.accept()[0]; open('/run/accepted', 'w'); time.sleep(60)\""
               " >/dev/null 2>&1 & sleep 0.5")
        client = module.cluster.client
        client.sh(f"rm -f /run/end; (python3 -c \"import socket\nc = socket.create_connection(('{lab.VIP}', 7000))\n"
                  "try:\n    c.recv(1); end = 'closed'\nexcept ConnectionResetError:\n    end = 'reset'\n"
                  "open('/run/end', 'w').write(end)\" >/dev/null 2>&1 &)")
        lab.wait_for("a connection", lambda: one.sh("test -e /run/accepted", check=False).returncode == 0)
        module.stead(one, "swap")
        module.wait_ready(two, PRIM)
        if ended:
            lab.wait_for("the end", lambda: client.sh("cat /run/end", check=False).stdout == "reset", 5)
            check("connections reset: 1" in module.log(one), "the log says so")
        else:
            check("connections reset" not in module.log(one), "tcpreset off: nothing is reset")
        one.sh("pkill -f '[c]reate_server'; rm /run/accepted")
        module.stop()
        for node in module.nodes:
            node.stead(f"module uninstall -m {module.name}")


if __name__ == "__main__":
    case = sys.argv[1]
    with mirror.cluster(lans=("default", "repli") if case == "flow" else ("default",)) as both:
        {"commit": commit, "flow": flow, "acl": acl, "tcpreset": tcpreset}[case](both)
