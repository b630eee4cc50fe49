#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every system call on every kind of file, by three users, on ext4 and on a mirror of the same disk: same answers, same changes,
same times moved. At the end the secondary has the same tree. STEAD_LONG: all cases, else every fifth of them, drawn.
Usage: test_mirror_posix.py [CALL]"""
import os
import random
import sys
import time

import mirror_posix
from support import check, lab
from test_mirror_fsx import LONG, Life

# Differences that are known: (call, predicate), reason.
KNOWN = [
    ("fallocate", lambda arguments: arguments[1] >= 1 << 61, "an owner's takes set-uid before FUSE hears that no file can be so large"),
]
# Answers that may differ where nothing is changed: (call, first arguments after the path, on ext4, on the mirror), reason.
ANSWERS = [
    ("chown", (-1, -1), ("EPERM", {}), (None, {}), "a stranger's on a set-uid file: FUSE asks for the same ahead of a write"),
]
# Never left to the draw: what takes set-uid away, by whom.
ALWAYS = [(user, name, (path, *arguments)) for user in ("root", "a", "b") for path in ("suid", "suidb", "sgid")
          for name, arguments in (("chown", (-1, -1, True)), ("write", (b"x",)), ("fallocate", (0, 10, 0)), ("copy", ()))]


def known(name, arguments):
    return any(call == name and applies(arguments) for call, applies, _ in KNOWN)


def alike(name, arguments, one, other):
    return one == other or any((name, one, other) == (call, plain, mirrored) and arguments[1:1 + len(given)] == given
                               for call, given, plain, mirrored, _ in ANSWERS)


def compare(plain, mirrored, only):
    every = list(mirror_posix.cases())
    if only:
        every = [case for case in every if case[1] == only]
    elif not LONG:
        seed = lab.seed("STEAD_POSIX_SEED")
        print(f"STEAD_POSIX_SEED={seed}", flush=True)
        every = ALWAYS + random.Random(seed).sample(every, len(every) // 8)
    wrong, rebuilt, began = {}, 0, time.monotonic()
    for user, name, arguments in every:
        if known(name, arguments):
            continue
        one, other = (keeper.act(user, name, arguments) for keeper in (plain, mirrored))
        if not alike(name, arguments, one, other):
            wrong.setdefault(name, []).append((user, name, [str(a)[:40] for a in arguments], one, other))
        if one[1] or other[1]:
            rebuilt += 1
            plain.again()
            mirrored.again()
    print(f"{len(every)} calls, {rebuilt} of them changed something, {time.monotonic() - began:.0f} s", flush=True)
    for name, cases in wrong.items():
        print(f"{name}: {len(cases)} differ")
        for user, _, arguments, one, other in cases[:12]:
            print(f"  {user}: {name}{tuple(arguments)}:\n    ext4:   {str(one)[:600]}\n    mirror: {str(other)[:600]}")
    return sum(map(len, wrong.values()))


def run(life, only):
    plain = life.pair.disk(0) / "plain"
    plain.mkdir()
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            life.spaces.enter(0)
            plain_there, mirrored_there = f"/srv/{life.pair.name}/plain", f"{life.pair.place}/zoo"
            os.mkdir(mirrored_there)
            keepers = [mirror_posix.Keeper(lambda: None, root) for root in (plain_there, mirrored_there)]
            code = 1 if compare(*keepers, only) else 0
            for keeper in keepers:
                keeper.end()
        except BaseException:  # noqa: BLE001
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    ended = []

    def over():
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            ended.append(os.waitstatus_to_exitcode(status))
        return ended
    life.pair.wait("all calls", over, 3000)
    life.equal("after all calls")
    check(ended[0] == 0, "ext4 and the mirror answer alike")


if __name__ == "__main__":
    os.environ.setdefault("STEAD_LAB_SECONDS", "3000")
    lab.enter()
    with Life() as one:
        run(one, sys.argv[1] if len(sys.argv) > 1 else "")
