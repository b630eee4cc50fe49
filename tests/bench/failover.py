# SPDX-License-Identifier: Apache-2.0
"""Silent death of a node, as a client sees it: Stead's profiles beside keepalived, alternating in one run.

A UDP probe asks every 2 ms from 64 ports; the outage is the span of the questions that nobody answered. keepalived has
one active node, so the active one is cut; of a farm any node may be cut, and only its share is out."""
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE.parent / "cluster")]
import lab  # noqa: E402
import support  # noqa: E402

KEEPALIVED = """global_defs {{
  vrrp_version {version}
}}
vrrp_instance farm {{
  state BACKUP
  interface eth0
  virtual_router_id 51
  priority {priority}
  advert_int {advert}
  virtual_ipaddress {{
    {vip}/16
  }}
}}
"""
RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 5


def probe_through(farm, victim, restore_wait):
    """One cut and one repair; returns the outage in ms."""
    probe = support.udp(farm, "--flows", 64, "--rate", 500, "--seconds", 60, "--deadline-ms", 500)
    farm.client.sh("sleep 1")
    victim.unplug_silently()
    farm.client.sh("sleep 5")
    probe.send_signal(15)
    seen = lab.result(probe)
    victim.plug_back()
    restore_wait()
    return seen["outage_ms"]


def stead(profile):
    outages = []
    with lab.Lab(nodes=3, profile=profile) as farm:
        farm.form_cluster()
        farm.install("echo", support.archive_of(HERE.parent / "cluster" / "echo_farm"),
                     macros={"TRAFFIC": lab.traffic_program(), "PROFILE": profile})
        farm.start("echo")
        support.wait_served(farm)
        for run in range(RUNS):
            outages.append(probe_through(farm, farm.nodes[run % 3], lambda: support.wait_served(farm, timeout=60)))
    return outages


def keepalived(version, advert):
    """Two nodes with one address that moves, default check interval; `version` and `advert` as in keepalived.conf."""
    with lab.Lab(nodes=2) as farm:
        for number, node in enumerate(farm.nodes):
            conf = KEEPALIVED.format(version=version, advert=advert, priority=150 - 50 * number, vip=lab.VIP)
            (node.disk / "keepalived.conf").write_text(conf)
            node.sh("sysctl -qw net.ipv4.ip_nonlocal_bind=1")
            node.spawn(["keepalived", "-n", "-P", "-f", f"{node.disk}/keepalived.conf"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
            farm.traffic("serve", "--name", node.name, "--target", lab.VIP, "--port", support.PORT, host=node)

        def settled():
            lab.wait_for("node1 serves", lambda: support.served_by(farm, {"node1"}), 60)
        settled()
        return [probe_through(farm, farm.nodes[0], settled) for _ in range(RUNS)]


def main():
    os.environ.setdefault("STEAD_LAB_SECONDS", "3000")  # several labs, one after the other
    lab.enter()
    rows = [("keepalived, VRRP 2, 1 s", lambda: keepalived(2, 1)), ("stead, profile default", lambda: stead("default")),
            ("keepalived, VRRP 3, 10 ms", lambda: keepalived(3, 0.01)), ("stead, profile fast", lambda: stead("fast"))]
    print(f"Silent death of a node, outage seen by a client in ms, {RUNS} runs each\n")
    print(f"| {'':28} | min | median | max |\n|{'-' * 30}|-----|--------|-----|")
    for name, run in rows:
        outages = run()
        print(f"| {name:28} | {min(outages)} | {statistics.median(outages):.0f} | {max(outages)} |", flush=True)


if __name__ == "__main__":
    main()
