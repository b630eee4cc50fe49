# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL on a mirror, beside the plain disk, its own synchronous streaming and GlusterFS replica 2: pgbench -N, scale 10,
with 1, 4 and 16 clients, alternating in one run, medians of three."""
import pathlib
import re
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "cluster"), str(HERE.parent / "support")]

PROGRAMS = "/usr/lib/postgresql/15/bin"
CLIENTS = (1, 4, 16)
ROUNDS, SECONDS = 3, 6
HBA = "local all all trust\nhost all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n"


class Postgres:
    """One server; `run(command)` runs a shell command on its node as root."""

    def __init__(self, run, folder, port):
        self.run, self.folder, self.port = run, folder, port
        run(f"mkdir -p {folder} && chown postgres {folder}")

    def as_postgres(self, command):
        return self.run(f"cd / && setpriv --reuid=postgres --regid=postgres --init-groups -- sh -c \"{command}\"")

    def create(self):
        self.as_postgres(f"{PROGRAMS}/initdb -D {self.folder}/d -A trust")
        self.run(f"printf '{HBA}' >{self.folder}/d/pg_hba.conf")
        self.start()
        self.as_postgres(f"{PROGRAMS}/createdb -h /tmp -p {self.port} bench && "
                         f"{PROGRAMS}/pgbench -h /tmp -p {self.port} -i -q -s 10 bench")

    def start(self):
        options = f"-p {self.port} -k /tmp -c listen_addresses='*' -c shared_buffers=128MB"
        self.as_postgres(f"{PROGRAMS}/pg_ctl -D {self.folder}/d -w -t 120 -l {self.folder}/log -o '{options}' start")

    def stop(self):
        self.as_postgres(f"{PROGRAMS}/pg_ctl -D {self.folder}/d -m fast -w -t 120 stop")

    def follow(self, primary, address):
        """Becomes the standby of `primary`, and the primary waits for it from then on."""
        self.as_postgres(f"{PROGRAMS}/pg_basebackup -D {self.folder}/d -R -c fast -X stream -d "
                         f"'host={address} port={primary.port} user=postgres application_name=other'")
        self.start()
        primary.as_postgres(f"psql -h /tmp -p {primary.port} -qc 'alter system set synchronous_standby_names=other' "
                            f"&& psql -h /tmp -p {primary.port} -qc 'select pg_reload_conf()'")

    def tps(self, clients):
        text = self.as_postgres(f"{PROGRAMS}/pgbench -h /tmp -p {self.port} -n -N -c {clients} -j 2 -T {SECONDS} bench")
        return float(re.search(r"tps = ([0-9.]+)", text).group(1))


def measure(module, data, gluster=None):
    """Prints the table. `gluster`: a mounted volume with run(command) and the path of its mount, or nothing."""
    first, other = module.nodes
    for folder in (first.disk.parent, first.disk, other.disk):
        folder.chmod(0o711)  # the server is not root

    def here(command):
        return first.sh(command, timeout=300).stdout

    places = {"ext4": Postgres(here, first.disk / "pg-plain", 5501), "stead": Postgres(here, f"{data}/pg", 5502),
              "streaming": Postgres(here, first.disk / "pg-primary", 5503)}
    if gluster is not None:
        places["gluster"] = Postgres(gluster[0], f"{gluster[1]}/pg", 5505)
    standby = Postgres(lambda command: other.sh(command, timeout=300).stdout, other.disk / "pg-standby", 5504)
    for server in places.values():
        server.create()
    standby.follow(places["streaming"], first.address())
    print(f"\n{'pgbench -N, transactions a second':34}" + "".join(f"{name:>12}" for name in places))
    for clients in CLIENTS:
        seen = {name: [] for name in places}
        for _ in range(ROUNDS):
            for name, server in places.items():
                seen[name].append(server.tps(clients))
        print(f"{clients:2} clients{'':24}" + "".join(f"{statistics.median(seen[name]):12.0f}" for name in places), flush=True)
    standby.stop()
    for server in places.values():
        server.stop()
