# SPDX-License-Identifier: Apache-2.0
"""names.py DIR SECONDS: how many files of 4 KiB a second are made in DIR, then asked for, renamed and removed, one by one; a
line of four figures. Few files: ext4 without a journal looks for a free inode among those removed in the last minutes, one by
one, so that a subject would pay for what the one before it has removed."""
import os
import sys
import time

FILES = 2000


def rate(seconds, step, limit):
    """Calls step(0), step(1) ... below `limit` for at most `seconds`; calls a second, and how many."""
    begin, number = time.monotonic(), 0
    while number < limit and time.monotonic() - begin < seconds:
        step(number)
        number += 1
    return number / (time.monotonic() - begin), number


def main(folder, seconds):
    block = b"x" * 4096
    os.chdir(folder)

    def make(number):
        file = os.open(f"n{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(file, block)
        os.close(file)

    made, files = rate(seconds, make, FILES)
    asked, _ = rate(seconds, lambda number: os.stat(f"n{number % files}"), 10_000_000)
    renamed, moved = rate(seconds, lambda number: os.rename(f"n{number}", f"m{number}"), files)
    removed, _ = rate(seconds, lambda number: os.unlink(f"m{number}"), moved)
    for name in os.listdir("."):
        if name[0] in "nm" and name[1:].isdigit():
            os.unlink(name)
    print(f"{made:.0f} {asked:.0f} {renamed:.0f} {removed:.0f}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
