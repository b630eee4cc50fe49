# SPDX-License-Identifier: Apache-2.0
"""The mirror demo: PostgreSQL on two nodes, a client that notes every commit it was told of; the primary loses power, the
other node takes over, the first one comes back, copies what it missed, and gets its role back.

Exit code 0 only if no commit is lost and the outages hold: see LIMITS."""
import json
import subprocess
import sys
import threading
import time

import lab

PORT = 5432
LIMITS = {"power_outage_s": 15, "planned_outage_s": 15}  # PostgreSQL's own recovery and start are part of them
HBA = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all 10.42.0.0/16 trust\n"
CONNECT = (f"host={lab.VIP} port={PORT} user=postgres dbname=postgres connect_timeout=2 keepalives_idle=1 "
           "keepalives_interval=1 keepalives_count=1 tcp_user_timeout=1500")


class Ledger(threading.Thread):
    """Inserts numbers one by one, each a transaction; remembers which were acknowledged, and when."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.acked, self.next, self.ending, self.psql = client, [], 1, False, None
        self.start()

    def connect(self):
        self.psql = subprocess.Popen([*self.client.inside(own_pids=False), "psql", "-XqAt",
                                      "--set=ON_ERROR_STOP=1", CONNECT],  # a refused one is no line to wait for: it ends
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                     bufsize=1)

    def run(self):
        while not self.ending:
            try:
                if self.psql is None or self.psql.poll() is not None:
                    self.connect()
                number, self.next = self.next, self.next + 1
                self.psql.stdin.write(f"INSERT INTO ledger VALUES ({number}) RETURNING n;\n")
                if self.psql.stdout.readline().strip() == str(number):
                    self.acked.append((number, time.monotonic()))
                    continue
                raise OSError("no answer")
            except OSError:
                if self.psql:
                    self.psql.kill()
                    self.psql.wait()
                self.psql = None
                time.sleep(0.05)

    def longest_pause(self, since):
        times = [since, *(at for _, at in list(self.acked) if at >= since)]
        return max((b - a for a, b in zip(times, times[1:])), default=0)

    def finish(self):
        self.ending = True
        self.join(timeout=10)


class Demo:
    def __init__(self, cluster):
        self.cluster, self.nodes, self.table = cluster, cluster.nodes, []

    def sql(self, statement):
        done = self.cluster.client.sh(f"psql -XqAt '{CONNECT}' -c \"{statement}\"", check=False, timeout=30)
        return done.stdout.strip() if done.returncode == 0 else None

    def state(self, node):
        if node.init.poll() is not None:
            return "no power"
        names = {0: "STOP", 1: "WAIT", 2: "ALONE", 3: "PRIM", 4: "SECOND"}
        return names.get(node.state("pg"), "?") + ("" if node.ready("pg") else " …")

    def status(self, node):
        done = node.stead("mirror status -m pg --json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def install(self):
        for node in self.nodes:
            node.sh("mkdir -p /srv/postgresql")
            node.stead(f"module install -m pg -M 1 {self.cluster.stage}/share/stead/modules/postgresql.safe")
            conf = node.disk / "etc" / "modules" / "pg" / "conf"
            (conf / "pg_hba.conf").write_text(HBA)
            path = conf / "userconfig.xml"
            path.write_text(lab.replace_macro(path.read_text(), "VIP", lab.VIP))
            node.stead("config -m pg")

    def first_start(self):
        node1, node2 = self.nodes
        node1.stead("prim -m pg")
        lab.wait_for("the database on node1", lambda: self.state(node1) == "ALONE", 60)
        node2.stead("second -m pg")
        lab.wait_for("node2 in sync", lambda: self.state(node1) == "PRIM" and self.state(node2) == "SECOND", 60)
        lab.wait_for("a client", lambda: self.sql("CREATE TABLE IF NOT EXISTS ledger (n bigint PRIMARY KEY)") is not None, 20)
        self.ledger = Ledger(self.cluster.client)
        lab.wait_for("commits", lambda: len(self.ledger.acked) > 50, 20)

    def phase(self, title, action, until, seconds=4, timeout=90):
        start, before = time.monotonic(), len(self.ledger.acked)
        action()
        shown = 0.0
        while time.monotonic() - start < seconds or not until():
            if time.monotonic() - shown > 1:
                shown = time.monotonic()
                print(f"   {title:32} " + "   ".join(f"{node.name} {self.state(node):9}" for node in self.nodes) +
                      f"   {len(self.ledger.acked):7} commits", flush=True)
            time.sleep(0.1)
            if time.monotonic() - start > timeout:
                raise TimeoutError(title)
        commits = len(self.ledger.acked)
        lab.wait_for("commits again", lambda: len(self.ledger.acked) > commits + 20, 30)
        self.table.append((title, len(self.ledger.acked) - before, self.ledger.longest_pause(start)))

    def run(self):
        node1, node2 = self.nodes
        both = lambda: sorted(self.state(node) for node in self.nodes) == ["PRIM", "SECOND"]  # noqa: E731
        self.phase("every commit is on both disks", lambda: None, both)
        self.phase("node1 loses power", node1.power_off, lambda: self.state(node2) == "ALONE")

        def back():
            node1.power_on()
            node1.sh(f"mount --bind {node1.disk}/srv /srv")
            node1.start_steadd()
            node1.stead("start -m pg", check=False)
        self.phase("node1 comes back, is resynced", back, both)
        self.resynced = self.status(node2).get("copies", 0)
        self.phase("the role moves back to node1", lambda: node2.stead("swap -m pg"),
                   lambda: both() and self.state(node1) == "PRIM")

    def verdict(self):
        self.ledger.finish()
        print(f"\n{'':34}{'commits':>10}{'outage':>12}")
        faults = []
        for title, commits, outage in self.table:
            print(f"{title:34}{commits:10}{outage:10.2f} s")
            limit = LIMITS["power_outage_s" if "power" in title else "planned_outage_s"]
            if outage > limit:
                faults.append(f"{title}: outage {outage:.1f} s > {limit} s")
        found = {int(n) for n in (self.sql("SELECT n FROM ledger") or "").split()}
        lost = [n for n, _ in self.ledger.acked if n not in found]
        print(f"\nCommits acknowledged: {len(self.ledger.acked)}, found: {len(self.ledger.acked) - len(lost)}, lost: {len(lost)}. "
              f"Resync after the power cut: {self.resynced} zones and names of the database.")
        if lost or not found:
            faults.append(f"lost commits: {lost[:10]}")
        print("\n".join(f"FAULT: {fault}" for fault in faults) or "All figures hold.")
        return 1 if faults else 0


def main():
    lab.enter()
    with lab.Lab(nodes=2) as cluster:
        print("== a lab of two nodes and a client", flush=True)
        for node in cluster.nodes:
            (node.disk / "srv").mkdir()
            node.sh(f"mount --bind {node.disk}/srv /srv")
        cluster.form_cluster()
        demo = Demo(cluster)
        demo.install()
        demo.first_start()
        print(f"== PostgreSQL on {lab.VIP}:{PORT}, a client commits one row after the other", flush=True)
        demo.run()
        status = demo.verdict()
        if "--keep" in sys.argv[1:]:
            lab.keep(cluster, [f"{cluster.stage}/bin/stead state", f"{cluster.stage}/bin/stead mirror status -m pg",
                               f"{cluster.stage}/bin/stead rfsverify -m pg     (on the primary)",
                               f"psql '{CONNECT}' -c 'SELECT count(*) FROM ledger'   (in the client)"])
    return status


if __name__ == "__main__":
    sys.exit(main())
