#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two nodes and a witness: the node that is cut off waits, the one that reaches the witness serves, and after the cut
both do. A peer that says goodbye is no split brain. With a third node as witness, which does not carry the module, one of
two that cannot hear each other serves, whichever came first."""
import sys

from support import check, echo_farm, lab

WITNESS = "10.42.0.160"  # the client


def resource(node, name):
    return node.stead(f"get -m echo -r {name}", check=False).stdout.strip()


def log(node):
    return node.stead("log -m echo -s 2000").stdout


def configure(farm, element=f'exec="ping" arg="10.42.0.253 {WITNESS}"'):
    check(f"inet {WITNESS}/" in farm.client.sh("ip -4 addr show dev eth0").stdout, "the witness is there")
    carriers = [node for node in farm.nodes if (node.disk / "etc" / "modules" / "echo").exists()]
    for node in carriers:
        path = node.disk / "etc" / "modules" / "echo" / "conf" / "userconfig.xml"
        path.write_text(path.read_text().replace("<user>", (
            f'<check><splitbrain ident="witness" {element}/></check><user>')))
        node.stead("config -m echo")
    farm.start("echo", carriers)
    for node in carriers:
        lab.wait_for(f"{node.name} Ready", lambda: node.ready("echo"), 20)
        check(resource(node, "splitbrain.uptodate") == "up", f"{node.name}: nothing in doubt")


def cut(farm):
    lost, kept = farm.nodes[:2]
    lost.unplug_silently()
    lab.wait_for("the lost node waits", lambda: lost.state("echo") == 1, 15)
    check(resource(lost, "splitbrain.uptodate") == "down" and resource(lost, "splitbrain.witness") == "down",
          "no witness answers the lost node")
    check("splitbrain_failure" in log(lost), "the default rule says why")
    lab.wait_for("the witness answers the other", lambda: resource(kept, "splitbrain.witness") == "up", 15)
    check(kept.ready("echo") and resource(kept, "splitbrain.uptodate") == "up", "the other serves")
    lost.plug_back()
    for node in (lost, kept):
        lab.wait_for(f"{node.name} Ready", lambda: node.ready("echo"), 30)
        lab.wait_for("nothing in doubt", lambda: resource(node, "splitbrain.witness") == "init"
                     and resource(node, "splitbrain.uptodate") == "up", 15)


def goodbye(farm):
    leaving, staying = farm.nodes[:2]
    asked = log(staying).count("isolated")
    leaving.stead("stop -m echo")
    lab.wait_for("a view of one", lambda: "view: node2 (" in staying.stead("state -m echo -v").stdout)
    check(staying.ready("echo") and log(staying).count("isolated") == asked, "a goodbye is no isolation")


# ---- A third node decides

def apart(first, second):
    """They do not hear each other, and both hear the witness."""
    first.deafen(second)
    second.deafen(first)


def together(*nodes):
    for node in nodes:
        node.hear_all()
    for node in nodes:
        lab.wait_for(f"{node.name} Ready", lambda: node.ready("echo"), 30)
        lab.wait_for("nothing in doubt", lambda: resource(node, "splitbrain.uptodate") == "up", 15)


def winner_of(pair):
    """One goes on, the other waits: who."""
    lab.wait_for("a verdict for both", lambda: sorted(resource(node, "splitbrain.uptodate") for node in pair) ==
                 ["down", "up"], 20)
    winner, loser = sorted(pair, key=lambda node: resource(node, "splitbrain.uptodate"), reverse=True)
    lab.wait_for("the other waits", lambda: loser.state("echo") == 1, 15)
    lab.wait_for(f"{winner.name} serves", lambda: winner.ready("echo"), 20)  # it may have waited, too
    check(loser.state("echo") == 1, f"{winner.name} serves, {loser.name} waits")
    return winner, loser


def held(witness):
    """What the witness has on its disk: (counter, index of the node)."""
    counter, holder = (witness.disk / "var" / "witness" / "echo:isolation").read_text().split()
    return int(counter), int(holder)


def arbiter(farm):
    first, second, witness = farm.nodes
    pair = [first, second]
    apart(*pair)
    winner, loser = winner_of(pair)
    counter, holder = held(witness)
    check(farm.nodes[holder] is winner, "the witness has it on its disk")
    check("another node goes on: node3: refused" in log(loser), "the log of the other says why it waits")
    together(*pair)
    witness.kill("steadd")
    apart(*pair)
    for node in pair:
        lab.wait_for(f"{node.name} waits", lambda: node.state("echo") == 1, 20)
        check("no witness answers: node3: no answer" in log(node), "a witness that does not run gives no word")
    witness.start_steadd()
    winner_of(pair)
    check(held(witness)[0] > counter, "asked again by themselves, with the epoch of their last view")
    together(*pair)
    first.unplug_silently()
    lab.wait_for("the node that is cut off waits", lambda: first.state("echo") == 1, 20)
    lab.wait_for("the other has the word", lambda: resource(second, "splitbrain.witness") == "up", 15)
    check(second.ready("echo") and farm.nodes[held(witness)[1]] is second, "and serves")
    first.plug_back()
    together(*pair)


def claims(farm):
    """The interface of mirrors, by hand."""
    first, second, witness = farm.nodes

    def verdict(node, token, counter, holder):
        node.stead(f"set -m echo -r splitbrain.claim -v '{token} {counter} {holder}'")
        return lab.wait_for("the verdict", lambda: (resource(node, "splitbrain.verdict").split() or [""])[0] == str(token)
                            and resource(node, "splitbrain.verdict"))
    check(verdict(first, 11, 5, 0) == "11 granted", "the first to name a counter has it")
    check(verdict(second, 21, 5, 1) == "21 refused", "the other has not")
    check(verdict(first, 12, 5, 0) == "12 granted", "the same holder again: an answer may be lost")
    witness.kill("steadd")
    check(verdict(second, 22, 6, 1) == "22 unanswered", "no word without the witness")
    witness.start_steadd()
    lab.wait_for("asked again", lambda: resource(second, "splitbrain.verdict") == "22 granted", 20)
    check(verdict(first, 13, 5, 0) == "13 refused" and verdict(first, 14, 6, 0) == "14 refused",
          "a counter that is over, after a restart of the witness")
    check("claim 6 of node2 to 'claim' of module 'echo' granted" in (witness.disk / "var" / "log").read_text(),
          "the witness logs what it granted")
    check(first.ready("echo") and second.ready("echo"), "claims of nodes that are not isolated change nothing")


def third_node():
    with echo_farm(start=False) as running:
        running.nodes[2].stead("module uninstall -m echo")
        configure(running, 'exec="cas" arg="node3"')
        claims(running)
        arbiter(running)


if __name__ == "__main__":
    if sys.argv[1:] == ["cas"]:
        third_node()
        sys.exit()
    with echo_farm(start=False) as running:
        configure(running)
        running.nodes[2].stead("stop -m echo")  # two are enough
        cut(running)
        goodbye(running)
