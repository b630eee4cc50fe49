#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL, Redis (appendfsync always) and SQLite in three mirrors on two nodes; the primary of all is lost at random, and what
each was told is committed must be there afterwards. Usage: test_mirror_ledger.py [--long] [--turns N] [--seed N]
Without --long: 2 turns; with it: 20."""
import argparse
import random
import subprocess
import sys
import threading
import time

import mirror
from mirror import ALONE, PRIM, SECOND, STOP
from support import check, lab
from demo_mirror import CONNECT, HBA, Ledger

VIPS = {"pg": lab.VIP, "redis": "10.42.0.101", "sqlite": None}
FAULTS = ["kill stead-fs", "kill stead-host", "power off", "unplugged", "frozen", "full disk", "full disk of the secondary",
          "swap"]
SQLITE = '''#!/usr/bin/env python3
import os, sqlite3, sys, time, uuid
acked = os.open("/acked/sqlite", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while True:
    try:
        db = sqlite3.connect("/srv/sqlite/ledger", isolation_level=None, timeout=60)
        db.execute("PRAGMA journal_mode=" + sys.argv[1])
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE IF NOT EXISTS ledger (n TEXT PRIMARY KEY)")
        while True:
            n = uuid.uuid4().hex
            db.execute("INSERT INTO ledger VALUES (?)", (n,))
            os.write(acked, n.encode() + b"\\n")
    except sqlite3.OperationalError as why:  # a full disk, or a failing one; a damaged database is another error
        print(why, flush=True)
        time.sleep(0.2)
'''
SQLITE_HOOKS = {"prestart": "#!/bin/sh\nexit 0\n", "writer": SQLITE,
                "start_prim": "#!/bin/sh\nmode=DELETE; [ $(($(date +%s) % 2)) = 0 ] && mode=WAL\n"
                              "python3 $SAFEUSERBIN/writer $mode >>/acked/writer.log 2>&1 </dev/null &\n",
                "stop_prim": "#!/bin/sh\npkill -KILL -f /[b]in/writer; exit 0\n"}


class RedisLedger(threading.Thread):
    """SET of numbers, each answered OK; remembers which."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.acked, self.next, self.ending = client, set(), 1, False
        self.start()

    def run(self):
        cli = None
        while not self.ending:
            if cli is None:
                cli = subprocess.Popen([*self.client.inside(own_pids=False), "redis-cli", "-h", VIPS["redis"]], text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=1)
                watchdog = [time.monotonic()]
                threading.Thread(target=self.watch, args=(cli, watchdog), daemon=True).start()
            number, self.next = self.next, self.next + 1
            try:
                cli.stdin.write(f"SET k{number} {number}\n")
                answer = cli.stdout.readline().strip()
            except OSError:
                answer = ""
            watchdog[0] = time.monotonic()
            if answer == "OK":
                self.acked.add(number)
                continue
            cli.kill()
            cli.wait()
            cli = None
            time.sleep(0.1)

    @staticmethod
    def watch(cli, seen):
        """A server that lost its power answers nothing, and redis-cli would wait."""
        while cli.poll() is None:
            if time.monotonic() - seen[0] > 3:
                cli.kill()
            time.sleep(0.5)


class Run:
    def __init__(self, nodes):
        self.nodes, self.modules = nodes, {}
        for number, name in enumerate(VIPS, 1):
            module = mirror.Mirror.__new__(mirror.Mirror)
            module.cluster, module.name, module.nodes = nodes, name, nodes.nodes
            self.modules[name] = module
            for node in nodes.nodes:
                self.install(node, name, number)
        one, two = nodes.nodes
        for module in self.modules.values():
            module.form(one, timeout=60)
        client = nodes.client
        lab.wait_for("a table", lambda: client.sh(f"psql -XqAt '{CONNECT}' -c 'CREATE TABLE IF NOT EXISTS ledger (n bigint "
                                                  "PRIMARY KEY)'", check=False).returncode == 0, 30)
        self.pg, self.redis = Ledger(client), RedisLedger(client)

    def install(self, node, name, number):
        if name == "sqlite":
            node.sh(f"mkdir -p /srv/sqlite /acked && mount --bind {self.notes(node)} /acked")
            from light import make_safe
            xml = ('<safe><service mode="mirror" maxloop="1000"><rfs><replicated dir="/srv/sqlite"/></rfs>'
                   '<user nicestoptimeout="20s" forcestoptimeout="20s"/></service></safe>')
            node.stead(f"module install -m sqlite -M {number} {make_safe('sqlite', SQLITE_HOOKS, xml)}")
        else:
            safe = {"pg": "postgresql"}.get(name, name)
            node.sh(f"mkdir -p /srv/{safe}")
            node.stead(f"module install -m {name} -M {number} {node.lab.stage}/share/stead/modules/{safe}.safe")
            conf = node.disk / "etc" / "modules" / name / "conf"
            if name == "pg":
                (conf / "pg_hba.conf").write_text(HBA)
            path = conf / "userconfig.xml"
            path.write_text(lab.replace_macro(path.read_text(), "VIP", VIPS[name]).replace('maxloop="3"', 'maxloop="1000"'))
        node.stead(f"config -m {name}")

    def acked(self):
        notes = {line for node in self.nodes.nodes for line in self.written(node)}
        return {"pg": {n for n, _ in list(self.pg.acked)}, "redis": set(self.redis.acked), "sqlite": notes}

    @staticmethod
    def notes(node):
        """What SQLite's writer was told, on no disk that the faults are about."""
        folder = node.disk / "notes"
        folder.mkdir(exist_ok=True)
        return folder

    def written(self, node):
        path = self.notes(node) / "sqlite"
        return [line for line in path.read_text().splitlines() if len(line) == 32] if path.exists() else []

    def server(self, name):
        return next(node for node in self.nodes.nodes if node.state(name) in (ALONE, PRIM))

    def found(self, name):
        client = self.nodes.client
        if name == "pg":
            rows = client.sh(f"psql -XqAt '{CONNECT}' -c 'SELECT n FROM ledger'", check=False, timeout=60)
            return {int(n) for n in rows.stdout.split()} if rows.returncode == 0 else None
        if name == "redis":
            rows = client.sh(f"timeout 20 redis-cli -e -h {VIPS['redis']} KEYS 'k*'", check=False)
            return {int(n[1:]) for n in rows.stdout.split()} if rows.returncode == 0 else None
        rows = self.server(name).sh("python3 -c \"import sqlite3; d = sqlite3.connect('/srv/sqlite/ledger', timeout=30); "
                                    "assert d.execute('PRAGMA integrity_check').fetchone() == ('ok',); "
                                    "[print(*r) for r in d.execute('SELECT n FROM ledger')]\"", check=False)
        return set(rows.stdout.split()) if rows.returncode == 0 else None

    def progress(self):
        """Each of the three commits again."""
        before = {name: len(all_) for name, all_ in self.acked().items()}
        try:
            lab.wait_for(f"commits of all three, after {before}", lambda: all(
                len(all_) > before[name] + 5 for name, all_ in self.acked().items()), 90)
        except TimeoutError:
            print({name: len(all_) for name, all_ in self.acked().items()})
            for node in self.nodes.nodes:
                print(node.name, node.sh("tail -n 5 /acked/writer.log; pgrep -fa /[b]in/writer", check=False).stdout)
            raise

    def nothing_lost(self, turn):
        promised = self.acked()
        for name, wanted in promised.items():
            found = lab.wait_for(f"the rows of {name}", lambda: self.found(name), 60)
            check(wanted <= found, f"{turn}: {name}: {len(wanted)} commits, lost {len(wanted - found)} {sorted(wanted - found)[:3]}")

    def whole(self):
        for module in self.modules.values():
            lab.wait_for(f"{module.name}: PRIM and SECOND", lambda: sorted(node.state(module.name) for node in module.nodes)
                         == [PRIM, SECOND] and all(node.ready(module.name) for node in module.nodes), 120)

    def turn(self, number, fault):
        victim = self.server("pg")
        other = next(node for node in self.nodes.nodes if node is not victim)
        at = time.monotonic()
        if fault.startswith("kill"):
            victim.kill(fault.split()[1])
        elif fault == "power off":
            victim.power_off()
        elif fault == "unplugged":
            told = self.written(victim)
            victim.unplug_silently()
        elif fault == "frozen":
            victim.freeze()
            time.sleep(5)
            victim.thaw()
        elif fault.startswith("full disk"):
            self.full_disk(other if fault.endswith("secondary") else victim)
        else:
            for name, module in self.modules.items():
                module.stead(self.server(name), "swap")
        if fault in ("power off", "unplugged"):
            lab.wait_for("the other node serves", lambda: all(other.state(name) in (ALONE, PRIM) for name in VIPS), 60)
            self.progress()
        if fault == "power off":
            mirror.power_on_again(victim)
            victim.sh(f"mount --bind {self.notes(victim)} /acked")
            for name in VIPS:
                victim.stead(f"start -m {name}", check=False)
        elif fault == "unplugged":
            self.isolated_writes(victim, told)
            victim.plug_back()
            self.rejoin(victim, other)
        self.whole()
        self.progress()
        self.nothing_lost(f"turn {number}, {fault}, {time.monotonic() - at:.0f} s")

    def full_disk(self, node):
        """Nothing fits for ten seconds. A module that could not start on it is started by its administrator afterwards."""
        node.sh("dd if=/dev/zero of=/srv/filler bs=1M 2>/dev/null; sync -f /srv", check=False)
        time.sleep(10)
        node.sh("rm /srv/filler")
        for name in VIPS:
            lab.wait_for(f"{name} has decided", lambda n=name: node.ready(n) or node.state(n) == STOP, 60)
            if node.state(name) == STOP:
                print(f"{name} stopped on {node.name}", flush=True)
                node.stead(f"start -m {name}", check=False)

    def isolated_writes(self, victim, told):
        """Without a witness the unplugged one may serve as well: what it says to itself alone (SQLite) is lost by the split."""
        victim.sh("pkill -KILL -f /[b]in/writer", check=False)
        (self.notes(victim) / "sqlite").write_text("".join(line + "\n" for line in told))

    def rejoin(self, victim, other):
        """A split is decided by a person: for the node that all clients could reach."""
        for module in self.modules.values():
            def decided():
                waiting = [node for node in module.nodes if "split" in node.stead(f"state -m {module.name}", check=False).stdout]
                return waiting or sorted(node.state(module.name) for node in module.nodes) == [PRIM, SECOND]
            waiting = lab.wait_for("a split, or none", decided, 60)
            if isinstance(waiting, list) and other in waiting:
                module.stead(victim, "stop")
                module.stead(other, "prim")
                module.wait_ready(other, ALONE, timeout=60)
            if isinstance(waiting, list):
                module.stead(victim, "second", check=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--turns", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    turns = options.turns or (20 if options.long else 2)
    seed = options.seed or lab.seed("STEAD_LEDGER_SEED")
    with mirror.cluster(srv_mib=600) as nodes:
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        run = Run(nodes)
        for number in range(turns):
            run.progress()
            run.turn(number, chance.choice(FAULTS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
