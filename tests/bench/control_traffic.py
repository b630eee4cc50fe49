# SPDX-License-Identifier: Apache-2.0
"""Control traffic and processor time of the daemons at rest, for as many real nodes as fit; 64 is computed from it."""
import json
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
import lab  # noqa: E402

SECONDS = 10


def cpu_s(node):
    """Processor seconds of this node's daemons so far, by the scheduler's own count: ticks miss what sleeps early."""
    total = 0
    for name in ("steadd", "stead-host"):
        for pid in node.processes(name):
            total += sum(int(line.split()[0]) for line in node.sh(f"cat /proc/{pid}/task/*/schedstat").stdout.splitlines())
    return total / 1e9


def received(node):
    return json.loads(node.sh("ip -j -s link show eth0").stdout)[0]["stats64"]["rx"]["bytes"]


def main():
    os.environ.setdefault("STEAD_LAB_SECONDS", "3000")  # several labs, one after the other
    lab.enter()
    print("| nodes | received per node and bus, kbit/s | share of one core per node, % |\n|---|---|---|")
    points = []
    for count in (3, 6, 12):
        with lab.Lab(nodes=count) as farm:
            farm.form_cluster()
            lab.wait_for("one view", lambda: all(farm.nodes[0].stead("cluster state", check=False).stdout.count(node.name)
                                                 for node in farm.nodes), 30)
            farm.client.sh("sleep 3")
            node = farm.nodes[0]
            bytes_before, cpu_before = received(node), cpu_s(node)
            farm.client.sh(f"sleep {SECONDS}")
            kbit = (received(node) - bytes_before) * 8 / SECONDS / 1000
            cpu = 100 * (cpu_s(node) - cpu_before) / SECONDS
            print(f"| {count} | {kbit:.0f} | {cpu:.2f} |", flush=True)
            points.append((count, cpu))
    (few, low), (many, high) = points[0], points[-1]
    cpu = high + (high - low) * (64 - many) / (many - few)
    print(f"| 64 (computed: linear in the nodes; a heartbeat grows to 450 bytes) | "
          f"{63 * 20 * (450 + 46) * 8 / 1000:.0f} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
