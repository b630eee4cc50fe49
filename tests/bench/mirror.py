# SPDX-License-Identifier: Apache-2.0
"""The file system of a mirror beside the disk below it and GlusterFS replica 2, alternating in one run, medians of three: fio
lines of a database's kind, files by name, then PostgreSQL itself. The resync after scattered writes: what moves, and how long it
takes; a full copy. All of it, or the parts named."""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "cluster"), str(HERE.parent / "support")]
import mirror  # noqa: E402
import mirror_copy  # noqa: E402
import mirror_postgres  # noqa: E402

ROUNDS = 3
COMMON = "--fallocate=none --runtime=5 --time_based --output-format=json"
PARTS = ("data", "names", "postgresql", "resync", "copy")
NAMES = ("create 4 KiB file, ops/s", "stat, ops/s", "rename, ops/s", "unlink, ops/s")
FIO = {
    "4 KiB random write, iops": ("--rw=randwrite --bs=4k --size=256M", "iops"),
    "4 KiB write + fsync each, iops": ("--rw=randwrite --bs=4k --size=64M --fsync=1", "iops"),
    "8 KiB append + fdatasync, iops": ("--rw=write --bs=8k --size=256M --fdatasync=1", "iops"),
    "1 MiB sequential, MB/s": ("--rw=write --bs=1M --size=512M --end_fsync=1", "mb"),
    "O_DIRECT 4 KiB, depth 1, iops": ("--rw=randwrite --bs=4k --size=256M --direct=1 --ioengine=libaio --iodepth=1", "iops"),
    "O_DIRECT 4 KiB, depth 16, iops": ("--rw=randwrite --bs=4k --size=256M --direct=1 --ioengine=libaio --iodepth=16", "iops"),
    "warm 4 KiB read, iops": ("--rw=randread --bs=4k --size=64M --invalidate=0 --pre_read=1", "read_iops"),
}
GLUSTER = r"""
set -e; W=$1; ip link add brg type bridge; ip link set brg up; i=1; mkdir -p /var/lib/glusterd /var/log/glusterfs
for n in ga gb; do
  ip netns add $n; ip link add v$n type veth peer name eth0 netns $n; ip link set v$n master brg up
  ip -n $n addr add 10.77.0.$i/24 dev eth0; ip -n $n link set eth0 up; ip -n $n link set lo up; i=$((i+1))
  mkdir -p /etc/netns/$n $W/$n/lib $W/$n/log $W/$n/brick $W/$n/mnt
  printf '127.0.0.1 localhost\n10.77.0.1 ga\n10.77.0.2 gb\n' >/etc/netns/$n/hosts
  cat >$W/$n/start.sh <<END
mount --make-rprivate /
mount --bind $W/$n/lib /var/lib/glusterd; mount --bind $W/$n/log /var/log/glusterfs
mount -t tmpfs t /run; mkdir -p /run/gluster; hostname $n
exec glusterd -N
END
  ip netns exec $n unshare -m -u -p -f --kill-child --mount-proc bash $W/$n/start.sh >$W/$n/out 2>&1 & echo $! >$W/$n/pid
done; sleep 4
gx() { n=$1; shift; nsenter -t $(pgrep -P $(cat $W/$n/pid) | head -1) -m -n -u -p -- "$@"; }
gx ga gluster peer probe gb; sleep 1
gx ga gluster --mode=script volume create rv replica 2 ga:$W/ga/brick/b gb:$W/gb/brick/b force
gx ga gluster volume start rv; sleep 2; gx ga mount -t glusterfs ga:/rv $W/ga/mnt
"""


def figure(text, kind):
    job = json.loads(text[text.index("{"):])["jobs"][0]
    return {"iops": job["write"]["iops"], "mb": job["write"]["bw_bytes"] / 1e6, "read_iops": job["read"]["iops"]}[kind]


class Gluster:
    """Replica 2 in namespaces of its own; None when Debian's package is not there."""

    def __init__(self, folder):
        self.folder = folder
        subprocess.run(["bash", "-c", GLUSTER, "gluster", str(folder)], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=120)

    def run(self, command):
        pid = subprocess.run(["pgrep", "-P", (self.folder / "ga" / "pid").read_text().strip()], text=True,
                             capture_output=True, check=True).stdout.split()[0]
        return subprocess.run(["nsenter", "-t", pid, "-m", "-n", "-u", "-p", "--", "sh", "-c", command], text=True,
                              capture_output=True, check=True, timeout=300).stdout


def alternating(places, measure):
    """measure(run) of each place, in turns: all that was seen, by place."""
    seen = {name: [] for name in places}
    for _ in range(ROUNDS):
        for name, run in places.items():
            seen[name].append(measure(run))
    return seen


def tell(title, seen):
    print(f"{title:34}" + "".join(f"{statistics.median(figures):12.0f}" for figures in seen.values()), flush=True)


def names(places):
    def four(run):
        return [float(rate) for rate in run(f"python3 {HERE}/names.py DIR 5").split()]
    seen = alternating(places, four)
    for number, title in enumerate(NAMES):
        tell(title, {name: [rates[number] for rates in rows] for name, rows in seen.items()})


SCATTERED = f"{mirror.DATA}/scattered"


def scatter(module):
    """1,000 scattered writes of 4 KiB while the secondary is away."""
    first, other = module.nodes
    module.stead(other, "stop")
    module.wait(first, mirror.ALONE)
    first.sh(f"fio --name=scatter --filename={SCATTERED} --rw=randwrite --bs=4k --size=512M "
             "--number_ios=1000 --fsync_on_close=1 --fallocate=none", timeout=120)


def come_back(module):
    """It returns: megabytes moved, seconds."""
    first, other = module.nodes
    before = module.status(first)["stream"]["bytes_out"]
    at = time.monotonic()
    module.stead(other, "start")
    module.wait_ready(first, mirror.PRIM, timeout=60)
    return (module.status(first)["stream"]["bytes_out"] - before) / 1e6, time.monotonic() - at


def resync(module):
    """By itself, then beside a writer of the same file."""
    first = module.nodes[0]
    first.sh(f"fio --name=base --filename={SCATTERED} --rw=write --bs=1M --size=512M --end_fsync=1", timeout=120)
    scatter(module)
    moved, seconds = come_back(module)
    print(f"\nresync after 1,000 random 4 KiB writes in 512 MiB: {moved:.1f} MB in {seconds:.1f} s, start of the node included")
    in_sync, beside = [], []
    for _ in range(mirror_copy.ROUNDS):
        in_sync.append(mirror_copy.beside_writer(first, lambda: time.sleep(4), SCATTERED)[1])
        scatter(module)
        beside.append(mirror_copy.beside_writer(first, lambda: come_back(module), SCATTERED)[1])
    print(f"beside a writer of that file: p95 of its write + fsync {statistics.median(beside):.1f} ms, in sync "
          f"{statistics.median(in_sync):.1f} ms", flush=True)


def main(wanted):
    os.environ.setdefault("STEAD_LAB_SECONDS", "3600")
    with mirror.cluster() as pair:
        module = mirror.Mirror(pair)
        first, _ = module.form()
        (first.disk / "plain").mkdir()
        places = {"ext4": lambda line: first.sh(line.replace("DIR", f"{first.disk}/plain"), timeout=120).stdout,
                  "stead": lambda line: first.sh(line.replace("DIR", mirror.DATA), timeout=120).stdout}
        if shutil.which("glusterd"):
            gluster = Gluster(pair.folder / "gluster")
            mount = f"{pair.folder}/gluster/ga/mnt"
            places["gluster"] = lambda line: gluster.run(line.replace("DIR", mount))
        else:
            print("(GlusterFS is not installed: apt-get install glusterfs-server)")
        print(f"{'':34}" + "".join(f"{name:>12}" for name in places))
        for title, (options, kind) in FIO.items() if "data" in wanted else ():
            line = f"fio --name=b --directory=DIR {options} {COMMON}; rm -f DIR/b.*"
            tell(title, alternating(places, lambda run, line=line, kind=kind: figure(run(line), kind)))
        if "names" in wanted:
            names(places)
        if "postgresql" in wanted and pathlib.Path(mirror_postgres.PROGRAMS).exists():
            volume = (gluster.run, mount) if "gluster" in places else None
            mirror_postgres.measure(module, mirror.DATA, volume)
        elif "postgresql" in wanted:
            print("(PostgreSQL 15 is not installed: apt-get install postgresql-15)")
        if "resync" in wanted:
            resync(module)
        if "copy" in wanted:
            module.stop()
            mirror_copy.measure(pair)


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(PARTS)
    if unknown:
        sys.exit(f"mirror.py: unknown {', '.join(sorted(unknown))}; allowed: {', '.join(PARTS)}")
    main(sys.argv[1:] or PARTS)
