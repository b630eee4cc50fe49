# SPDX-License-Identifier: Apache-2.0
"""A mirror of 512 MiB and 3,000 small files gets its second node: megabytes a second beside tar over a socket on the same link
(both until the disk has it), and what a writer feels of it."""
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "cluster"), str(HERE.parent / "support")]
import mirror  # noqa: E402

ROUNDS = 3
COPY = "/srv/copy"
MEGABYTES = 512 * 1.048576 + 3000 * 0.02
# Not removed: ext4 without a journal is slow where it would use an inode again that was removed within five minutes.
AWAY = f'away=$(mktemp -d /srv/away.XXXXXX); for one in /srv/tar {COPY}*; do [ ! -e "$one" ] || mv "$one" $away; done'
FILL = (f"head -c 512M /dev/urandom >{COPY}/big; mkdir {COPY}/small; cd {COPY}/small; "
        "for i in $(seq 3000); do head -c 20000 /dev/urandom >$i; done; sync -f .")
RECEIVE = ("import socket, subprocess; s = socket.create_server(('', 7777)); print('ready', flush=True); c, _ = s.accept(); "
           "subprocess.run(['tar', 'x', '-C', '/srv/tar'], stdin=c.makefile('rb'), check=True); "
           "subprocess.run(['sync', '-f', '/srv/tar'], check=True)")
SEND = ("import socket, subprocess, sys; c = socket.create_connection((sys.argv[1], 7777)); "
        "subprocess.run(['tar', 'c', '-C', sys.argv[2], '.'], stdout=c.fileno(), check=True)")
WRITER = r"""
import os, random, signal, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
size = max(16 << 20, os.fstat(file).st_size)
os.truncate(file, size)
took, over = [], []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
while not over:
    at = time.monotonic()
    os.pwrite(file, os.urandom(4096), random.randrange(size // 4096) * 4096)
    os.fsync(file)
    took.append(time.monotonic() - at)
    time.sleep(0.003)
took.sort()
print(1000 * took[len(took) * 95 // 100])
"""


def tar(first, other):
    other.sh(f"{AWAY}; mkdir /srv/tar; sync -f /srv", timeout=120)
    receiver = other.spawn(["python3", "-c", RECEIVE], stdout=-1)
    receiver.stdout.readline()
    at = time.monotonic()
    first.sh(f'python3 -c "{SEND}" {other.address()} {COPY}', timeout=120)
    receiver.wait(120)
    return MEGABYTES / (time.monotonic() - at)


def full(module):
    """The second node begins with nothing."""
    other = module.nodes[1]
    if other.state(module.name) != mirror.STOP:
        module.stead(other, "stop")
    other.sh(f"{AWAY}; rm -rf /var/lib/stead/modules/{module.name}/var/mirror; mkdir {COPY}; sync -f /srv", timeout=120)
    at = time.monotonic()
    module.stead(other, "second")
    module.wait_ready(other, mirror.SECOND, timeout=300)
    return MEGABYTES / (time.monotonic() - at)


def beside_writer(first, run, file=f"{COPY}/live"):
    """What `run` gives, and the p95 of a write in `file` and its fsync meanwhile, in milliseconds."""
    writer = first.spawn(["python3", "-c", WRITER, file], own_pids=False, stdout=-1)
    result = run()
    writer.terminate()
    return result, float(writer.communicate(timeout=60)[0])


def measure(pair):
    first, other = pair.nodes[:2]
    for node in (first, other):
        node.sh(f"mkdir -p {COPY}")
    xml = mirror.mirror_xml(vip=False, replicated=f'<replicated dir="{COPY}"/>')
    module = mirror.Mirror(pair, name="copy", module_id=2, xml=xml)
    module.stead(first, "prim")
    module.wait_ready(first, mirror.ALONE)
    first.sh(FILL, timeout=300)
    rates = [(tar(first, other), full(module)) for _ in range(ROUNDS)]
    in_sync = beside_writer(first, lambda: time.sleep(8))[1]
    loaded = [beside_writer(first, lambda: full(module)) for _ in range(ROUNDS)]
    text = ", ".join(f"{copied:.0f} ({beside:.0f})" for beside, copied in rates)
    print(f"\nfull copy, MB/s with the start of the node (tar over a socket): {text}")
    print(f"beside a writer: {statistics.median(rate for rate, _ in loaded):.0f} MB/s; p95 of its write + fsync "
          f"{statistics.median(p95 for _, p95 in loaded):.1f} ms, in sync {in_sync:.1f} ms", flush=True)
