#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A mirror's life on two nodes: first copy, replication of everything a file system has, stop, start, swap, the data at
their place when stopped, scripts in order, a stop of both that leaves nothing to be sent again, and starts with the long
time-outs of old modules. Usage: test_mirror.py first|life|intent|update|half|room|heart|progress"""
import json
import re
import sys
import time

import mirror
from mirror import ALONE, DATA, HOOKS, MARK, PRIM, SECOND, STOP, WAIT
from support import check, lab

FILES = f"""
set -e; cd {DATA}
echo hello >plain; printf 'x%.0s' $(seq 1 300000) >big; mkdir -p deep/er/est; echo in >deep/er/est/file
ln plain hard; ln -s plain soft; mkfifo fifo; mknod null c 1 3; touch 'with blank' "$(printf 'new\\nline')" "$(printf '\\377bytes')"
chmod 4755 plain; chown 1000:1001 big; touch -d '2001-02-03 04:05:06.789' deep
truncate -s 5G sparse; echo end | dd of=sparse bs=1 seek=4294967296 conv=notrunc status=none
setfattr -n user.color -v blue big; setfacl -m u:1234:r big; mkdir acl; setfacl -d -m g:77:rwx acl; touch acl/inherits
mv deep/er/est/file deep/moved; rm -r deep/er/est; fallocate -p -o 65536 -l 65536 big; truncate -s 290000 big
"""


def first(nodes):
    module = mirror.Mirror(nodes)
    one, two = module.nodes
    one.sh(f"echo before >{DATA}/before; mkdir {DATA}/old; echo more >{DATA}/old/file")
    for node in module.nodes:
        node.stead("start -m data")
    for node in module.nodes:
        module.wait(node, WAIT)
    lab.wait_for("a reason", lambda: "say prim" in one.stead("state -m data", check=False).stdout)
    check(True, "two nodes without data in common wait, and say what to do")
    module.form()
    check(two.sh(f"ls {DATA}", check=False).stdout == "", "the secondary shows nothing at the place")
    check(two.sh(f"echo early >{DATA}/early", check=False).returncode != 0, "an application that starts there fails")
    one.sh(FILES)
    mirror.same_trees(module, "files of every kind")
    one.sh(f"rm -rf {DATA}/*; cp -a /usr/share/doc/bash {DATA}/copy; sync")
    mirror.same_trees(module, "removed and copied")
    module.stop()
    for node in module.nodes:
        check("before" not in node.sh(f"ls {DATA}").stdout and "copy" in node.sh(f"ls {DATA}").stdout,
              f"{node.name}: stopped, the data are at their place")


def life(nodes):
    module = mirror.Mirror(nodes, hooks={name: MARK for name in HOOKS})
    one, two = module.form()
    one.sh(f"echo 1 >{DATA}/a")
    hooks = one.sh("cat /srv/hooks").stdout.splitlines()
    check(hooks[:2] == ["transition STOP WAIT start", "prestart STOP WAIT start"], f"start: {hooks}")
    check("start_prim WAIT ALONE start" in hooks, "start_prim on the way to ALONE")
    two_hooks = two.sh("cat /srv/hooks").stdout.splitlines()
    check([line.split()[0] for line in two_hooks[2:]] == ["transition", "start_both", "start_second", "start_sec"],
          f"WAIT -> SECOND: {two_hooks}")

    def all_hooks():
        for node in module.nodes:
            node.sh(">/srv/hooks")
    all_hooks()
    module.stead(one, "swap")
    module.wait_ready(two, PRIM)
    module.wait_ready(one, SECOND)
    check(two.sh(f"cat {DATA}/a").stdout == "1\n", "swap: the other node serves the data")
    names = [line.split()[0] for line in one.sh("cat /srv/hooks").stdout.splitlines()]
    check(names == ["stop_prim", "stop_prim", "transition", "start_second", "start_sec"], f"PRIM -> SECOND: {names}")
    names = [line.split()[0] for line in two.sh("cat /srv/hooks").stdout.splitlines()]
    check(names == ["stop_sec", "stop_sec", "stop_second", "stop_second", "transition", "start_prim"],
          f"SECOND -> PRIM: {names}")
    refused = module.stead(two, "second", check=False)
    check(refused.returncode == 1 and "the peer is not primary" in refused.stderr and two.state("data") == PRIM,
          f"second on the new primary is refused, though the other one served when they met: {refused.stderr.strip()}")
    check(f"{lab.VIP}/32" in two.sh("ip addr").stdout and f"{lab.VIP}/32" not in one.sh("ip addr").stdout,
          "the virtual address moved")
    module.stead(two, "stop")
    module.wait_ready(one, ALONE)
    one.sh(f"echo 2 >{DATA}/b")
    module.stead(two, "start")
    module.wait_ready(two, SECOND)
    module.wait_ready(one, PRIM)
    mirror.same_trees(module, "a planned stop of the primary, and its return")
    shown = module.stead(one, "mirror status").stdout
    check("PRIM, peer node2" in shown and "p95" in shown, "mirror status is for people, too")
    told = json.loads(one.sh(f"curl -s http://127.0.0.1:9010/api/v1/modules/{module.name}/mirror").stdout)
    check(told.keys() == module.status(one).keys(), "and for programs, by the REST API")
    check("compared" in module.stead(one, "rfsverify", timeout=120).stdout + module.stead(one, "rfsdiff").stdout,
          "rfsverify compares, rfsdiff shows it")
    refused = module.stead(two, "swap", check=False)
    check(refused.returncode == 1 and "primary" in refused.stderr, "swap on the secondary is refused, with the reason")
    refused = module.stead(two, "prim", check=False)
    check(refused.returncode == 1, "prim beside a primary is refused")
    module.stead(one, "restart")
    module.wait_ready(one, PRIM)
    module.stop()
    for node in module.nodes:
        check(node.state("data") == STOP, f"{node.name} is stopped")
    one.sh(f"echo behind >{DATA}/behind")
    module.stead(two, "start")
    module.stead(one, "start")
    lab.wait_for("both in service", lambda: sorted(node.state("data") for node in module.nodes) == [PRIM, SECOND], 30)
    for node in module.nodes:
        module.wait_ready(node, PRIM, SECOND)
    mirror.same_trees(module, "what was changed behind the mount is part of the resync")


def intent(nodes):
    """With an intent log: who stops cleanly had nothing that was only intended."""
    module = mirror.Mirror(nodes, rfs='intent="on"')
    one, two = module.form()
    one.sh(f"cd {DATA}; for i in 1 2 3 4 5 6 7 8; do head -c 6000000 /dev/urandom >f$i; done")
    for turn in range(2):
        one.sh(f"cd {DATA}; for i in 1 2 3 4 5 6 7 8; do echo {turn} | dd of=f$i bs=1 seek=5000000 conv=notrunc status=none; done")
        module.stop()
        for node in (two, one):
            module.stead(node, "start")
        lab.wait_for("both in service", lambda: sorted(node.state("data") for node in module.nodes) == [PRIM, SECOND], 30)
        for node in module.nodes:
            module.wait_ready(node, PRIM, SECOND)
        one, two = sorted(module.nodes, key=lambda node: node.state("data"))
        status = module.status(one)
        check(status["copies"] <= 2 and status["stream"]["bytes_out"] < 1_000_000,
              f"after a stop of both next to nothing is sent: {status['copies']} targets, {status['stream']['bytes_out']} bytes")
        mirror.same_trees(module, "after a stop of both")
    for node in (one, two):  # neither ended cleanly: what was intended is compared, not sent
        node.power_off()
    for node in (two, one):
        mirror.power_on_again(node)
        module.stead(node, "start", check=False)
    lab.wait_for("both in service", lambda: sorted(node.state("data") for node in module.nodes) == [PRIM, SECOND], 40)
    for node in module.nodes:
        module.wait_ready(node, PRIM, SECOND)
    one, two = sorted(module.nodes, key=lambda node: node.state("data"))
    status = module.status(one)
    check(status["stream"]["bytes_out"] < 4_000_000,
          f"after a power loss of both what is equal is not sent: {status['copies']} targets, {status['stream']['bytes_out']} bytes")
    mirror.same_trees(module, "after a power loss of both")


def room(nodes):
    """Too little room for what a resync overwrites: said before, nothing is lost, and it goes on when there is more."""
    module = mirror.Mirror(nodes)
    one, two = module.nodes
    one.sh(f"head -c 12000000 /dev/urandom >{DATA}/big")
    module.stead(one, "prim")
    module.wait_ready(one, ALONE)
    module.stead(two, "second", check=False)
    module.wait_ready(two, SECOND)
    check("old content" not in module.log(two), "an empty node overwrites nothing")
    module.stead(two, "stop")
    two.sh("cd $(dirname $(find /var/lib/stead -name mirror -type d)) && cp -a mirror /run/kept && mount -t tmpfs -o size=4m tmpfs mirror &&"
           " cp -a /run/kept/. mirror/ && chmod 700 mirror")
    one.sh(f"head -c 12000000 /dev/urandom >{DATA}/big")
    module.stead(two, "start", check=False)
    lab.wait_for("what the disk lacks", lambda: "undo log cannot be written" in module.stead(two, "state", check=False).stdout, 20)
    check("up to 12.1 MB, and" in module.log(two), "that it may not suffice is said as the resync begins")
    two.sh("mount -o remount,size=64m $(find /var/lib/stead -name mirror -type d)")
    module.wait_ready(two, SECOND, timeout=60)
    module.wait_ready(one, PRIM)
    mirror.same_trees(module, "with room")


def resources(module, node):
    """By name, as `state -v` shows them of this node."""
    return {one["name"]: one["value"]
            for one in json.loads(module.stead(node, "state -v --json").stdout)["detail"]["resources"]
            if one["name"].startswith("rfs.") and one.get("node", node.name) == node.name}


def progress(nodes):
    """How far a resync is, how fast it goes and how long it takes, on both nodes; how fast changes are replicated."""
    module = mirror.Mirror(nodes, rfs='reiallowedbw="2000"')  # 2 MB/s: about 17 s
    one, two = module.nodes
    module.stead(one, "prim")
    module.wait_ready(one, ALONE)
    one.sh(f"head -c 36000000 /dev/urandom >{DATA}/big; sync")
    module.stead(two, "second")
    for node, what in ((one, r"\d+ % resynced"), (two, r"being resynced, \d+ %, [\d.]+ [kM]B received")):
        text = re.compile(what + r", \d\.\d MB/s, \d+ s left")
        lab.wait_for(f"{node.name}: rate and time left in state -v",
                     lambda: text.search(module.stead(node, "state -v", check=False).stdout), 15)
        lab.wait_for(f"{node.name}: as resources",
                     lambda: 1_000_000 < int(resources(module, node)["rfs.resync_rate"]) < 4_000_000
                     and 0 < int(resources(module, node)["rfs.resync_left"]) < 40, 5)
        status = module.status(node)
        check(1_000_000 < status["resync_rate"] < 4_000_000 and 0 < status["seconds_left"] < 40
              and 0 < status["targets_left"] < status["targets_total"] and status["resync_bytes"] > 0,
              f"{node.name}: as numbers, {status['progress']}")
    check("not uptodate: being resynced" in module.stead(two, "state", check=False).stdout, "the target's state says so")
    module.wait_ready(two, SECOND, timeout=60)
    module.wait_ready(one, PRIM)
    for node, name in ((one, "of the secondary"), (two, "from the primary")):
        log = module.log(node)
        for line in (f"resync {name} begins: \\d+ targets, up to 36.0 MB in files \\(", f"resync {name}: .* s left",
                     f"resync {name} is over: 3[67].\\d MB in \\d+.\\d s, \\d.\\d MB/s"):
            check(len(re.findall(line, log)) in (1, 2), f"{node.name}: the log has '{line}'")
        gone = {"rfs.resync": "no", "rfs.resync_rate": "0", "rfs.resync_left": "0"}
        lab.wait_for(f"{node.name}: nothing of it is left", lambda: gone.items() <= resources(module, node).items(), 5)
    states = module.log(two).count("Local state SECOND Transient")
    check(states <= 3, f"progress is no change of state in the log: {states} lines")
    one.sh(f"(for i in $(seq 400); do echo $i >>{DATA}/small; sleep 0.02; done) >/dev/null 2>&1 &")
    for node in module.nodes:
        def moves(node=node):
            status, shown = module.status(node), resources(module, node)
            return (0 < status["replication"]["latency_us"] < 1_000_000 and status["replication"]["bandwidth"] > 0
                    and int(shown["rfs.latency"]) > 0 and int(shown["rfs.bandwidth"]) > 0)
        lab.wait_for(f"{node.name}: latency and bandwidth of replication", moves, 8)
    idle = {"rfs.latency": "0", "rfs.bandwidth": "0"}
    for node in module.nodes:
        lab.wait_for(f"{node.name}: idle", lambda: idle.items() <= resources(module, node).items(), 30)


def update(nodes):
    """What is dynamic is applied to the running module; what is not is refused, and named."""
    module = mirror.Mirror(nodes, rfs='nbrei="3"')
    one, two = module.form()
    running = one.processes("stead-fs")

    xml = one.disk / "etc" / "modules" / module.name / "conf" / "userconfig.xml"

    def change(before, after):
        xml.write_text(xml.read_text().replace(before, after))
        return module.stead(one, "update", check=False)

    def threads():
        return int(one.sh(f"ls /proc/{running[0]}/task | wc -l").stdout)

    before = threads()
    done = change('nbrei="3"', 'nbrei="16" reidetail="on" reitimeout="100s" reiallowedbw="100000"')
    check(done.returncode == 0, f"nbrei, reidetail, reitimeout, reiallowedbw: {(done.stdout + done.stderr).strip()}")
    lab.wait_for("13 more readers", lambda: threads() == before + 13)
    check(one.processes("stead-fs") == running and one.state("data") == PRIM, "nothing is restarted")
    def latency():
        """Of a write to a file that is open: the least of many, in seconds."""
        return float(one.sh(f"python3 -c \"import os, time; f = os.open('{DATA}/probe', os.O_CREAT | os.O_WRONLY);"
                            "print(min((lambda t: (os.pwrite(f, b'x' * 4096, 0), time.monotonic() - t)[1])(time.monotonic())"
                            " for i in range(50)))\"").stdout)

    done = change('nbrei="16"', 'nbrei="16" async="none" verifyat="* * * * *"')
    check(done.returncode == 0, f"async, verifyat: {(done.stdout + done.stderr).strip()}")
    on_disk = latency()
    done = change('async="none"', 'async="second"')
    in_memory = latency()
    check(on_disk > 1.5 * in_memory, f"async counts at once: {on_disk * 1e6:.0f} us on both disks, {in_memory * 1e6:.0f} us received")
    check(one.processes("stead-fs") == running and [node.state("data") for node in (one, two)] == [PRIM, SECOND],
          "the nodes need not agree in it")
    lab.wait_for("verifyat", lambda: "targets compared, 0 differ" in module.log(one), 70)
    check(resources(module, one)["rfs.verify"] == "equal" and "verifyat" not in module.log(two), "the primary compares")
    unlike = "ack is 'receipt' here and 'apply' on node2"
    check(unlike in module.log(one) and one.stead("get -m data -r settings.same").stdout.strip() == "down",
          "but it is told")
    lab.wait_for("by both", lambda: "ack is 'apply' here and 'receipt' on node1" in module.log(two))
    for name, before, after in (("ack", 'nbrei="16"', 'nbrei="16" ack="disk"'), ("timeout", "<heart ", '<heart timeout="9s" ')):
        refused = change(before, after)
        check(refused.returncode == 73 and name in refused.stderr, f"{name} needs a restart: {refused.stderr.strip()}")
        xml.write_text(xml.read_text().replace(after, before))
    one.sh(f"head -c 3000000 /dev/urandom >{DATA}/big")
    module.stead(two, "stop")
    one.sh(f"head -c 9000000 /dev/urandom >{DATA}/big")
    module.stead(two, "start")
    module.wait_ready(two, SECOND)
    check(module.stead(one, "rfsverify").returncode == 0, "with the new number of readers both are equal")


def half(nodes):
    """The source dies during a resync, also the first one: the other one says what its data are worth, and how to go on."""
    module = mirror.Mirror(nodes, rfs='reiallowedbw="2000"')
    one, two = module.nodes

    def break_off():
        lab.wait_for("a resync", lambda: module.status(two).get("half_resynced") and module.status(two)["resyncing"])
        one.power_off()
        lab.wait_for("the target to wait", lambda: two.state("data") == WAIT and "broke off" in module.stead(
            two, "state", check=False).stdout)
        return module.stead(two, "state", check=False).stdout.strip()

    one.sh(f"head -c 12000000 /dev/urandom >{DATA}/big")
    module.stead(one, "prim")
    module.wait_ready(one, ALONE)
    module.stead(two, "second", check=False)
    said = break_off()
    check("only a part of the data is here: start the other node" in said, f"the first copy broke off: {said}")
    check(module.stead(two, "prim", check=False).returncode == 1, "that cannot be served")
    mirror.power_on_again(one)
    module.stead(one, "start", check=False)
    module.wait_ready(two, SECOND, timeout=60)
    mirror.same_trees(module, "after the first copy")
    old = one.sh(f"sha256sum <{DATA}/big").stdout
    module.stead(two, "stop")
    one.sh(f"head -c 12000000 /dev/urandom >{DATA}/big")
    module.stead(two, "start")
    said = break_off()
    check("half new" in said and "'stead prim' here" in said, f"a resync broke off: {said}")
    module.stead(two, "prim")
    module.wait_ready(two, ALONE)
    check(two.sh(f"sha256sum <{DATA}/big").stdout == old, "prim rolls the data back to what they were")


def heart(nodes):
    """A time-out of 12 s is waited for only where something may act that is not known."""
    module = mirror.Mirror(nodes, heart='pulse="200" timeout="12000"')
    one, two = module.nodes
    at = time.monotonic()

    def passed():
        nonlocal at
        before, at = at, time.monotonic()
        return at - before
    module.form(timeout=60)
    check(passed() < 8, "the first start, and one beside a node where the module is stopped")
    module.stop()
    for node in (two, one):
        module.stead(node, "start")
    for node in module.nodes:
        module.wait_ready(node, PRIM, SECOND, timeout=60)
    check(passed() < 8, "a start of both")
    one, two = sorted(module.nodes, key=lambda node: node.state("data"))
    one.kill("stead-host")
    module.wait_ready(two, ALONE, PRIM, timeout=60)
    module.wait_ready(one, SECOND, timeout=60)
    module.wait_ready(two, PRIM, timeout=60)
    check(passed() < 8, "a host that died, whose lease its steadd has closed")
    one.sh("pkill -KILL steadd; pkill -KILL stead-host", check=False)
    one.steadd.wait()
    one.start_steadd()
    passed()
    module.stead(one, "start", check=False)
    module.wait_ready(one, SECOND, timeout=60)
    check(passed() > 8, "one whose lease nobody closed is waited for")
    module.stop()
    mirror.same_trees(module, "after all starts")


if __name__ == "__main__":
    with mirror.cluster(srv_mib=200 if sys.argv[1] == "update" else 0) as both:  # async is seen where a flush takes time
        {"first": first, "life": life, "intent": intent, "update": update, "half": half, "room": room, "heart": heart,
         "progress": progress}[sys.argv[1]](both)
