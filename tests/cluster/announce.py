# SPDX-License-Identifier: Apache-2.0
"""One gratuitous ARP request, as a machine sends it that has just taken an address: announce.py DEVICE MAC ADDRESS"""
import socket
import sys

device, mac, ip = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), socket.inet_aton(sys.argv[3])
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind((device, 0))
link.send(b"\xff" * 6 + mac + b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" + mac + ip + bytes(6) + ip)
