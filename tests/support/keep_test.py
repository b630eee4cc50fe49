#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A lab that is kept (scripts/demo --keep) stays until its input ends, also beyond the time that a lab of a test has."""
import os
import pathlib
import signal
import threading
from types import SimpleNamespace

import lab

reader, writer = os.pipe()
os.dup2(reader, 0)
signal.signal(signal.SIGALRM, lab.out_of_time)
signal.alarm(1)
threading.Timer(1.5, os.close, [writer]).start()
node = SimpleNamespace(name="node1", tag=lambda: "stead-lab-x-node1", disk=pathlib.Path("/nowhere"))
lab.keep(SimpleNamespace(nodes=[node], client=node), ["stead state"])
