# SPDX-License-Identifier: Apache-2.0
"""What the cluster tests share: a running three-node echo farm, and checks that name what they saw."""
import contextlib
import pathlib
import re
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import lab  # noqa: E402

PORT = 7000


def check(condition, text):
    if not condition:
        raise AssertionError(text)
    print(f"ok: {text}", flush=True)


def archive_of(folder):
    """A .safe of a module's sources, as any zip tool would make it."""
    path = lab.temporary("safe") / f"{folder.name}.safe"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


@contextlib.contextmanager
def echo_farm(nodes=3, start=True, lans=("default",), **macros):
    lab.enter()
    with lab.Lab(nodes=nodes, lans=lans) as farm:
        farm.form_cluster()
        farm.install("echo", archive_of(HERE / "echo_farm"),
                     macros={"TRAFFIC": lab.traffic_program(), **macros})
        if start:
            farm.start("echo")
            wait_served(farm)
        yield farm


def udp(farm, *arguments, **options):
    return farm.traffic("udp", "--target", lab.VIP, "--port", PORT, "--sources", lab.CLIENTS, *arguments, **options)


def tcp(farm, *arguments, **options):
    return farm.traffic("tcp", "--target", lab.VIP, "--port", PORT, "--sources", lab.CLIENTS, *arguments, **options)


def served_by(farm, wanted):
    """Is every datagram answered once, by exactly these nodes?"""
    seen = lab.result(udp(farm, "--flows", 300, "--rate", 3000, "--count", 300, "--deadline-ms", 200))
    return seen["unanswered"] == 0 and seen["answered_more"] == 0 and set(seen["names"]) == wanted


def wait_served(farm, names=None, timeout=15):
    """Until the farm has settled: one view of these nodes, and all of them serve."""
    wanted = set(names or [node.name for node in farm.nodes])

    def one_view():
        """Two halves that just met again can answer everything once, by luck: ask the nodes as well."""
        return all(f"view: {' '.join(sorted(wanted))} (" in node.stead("state -m echo -v", check=False).stdout
                   for node in farm.nodes if node.name in wanted)
    lab.wait_for(f"one view of {sorted(wanted)}", one_view, timeout)
    lab.wait_for(f"traffic served by {sorted(wanted)}", lambda: served_by(farm, wanted), timeout)


def shares(seen):
    total = sum(seen["names"].values())
    return {name: round(100 * count / total, 2) for name, count in seen["names"].items()}


def check_shares(seen, weights, tolerance=2.0):
    total = sum(weights.values())
    got = shares(seen)
    for name, weight in weights.items():
        wanted = 100 * weight / total
        check(abs(got.get(name, 0) - wanted) <= tolerance, f"{name} serves {got.get(name, 0)} %, wanted {wanted:.1f} %")


def lapses(farm):
    """How near each node came to losing its lease, and what its filter then refused: what a loss is judged by."""
    told = []
    for node in farm.nodes:
        shown = node.stead("state -m echo -v", check=False).stdout
        words = re.findall(r"(lease_lapses|late_timers|lateness_max_ns|silence_max_ns) +(\d+)", shown)
        closed = re.findall(r"lease-closed (\d+)", shown)
        gate = re.findall(r"last gate after the lease: (\d+)", shown)
        figures = [*words, ("lease-closed", "+".join(closed + gate))]
        busiest = node.sh("ps -eLo comm,cputimes --no-headers --sort=-cputimes | head -3", check=False).stdout.split()
        told.append(f"{node.name}: " + ", ".join(f"{name} {value}" for name, value in figures) + drops(node) +
                    f", busiest threads (s) {' '.join(busiest)}")
    known = farm.client.sh(f"ip neigh show {lab.VIP}", check=False).stdout.strip()
    return "; ".join(told) + f"; client:{drops(farm.client)}, the address is at {known}"


def drops(host):
    """What the kernel dropped because somebody did not read in time. The backlogs are those of the whole machine, since
    it started: frames that the lab's own cables lost."""
    shown = host.sh("cat /proc/net/netfilter/nfnetlink_queue", check=False).stdout
    queue = [line.split() for line in shown.splitlines()]
    lines = [line.split() for line in host.sh("grep ^Udp: /proc/net/snmp").stdout.splitlines()]
    udp_counts = dict(zip(*lines))
    tcp_lines = [line.split() for line in host.sh("grep ^TcpExt: /proc/net/netstat").stdout.splitlines()]
    tcp_counts = dict(zip(*tcp_lines))
    backlog = sum(int(line.split()[1], 16) for line in host.sh("cat /proc/net/softnet_stat").stdout.splitlines())
    return (f", in the queue {sum(int(one[2]) for one in queue)}, queue full {sum(int(one[5]) for one in queue)}, its reader slow {sum(int(one[6]) for one in queue)}, "
            f"udp sockets full {udp_counts['RcvbufErrors']}, listeners full {tcp_counts['ListenOverflows']}, "
            f"SYNs dropped {tcp_counts['ListenDrops']}, backlog full (machine) {backlog}")


def exactly_once(seen, farm=None):
    """With the farm, a failure tells how near its nodes came to losing their leases."""
    why = f"; {lapses(farm)}" if farm is not None and seen["unanswered"] != 0 else ""
    check(seen["unanswered"] == 0, f"every datagram answered ({seen['unanswered']} of {seen['sent']} were not{why})")
    check(seen["answered_more"] == 0, f"no datagram answered twice ({seen['answered_more']} were)")
