# SPDX-License-Identifier: Apache-2.0
"""The farm demo: three nodes, a switch and a client; a crash, a return and a drain under real HTTP traffic.

Exit code 0 only if the figures hold: see LIMITS."""
import json
import re
import subprocess
import sys
import threading
import time

import lab

RATE, HELD, PORT = 400, 150, 80
LIMITS = {"outage_ms": 300, "slow_or_failed_when_planned": 0, "broken_on_living_nodes": 0, "duplicates": 0}


class Reader(threading.Thread):
    """Keeps the last line of JSON that a traffic program printed."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.last = process, {}
        self.start()

    def run(self):
        for line in self.process.stdout:
            self.last = json.loads(line)

    def finish(self):
        self.process.send_signal(15)
        self.process.wait(timeout=30)
        self.join(timeout=10)
        return self.last


class Pings:
    """ICMP echo from several addresses: every answer that comes twice is a duplicate."""

    def __init__(self, farm):
        self.processes = [farm.client.spawn(["ping", "-n", "-i", "0.05", "-I", f"10.42.100.{i}", lab.VIP],
                                            own_pids=False, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL) for i in range(1, 9)]

    def finish(self):
        duplicates = replies = 0
        for process in self.processes:
            process.send_signal(2)
            out, _ = process.communicate(timeout=10)
            duplicates += out.count("DUP!")
            replies += len(re.findall(r"bytes from", out))
        return replies, duplicates


class Screen:
    """A live picture on a terminal, a line a second elsewhere."""

    def __init__(self, farm, held):
        self.farm, self.held, self.tty = farm, held, sys.stdout.isatty()
        self.before, self.drawn = (time.monotonic(), {}), 0

    def show(self, phase, fresh, marks):
        now, served = time.monotonic(), fresh.last.get("served", {})
        span = max(now - self.before[0], 0.001)
        rows = []
        for node in self.farm.nodes:
            rate = max(0, served.get(node.name, 0) - self.before[1].get(node.name, 0)) / span
            rows.append((node.name, rate, self.held.last.get("held_by", {}).get(node.name, 0), marks.get(node.name, "up")))
        self.before = (now, dict(served))
        total = sum(row[1] for row in rows) or 1
        outage = fresh.last.get("outage_ms", 0)
        if not self.tty:
            print(f"   {phase:28} " + "  ".join(f"{name} {rate:4.0f}/s {100 * rate / total:3.0f}% held {held:3}"
                                                for name, rate, held, _ in rows) + f"  outage {outage} ms", flush=True)
            return
        lines = [f"\033[1m{phase}\033[0m", ""]
        for name, rate, held, mark in rows:
            bar = "#" * round(40 * rate / total)
            lines.append(f"  {name}  {mark:10} {bar:40} {100 * rate / total:5.1f} %  {rate:5.0f} req/s  {held:4} held")
        lines += ["", f"  outage meter: {outage} ms   failed: {fresh.last.get('failed', 0)}", ""]
        if self.drawn:
            print(f"\033[{self.drawn}A", end="")
        print("\n".join(f"\033[K{line}" for line in lines), flush=True)
        self.drawn = len(lines)


class Demo:
    def __init__(self, farm):
        self.farm, self.marks, self.table = farm, {}, []
        self.held = Reader(self.tcp("--rate", 0, "--hold", HELD))
        self.pings = Pings(farm)
        self.screen = Screen(farm, self.held)

    def tcp(self, *arguments):
        return self.farm.traffic("tcp", "--target", lab.VIP, "--port", PORT, "--http", "/", "--sources", lab.CLIENTS,
                                 "--seconds", 600, "--live-ms", 200, *arguments)

    def phase(self, title, action, seconds, until=None):
        """Runs fresh requests through one act, and adds its row to the table."""
        before = dict(self.held.last.get("broken_by", {}))
        fresh = Reader(self.tcp("--rate", RATE))
        self.screen.drawn = 0
        lab.wait_for("traffic", lambda: fresh.last)
        self.screen.before = (time.monotonic(), dict(fresh.last["served"]))
        worker = threading.Thread(target=action, daemon=True) if action else None
        start = time.monotonic()
        if worker:
            time.sleep(1)
            worker.start()
        while time.monotonic() - start < seconds or (worker and worker.is_alive()) or (until and not until()):
            time.sleep(0.25 if self.screen.tty else 1)
            self.screen.show(title, fresh, self.marks)
            if time.monotonic() - start > 60:
                raise TimeoutError(title)
        summary = fresh.finish()
        time.sleep(0.3)  # one more live line of the held connections
        after = self.held.last.get("broken_by", {})
        broken = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
        self.table.append((title, summary, broken))

    def run(self):
        node1, node2, node3 = self.farm.nodes
        self.phase("three nodes share the VIP", None, 5)

        def cut():
            node2.power_off()
            self.marks["node2"] = "POWER OFF"
        self.phase("node2 loses power", cut, 6)

        def back():
            node2.power_on()
            self.marks["node2"] = "booting"
            node2.start_steadd()
            node2.stead("start -m nginx_farm")
            lab.wait_for("node2 ready", lambda: node2.ready("nginx_farm"), 30)
            self.marks["node2"] = "up"
        self.phase("node2 comes back", back, 8)

        def drain():
            self.marks["node3"] = "draining"
            node3.stead("stop -m nginx_farm")
            self.marks["node3"] = "stopped"
        self.phase("node3 is drained and stopped", drain, 9)

    def verdict(self):
        held = self.held.finish()
        replies, duplicates = self.pings.finish()
        print(f"\n{'':30}" + "".join(f"{node.name:>9}" for node in self.farm.nodes) +
              f"{'failed':>9}{'outage':>10}{'held connections broken':>26}")
        faults = []
        for title, summary, broken in self.table:
            print(f"{title:30}" + "".join(f"{summary['served'].get(node.name, 0):9}" for node in self.farm.nodes) +
                  f"{summary['failed']:9}{summary['outage_ms']:7} ms   " +
                  (", ".join(f"{count} of {name}" for name, count in broken.items()) or "none"))
            if summary["outage_ms"] > LIMITS["outage_ms"]:
                faults.append(f"{title}: outage {summary['outage_ms']} ms > {LIMITS['outage_ms']} ms")
            if "power" not in title and summary["failed"] > LIMITS["slow_or_failed_when_planned"]:
                faults.append(f"{title}: {summary['failed']} requests failed: {summary['reasons']}")
            strangers = {name: count for name, count in broken.items()
                         if not (name == "node2" and "power" in title) and not (name == "node3" and "drained" in title)}
            if sum(strangers.values()) > LIMITS["broken_on_living_nodes"]:
                faults.append(f"{title}: connections of living nodes broke: {strangers}")
        print(f"\nICMP echo: {replies} answers, {duplicates} duplicates. Held connections: {HELD} opened, "
              f"{held['held_answers']} answers, {held['held_changed_node']} changed their node.")
        if duplicates > LIMITS["duplicates"] or held["held_changed_node"]:
            faults.append(f"{duplicates} duplicates, {held['held_changed_node']} connections answered by another node")
        print("\n".join(f"FAULT: {fault}" for fault in faults) or "All figures hold.")
        return 1 if faults else 0


def main():
    lab.enter()
    with lab.Lab(nodes=3) as farm:
        print("== a lab of three nodes, a switch and a client", flush=True)
        farm.form_cluster()
        farm.install("nginx_farm", farm.stage / "share/stead/modules/nginx_farm.safe",
                     macros={"VIP": lab.VIP, "PORT": str(PORT)})
        farm.start("nginx_farm")
        print(f"== nginx on http://{lab.VIP}/ , {RATE} new requests a second, {HELD} held connections", flush=True)
        demo = Demo(farm)
        lab.wait_for("all held connections", lambda: sum(demo.held.last.get("held_by", {}).values()) >= HELD)
        demo.run()
        status = demo.verdict()
        if "--keep" in sys.argv[1:]:
            lab.keep(farm, [f"{farm.stage}/bin/stead state", f"{farm.stage}/bin/stead log -m nginx_farm",
                            f"{farm.stage}/bin/stead power -m nginx_farm node1 3",
                            f"curl http://{lab.VIP}/   (in the client)"])
    return status


if __name__ == "__main__":
    sys.exit(main())
