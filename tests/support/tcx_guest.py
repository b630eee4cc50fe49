# SPDX-License-Identifier: Apache-2.0
"""Holds a tcx program called guest_tcx, which lets everything pass, on one interface until it is killed.

usage: tcx_guest.py INTERFACE; prints "attached". tcx is newer than Debian 12's tools, so by the system call itself."""
import ctypes
import os
import platform
import signal
import socket
import struct
import sys

PROG_LOAD, LINK_CREATE, SCHED_CLS, TCX_INGRESS = 5, 28, 3, 46
BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]


def bpf(command, attributes):
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    fd = libc.syscall(BPF, command, buffer, len(attributes))
    if fd < 0:
        sys.exit(f"bpf({command}): {os.strerror(ctypes.get_errno())}")
    return fd


code = ctypes.create_string_buffer(struct.pack("<BBhi", 0xb7, 0, 0, -1) + struct.pack("<BBhi", 0x95, 0, 0, 0))
licence = ctypes.create_string_buffer(b"GPL")
load = struct.pack("<IIQQIIQII16s", SCHED_CLS, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0,
                   b"guest_tcx")
program = bpf(PROG_LOAD, load)
link = bpf(LINK_CREATE, struct.pack("<IIII16x", program, socket.if_nametoindex(sys.argv[1]), TCX_INGRESS, 0))
print("attached", flush=True)
signal.pause()
