#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mode mirror in the host: every row of the classic table of scripts, with its arguments, by the roles that a service
gives (the plugin roles/, which plays a mirror without data); generated checkers, rules, loop guard, commands, death of
the peer's host, boot. Two nodes."""
import json
import os
import shutil
import sys

from support import check, lab
from light import Module

STOP, WAIT, ALONE, PRIM, SECOND = 0, 1, 2, 3, 4
VIP = "10.42.0.100"
SCRIPTS = ("prestart", "poststop", "transition", "start_both", "start_prim", "start_second", "start_sec", "stop_both",
           "stop_prim", "stop_second", "stop_sec")
HOOKS = {name: f'#!/bin/sh\necho "{name} $*" >> "$SAFEUSERVAR/trace"\n'
               f'[ ! -e "$SAFEUSERVAR/fail.{name}" ] || exit 3\n' for name in SCRIPTS}
XML = f"""<safe><service mode="mirror" defaultprim="node1" boot="auto" maxloop="3">
  <roles/>
  <vip><interface_list><interface check="on"><real_interface>
    <virtual_addr addr="{VIP}" where="one_side_alias" check="on"/>
  </real_interface></interface></interface_list></vip>
  <failover handle_time="0s"><![CDATA[
    app_failure: if (custom.app == down) then restart();
    away: if (custom.away == down) then swap();
    gone: if (custom.gone == down) then wait();
    other: if (remote.custom.flag == down) then custom.seen = down;
  ]]></failover>
  <user nicestoptimeout="2s" forcestoptimeout="2s"/>
</service></safe>
"""

# VOCABULARY's table: scripts of one node, in order. "force" scripts run only so.
ROWS = {
    ("STOP", "WAIT"): "transition prestart",
    ("WAIT", "ALONE"): "transition start_both start_prim start_sec",
    ("WAIT", "PRIM"): "transition start_both start_prim",
    ("WAIT", "SECOND"): "transition start_both start_second start_sec",
    ("ALONE", "PRIM"): "stop_sec transition",
    ("PRIM", "ALONE"): "transition start_sec",
    ("SECOND", "ALONE"): "stop_second transition start_prim",
    ("ALONE", "SECOND"): "stop_prim transition start_second",
    ("PRIM", "SECOND"): "stop_prim transition start_second start_sec",
    ("SECOND", "PRIM"): "stop_sec stop_second transition start_prim",
    ("PRIM", "PRIM"): "stop_prim stop_both start_both start_prim",
    ("ALONE", "ALONE"): "stop_sec stop_prim stop_both start_both start_prim start_sec",
    ("SECOND", "SECOND"): "stop_sec stop_second stop_both start_both start_second start_sec",
    ("PRIM", "WAIT"): "stop_prim stop_both transition",
    ("ALONE", "WAIT"): "stop_sec stop_prim stop_both transition",
    ("SECOND", "WAIT"): "stop_sec stop_second stop_both transition",
    ("WAIT", "STOP"): "stop_sec stop_prim stop_second stop_both poststop transition",
}


def row(old, new, action, forced=False):
    lines = []
    for script in ROWS[old, new].split():
        words = f"{old} {new} {action}"
        if script.startswith("stop_"):
            if not forced and (old, new) != ("WAIT", "STOP"):
                lines.append(f"{script} {words}")
            lines.append(f"{script} force {words}")
        else:
            lines.append(f"{script} {words}")
    return lines


def private_stage():
    """A copy of the stage with this plugin as the only one that serves mirrors."""
    copy = lab.temporary("stage") / "stage"
    shutil.copytree(lab.stage(), copy, symlinks=True)
    plugins = copy / "lib" / "stead" / "plugins"
    (plugins / "mirror.so").unlink(missing_ok=True)
    shutil.copy(os.environ["STEAD_ROLES"], plugins / "roles.so")
    os.environ["STEAD_STAGE"] = str(copy)


class Mirror(Module):
    def __init__(self, node):
        Mirror.last_id = 0  # the same on both nodes
        super().__init__(node, "app", HOOKS, xml=XML)

    def trace_file(self):
        return self.folder() / "var" / "trace"

    def trace(self):
        return self.trace_file().read_text().splitlines() if self.trace_file().exists() else []

    def take_trace(self):
        lines = self.trace()
        self.trace_file().unlink(missing_ok=True)
        return lines

    def want(self, text):
        self.stead(f"set -n -r roles.want -v '{text}'")

    def value(self, resource):
        return self.stead(f"get -r {resource}", check=False).stdout.strip()

    def is_in(self, state, qualifier="Ready"):
        found = json.loads(self.stead("state --json").stdout)["modules"][0]
        return (found["state"], found["qualifier"]) == (state, qualifier)

    def becomes(self, state, qualifier="Ready"):
        lab.wait_for(f"{self.node.name}: {state} {qualifier}", lambda: self.is_in(state, qualifier))

    def waits_for_a_role(self):
        """WAIT Transient also has other reasons, on the way."""
        lab.wait_for(f"{self.node.name}: no role", lambda: "told nothing yet" in self.stead("state").stdout)
        assert self.is_in("WAIT", "Transient")

    def walks(self, old, new, action="start", forced=False):
        """From one role to the other, and exactly the scripts of the row."""
        self.take_trace()
        self.want(f"{new} lab")
        self.becomes(new, "NotReady" if new == "WAIT" else "Ready")
        check(self.take_trace() == row(old, new, action, forced), f"{old} -> {new}: {ROWS[old, new]}")


def start_and_wait(one):
    one.stead("start")
    one.waits_for_a_role()
    check(one.take_trace() == row("STOP", "WAIT", "start"), "STOP -> WAIT, and there it stays without a role")
    check(one.value("roles.ready") == "1" and one.value("roles.defaultprim") == "node1" and
          one.value("roles.failover") == "on", "the service may choose, and has the attributes of <service>")
    check(one.value("state.remote") == "UNKNOWN Unknown", "nothing is known of the peer")


def every_row(one):
    path = ["WAIT", "ALONE", "PRIM", "ALONE", "SECOND", "PRIM", "SECOND", "ALONE", "WAIT", "PRIM", "WAIT", "SECOND",
            "WAIT"]
    for old, new in zip(path, path[1:]):
        leaves = new == "WAIT"
        one.walks(old, new, "stopwait" if leaves else "start", forced=leaves and old != "SECOND")
    for state in ("PRIM", "ALONE", "SECOND"):
        one.want(f"{state} lab")
        one.becomes(state)
        one.take_trace()
        one.stead("restart")
        lab.wait_for("the restart", lambda: one.is_in(state) and len(one.trace()) == len(row(state, state, "restart")))
        check(one.take_trace() == row(state, state, "restart"), f"restart in {state}")
    one.want("SECOND expected resync 10 %")
    one.becomes("SECOND", "Transient")
    check("resync 10 %" in one.stead("state").stdout and one.take_trace() == [], "SECOND Transient while resyncing")
    for state in ("SECOND", "PRIM", "ALONE"):
        one.want(f"{state} lab")
        one.becomes(state)
        one.take_trace()
        one.stead("stop")
        check(one.take_trace() == row(state, "WAIT", "stop") + row("WAIT", "STOP", "stop"), f"stop in {state}")
        one.stead("start")
        one.waits_for_a_role()
    retire = "moment RETIRE WAIT STOP"
    log = one.log()
    check(retire in log and log.rindex("Script stop_both force WAIT STOP stop") < log.rindex(retire) <
          log.rindex("Script poststop"), "RETIRE comes between the stop scripts and poststop")
    for line in ("Local state PRIM Ready", "Action alone called by lab", "Action start called by"):
        check(line in log, f"log: {line}")


def failing_start(one):
    (one.folder() / "var" / "fail.start_prim").write_text("")
    one.want("ALONE lab")
    one.wait(STOP)
    check("start_prim" in one.stead("state").stdout, "a start script that fails stops the module, and says which")
    (one.folder() / "var" / "fail.start_prim").unlink()
    check(one.node.sh(f"ip -o addr show to {VIP}").stdout == "", "its address is gone")
    one.stead("start")
    one.waits_for_a_role()


def checkers(one):
    one.want("PRIM lab")
    one.becomes("PRIM")
    lab.wait_for("ip up", lambda: one.value(f"ip.{VIP}") == "up")
    network = [line.split()[1] for line in one.stead("state -v").stdout.splitlines() if " intf." in line]
    check(bool(network), "interface check=on makes an intf checker")
    one.want("SECOND lab")
    one.becomes("SECOND")
    check(one.value(f"ip.{VIP}") == "init", "ip.<addr> is armed in PRIM only")


def rules(one):
    one.want("PRIM lab")
    one.becomes("PRIM")
    one.take_trace()
    one.stead("set -r custom.app -v down")
    lab.wait_for("the restart", lambda: "Action restart called by app_failure" in one.log())
    one.becomes("PRIM")
    one.stead("set -r custom.gone -v down")
    one.becomes("WAIT", "NotReady")
    check(one.value("roles.ready") == "0", "while a wait rule holds, the service may not choose")
    check("stop_prim PRIM WAIT stopwait" in one.take_trace(), "stopwait runs the stop scripts")
    one.stead("set -r custom.gone -v up")
    lab.wait_for("the role again", lambda: one.is_in("PRIM"))
    check(one.value("roles.ready") == "1", "and may again when it does not hold any more")
    one.stead("resetloop")


def pair(one, two):
    two.stead("start")
    two.waits_for_a_role()
    lab.wait_for("the peer's state", lambda: one.value("state.remote") == "WAIT Transient")
    two.want("SECOND lab")
    two.becomes("SECOND")
    lab.wait_for("the peer's state", lambda: one.value("state.remote") == "SECOND Ready")
    check("Remote state SECOND Ready" in one.log(), "log: Remote state SECOND Ready")
    check("SECOND" in one.stead("state").stdout, "state shows the peer")
    check(one.value("roles.keys") == two.value("roles.keys") != "", "both nodes derive the same key for their stream")
    before = one.value("roles.keys")
    one.node.stead("cluster genkey --rotate")
    for each in (one, two):
        each.stead("rfsdiff")  # the plugin here tells its keys again
    check(before != one.value("roles.keys") == two.value("roles.keys"), "and a new one when the cluster key changes")
    a, b = (m.node.address() for m in (one, two))
    check(one.value("roles.address") == f"{a} {b} none", "a node's address on a LAN, and none on one that is not there")
    done = one.stead("swap")
    check("the roles are exchanged" in done.stdout, "swap answers when it is done")
    one.becomes("SECOND")
    two.becomes("PRIM")
    check("Action swap called by" in one.log(), "log: Action swap called by")
    two.stead("set -r custom.away -v down")
    one.becomes("PRIM")
    two.becomes("SECOND")
    check("Action swap called by away: custom.away=down" in two.log(), "a rule swaps")
    two.stead("set -r custom.away -v up")
    two.stead("set -r custom.flag -v down")
    lab.wait_for("the remote resource in a rule", lambda: one.value("custom.seen") == "down")
    code = two.stead("swap", check=False)
    check(code.returncode == 1 and "a swap needs a primary" in code.stderr, "a plugin that refuses: exit 1, the reason")
    for _ in range(4):
        last = two.stead("swap -i rule", check=False)
    check("maxloop" in last.stderr, "automatic swaps are counted")
    two.wait(STOP)
    lab.wait_for("the peer is gone", lambda: one.value("state.remote") == "UNKNOWN Unknown")
    check("Remote state UNKNOWN Unknown" in one.log(), "log: Remote state UNKNOWN Unknown")


def death(one, two):
    two.stead("second")
    two.becomes("SECOND")
    check(one.value("roles.died") == "", "nobody died yet")
    two.node.kill("stead-host")
    lab.wait_for("the news", lambda: one.value("roles.died") == "1")
    check(True, "the service hears at once that its peer's host died")
    two.waits_for_a_role()
    two.stead("stop")


def commands(one):
    node = one.node
    one.stead("stop")
    check(one.stead("swap", check=False).returncode == 78, "swap needs a module that runs")
    done = one.stead("prim")
    check("it becomes the primary" in done.stdout, "prim starts a stopped module and hands itself over")
    one.becomes("ALONE")
    node.stead("waitstate ALONE -m app -t 5")
    check(node.state("app") == ALONE, "state -lq")
    check(one.stead("rfssync external prim 4711").stdout.strip() == "external prim 4711", "words reach the plugin")
    for wrong in ("rfssync external", "rfssync full prim", "swap now", "prim full", "mirror lost export relative", "mirror lost drop a b",
                  "mirror lost", "mirror nothing", "rfsverify repiar", "secondforce -d 2026-01-01", "rfssync -d 2026-01-01"):
        check(node.stead(f"{wrong} -m app", check=False).returncode == 64, f"usage: {wrong}")
    check(node.stead("mirror status -m app").stdout.strip() == "in sync", "mirror status")
    check(json.loads(node.stead("mirror status --json -m app").stdout) == {"in_sync": True}, "mirror status --json")
    check(one.stead("primforce", check=False).returncode == 1, "primforce refused by the plugin")
    check(one.stead("power node1 3", check=False).returncode == 78, "power is for farms")
    waiting = node.spawn([f"{node.lab.stage}/bin/stead", "rfsverify", "-m", "app"], stdout=-1, stderr=-1)
    lab.wait_for("the command to hang", lambda: "verify begun" in one.log())
    one.stead("stop")
    out, err = waiting.communicate(timeout=20)
    check(waiting.returncode == 1 and "stopped before it was done" in err, "what is not answered ends with the module")


def fenced(one):
    one.stead("prim")
    one.becomes("ALONE")
    one.take_trace()
    one.want("WAIT fenced")
    one.becomes("WAIT", "NotReady")
    check(one.take_trace() == row("ALONE", "WAIT", "stopwait", forced=True), "fenced: forced stop scripts only")
    check("moment CLOSE ALONE WAIT at once" in one.log(), "and no drain")
    one.want("ALONE lab")
    one.becomes("ALONE")


def boot(one):
    node = one.node
    node.power_off()
    node.power_on()
    node.start_steadd()
    one.waits_for_a_role()
    check(True, "boot=auto starts what ran when the power went")
    one.stead("stop")


if __name__ == "__main__":
    lab.enter()
    private_stage()
    with lab.Lab(nodes=2) as pair_of_nodes:
        pair_of_nodes.form_cluster()
        one, two = (Mirror(node) for node in pair_of_nodes.nodes)
        for case in (start_and_wait, every_row, failing_start, checkers, rules):
            print(f"---- {case.__name__}", flush=True)
            case(one)
        for case in (pair, death):
            print(f"---- {case.__name__}", flush=True)
            case(one, two)
        for case in (commands, fenced, boot):
            print(f"---- {case.__name__}", flush=True)
            case(one)
    sys.exit(0)
