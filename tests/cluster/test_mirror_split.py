#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Both nodes live, and nothing joins them. Without a witness both serve, each changes the data, and what the loser had written
is given back byte for byte. With a witness two never serve at once; a mirror that is made anew is not held up by what the
witness remembers of the old one. A witness that comes back is asked again, and orders are obeyed whoever is gone.
Usage: test_mirror_split.py lost|ping|cas|orders"""
import sys
import time

import mirror
from mirror import ALONE, DATA, PRIM, SECOND, WAIT
from support import check, lab

COMMON = f"""set -e; cd {DATA}; head -c 3000000 /dev/urandom >big; echo base >text; mkdir d; echo x >d/x; echo gone >removed
echo both >attributes; mkdir old; echo o >old/o"""
LOSER = f"""set -e; cd {DATA}; echo of the loser >text; printf ONE | dd of=big bs=1 seek=70000 conv=notrunc status=none
echo only here >new; mkdir -p tree/deep; echo y >tree/deep/y; ln -s deep tree/link; mv d/x d/z; echo z >>d/z; rm removed
chmod 640 attributes; rm -r old; truncate -s 2500000 big"""
WINNER = f"""set -e; cd {DATA}; echo of the winner >text; printf TWO | dd of=big bs=1 seek=2000000 conv=notrunc status=none
echo also new >new_too; echo more >>d/x"""


def cut(nodes):
    """All networks between the two, both ways; a third node still hears both."""
    one, two = nodes.nodes[:2]
    for lan in nodes.lans:
        one.deafen(two, lan)
        two.deafen(one, lan)


def heal(nodes):
    for node in nodes.nodes[:2]:
        node.hear_all()


def lost(nodes):
    module = mirror.Mirror(nodes)
    one, two = module.form()
    one.sh(COMMON)
    cut(nodes)
    for node in (one, two):
        module.wait_ready(node, ALONE)
        check("Action alone called by heart: no heartbeat" in module.log(node), "the log names the caller")
        check("split" in module.log(node), f"{node.name} is ALONE, and says that a split is possible")
    one.sh(LOSER + "; cp -a . /srv/kept")
    two.sh(WINNER + "; cp -a . /srv/kept")
    heal(nodes)
    module.wait(one, WAIT)
    lab.wait_for("the split is told", lambda: all("split" in module.log(node).split("role alone")[-1] for node in (one, two)))
    module.wait_ready(two, ALONE)
    lab.wait_for("the reason", lambda: "split" in one.stead("state -m data", check=False).stdout)
    check(True, "who took over later serves; the other one says why it waits")
    time.sleep(3)
    check(two.sh(f"cat {DATA}/text").stdout == "of the winner\n" and one.state("data") == WAIT, "and nobody is overwritten")
    module.stead(one, "second")
    module.wait_ready(one, SECOND, timeout=30)
    module.wait_ready(two, PRIM)
    check(two.sh(f"diff -r /srv/kept {DATA}").returncode == 0, "the winner has what it had")
    mirror.same_trees(module, "after the order")
    listed = module.stead(one, "mirror lost list").stdout
    for path in ("big", "text", "new", "tree", "d/z", "attributes"):
        check(f"{DATA}/{path} " in listed, f"{path} is listed as lost")
    check("new_too" not in listed, f"and nothing of the winner's: {listed!r}")
    module.stead(one, "mirror lost export /srv/export")
    for path in ("big", "text", "new", "d/z", "tree/deep/y", "attributes"):
        done = one.sh(f"cmp /srv/kept/{path} /srv/export{DATA}/{path} && stat -c '%a %s %Y' /srv/kept/{path} "
                      f"/srv/export{DATA}/{path} | uniq | wc -l", check=False)
        check(done.returncode == 0 and done.stdout == "1\n", f"{path} comes back byte for byte, with mode and time {done.stdout}")
    check(one.sh(f"readlink /srv/export{DATA}/tree/link").stdout == "deep\n", "links as well")
    refused = module.stead(one, "mirror lost export /srv/export", check=False)
    check(refused.returncode != 0 and "/srv/export" in refused.stderr, "an export overwrites nothing")
    check("split-1: " in listed, f"the split has a name: {listed!r}")
    wrong = module.stead(one, "mirror lost drop split-7", check=False)
    check(wrong.returncode != 0 and "split-7" in wrong.stderr and "split-1" in wrong.stderr, f"no guess: {wrong.stderr}")
    check("split-1" in module.stead(one, "mirror lost list").stdout, "nothing was dropped")
    check("removed for good" in module.stead(one, "mirror lost drop").stdout, "the only one needs no name")
    check(module.stead(one, "mirror lost list").stdout == "nothing was lost in a split\n", "it is gone")
    left = one.sh(f"ls {DATA}_For_SafeKit_Replication /var/lib/stead/modules/data/*/mirror 2>&1 | grep -c lost", check=False)
    check(left.stdout.strip() == "0", "and nothing of it is left on the disk")
    check(one.sh(f"cmp /srv/kept/text /srv/export{DATA}/text").returncode == 0, "what was exported stays")
    check(module.stead(one, "mirror lost drop").stdout == "nothing was lost in a split\n", "again: there is nothing")
    check(module.stead(two, "mirror lost list").stdout == "nothing was lost in a split\n", "the winner lost nothing")


def never_both(module, seconds):
    """Polls both states; the one that serves at the end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        states = [node.state("data") for node in module.nodes]
        if all(state in (ALONE, PRIM) for state in states) and ALONE in states:
            states = [node.state("data") for node in module.nodes]  # one was asked before the other changed
            check(not all(state == ALONE for state in states), f"two serve at once: {states}")
    return [node for node in module.nodes if node.state("data") in (ALONE, PRIM)]


def ping(nodes):
    """The witness is node3's address: a node that is cut off from everybody waits, the other one serves."""
    witness = nodes.nodes[2].address()
    module = mirror.Mirror(nodes, checks=f'<check><splitbrain ident="w" exec="ping" arg="{witness}"/></check>')
    one, two = module.form()
    for lan in nodes.lans:
        one.unplug_silently(lan)
    check(never_both(module, 8) == [two], "the primary is cut off: the other one serves, and never both")
    for lan in nodes.lans:
        one.plug_back(lan)
    module.wait_ready(one, SECOND, timeout=30)
    module.wait_ready(two, PRIM)
    two.sh(f"echo 1 >{DATA}/a")
    for lan in nodes.lans:
        one.unplug_silently(lan)
    check(never_both(module, 8) == [two], "the secondary is cut off: the primary goes on")
    for lan in nodes.lans:
        one.plug_back(lan)
    module.wait_ready(one, SECOND, timeout=30)
    mirror.same_trees(module, "after both cuts")


def cas(nodes):
    module = mirror.Mirror(nodes, checks='<check><splitbrain ident="w" exec="cas" arg="node3"/></check>',
                           service='maxloop="20"')
    module.form()
    for turn in range(2):
        if turn == 1:  # the claim of a primary that gave up is not granted later, in the way of the other one's
            nodes.nodes[2].kill("steadd")
        cut(nodes)
        if turn == 1:
            lab.wait_for("without a word nobody serves", lambda: not any(node.state("data") in (ALONE, PRIM)
                                                                         for node in module.nodes), 20)
            nodes.nodes[2].start_steadd()
        serving = never_both(module, 6)
        check(len(serving) == 1, f"cut {turn}: exactly one serves")
        serving[0].sh(f"echo {turn} >{DATA}/turn")
        heal(nodes)
        lab.wait_for("together again", lambda: sorted(node.state("data") for node in module.nodes) == [PRIM, SECOND], 30)
    mirror.same_trees(module, "after the cuts")
    # Made anew: its epochs begin at 1, the witness remembers higher ones of the old mirror.
    module.stop()
    for node in module.nodes:
        node.stead("module uninstall -m data")
        node.sh(f"rm -rf {DATA}/*")
    fresh = mirror.Mirror(nodes, checks='<check><splitbrain ident="w" exec="cas" arg="node3"/></check>')
    one, two = fresh.form()
    one.power_off()
    fresh.wait_ready(two, ALONE)
    check(True, "a mirror that is made anew takes over: the witness does not mix it up with the old one")


def orders(nodes):
    witness = nodes.nodes[2]
    module = mirror.Mirror(nodes, checks='<check><splitbrain ident="w" exec="cas" arg="node3"/></check>')
    one, two = module.form()
    witness.power_off()
    one.power_off()
    lab.wait_for("no word", lambda: "unanswered" in module.log(two))
    time.sleep(3)
    check(two.state("data") not in (ALONE, PRIM), "primary and witness are gone: no word, no role")
    mirror.power_on_again(witness)
    module.wait_ready(two, ALONE)
    check(True, "the witness is back: it is asked again, and grants")
    mirror.power_on_again(one)
    module.stead(one, "start")
    module.wait_ready(one, SECOND, timeout=30)
    witness.power_off()
    two.power_off()
    lab.wait_for("no word", lambda: "unanswered" in module.log(one))
    told = module.stead(one, "primforce", timeout=15)
    module.wait_ready(one, ALONE)
    check(told.returncode == 0, "with nobody else there, primforce is obeyed at once")
    mirror.power_on_again(witness)
    mirror.power_on_again(two)
    module.stop()
    for node in module.nodes:
        path = node.disk / "etc/modules/data/conf/userconfig.xml"
        path.write_text(path.read_text().replace("<service ", '<service failover="off" '))
        module.stead(node, "config")
    module.stead(one, "prim")
    module.wait_ready(one, ALONE)
    module.stead(two, "second")
    module.wait_ready(two, SECOND, timeout=30)
    one.power_off()
    lab.wait_for("the reason", lambda: "failover is off" in module.stead(two, "state -v").stdout)
    module.stead(two, "prim", timeout=15)
    module.wait_ready(two, ALONE)
    check(True, "failover off: the secondary waits for prim, and obeys it")


if __name__ == "__main__":
    case = sys.argv[1]
    with mirror.cluster(nodes=2 if case == "lost" else 3, lans=("default", "repli")) as group:
        {"lost": lost, "ping": ping, "cas": cas, "orders": orders}[case](group)
