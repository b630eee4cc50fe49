# SPDX-License-Identifier: Apache-2.0
"""Held and new connections and datagrams round one action, for the farm's tests."""
import time

from support import PORT, check, lab, tcp, udp

SIX = ("--target", lab.VIP6, "--port", PORT, "--sources", "fd42::c:1+50")


def load(farm, action, hold=300, rate=200, seconds=60, six=False, before=1.5, after=1.5, deadline=900):
    """Runs `action` under load; returns the summaries of the connections and of the datagrams."""
    start = (lambda mode, *more: farm.traffic(mode, *SIX, *more)) if six else (
        lambda mode, *more: (tcp if mode == "tcp" else udp)(farm, *more))
    held = start("tcp", "--rate", rate, "--hold", hold, "--seconds", seconds, "--deadline-ms", deadline)
    probe = start("udp", "--flows", 300, "--rate", 400, "--seconds", seconds, "--deadline-ms", deadline)
    time.sleep(before)  # the experiment's length, not a wait for something
    action()
    time.sleep(after)
    held.send_signal(15)
    probe.send_signal(15)
    return lab.result(held), lab.result(probe)


def nothing_lost(what, seen, datagrams, but_of=()):
    """`but_of`: nodes whose own held connections may end (they died, or their drain was over)."""
    broken = {name: count for name, count in seen["broken_by"].items() if name not in but_of}
    check(not broken, f"{what}: no connection of {'the others' if but_of else 'anybody'} broken "
                      f"({seen['broken_by']} {seen['reasons']})")
    check(seen["failed"] == 0, f"{what}: 0 of {seen['opened']} new connections failed or slow ({seen['reasons']})")
    check(datagrams["unanswered"] == 0, f"{what}: 0 of {datagrams['sent']} datagrams lost ({datagrams})")
    check(datagrams["answered_more"] == 0, f"{what}: no datagram answered twice")
