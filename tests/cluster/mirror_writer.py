# SPDX-License-Identifier: Apache-2.0
"""An application of a mirror: appends numbered lines to files below a folder and says each number that was acknowledged.
Usage: mirror_writer.py FOLDER FIRST sync|write [files]. `sync`: acknowledged when fsync returned."""
import os
import sys

folder, first, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
files = int(sys.argv[4]) if len(sys.argv) > 4 else 3
number = first
try:
    logs = [os.open(f"{folder}/log{i}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for i in range(files)]
    while True:
        fd = logs[number % files]
        os.write(fd, b"%012d some payload that makes the line a bit longer than its number\n" % number)
        if mode == "sync":
            os.fsync(fd)
        if number % 50 == 0:  # names as well
            mine = f"{folder}/mark{first}"  # others may write here too
            os.rename(mine, f"{mine}.old") if os.path.exists(mine) else None
            with open(mine, "w", encoding="ascii") as mark:
                mark.write(str(number))
                mark.flush()
                os.fsync(mark.fileno())
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1
except OSError as error:
    sys.stdout.write(f"error {error.errno} after {number}\n")
    sys.stdout.flush()
