# SPDX-License-Identifier: Apache-2.0
"""What really leaves a machine of the lab: every frame that its switch port takes in."""
import socket
import threading

OUTGOING, ETH_P_ALL = 4, 3


class Capture:
    """Collects the frames that come out of one host, from entry to exit of the block."""

    def __init__(self, host, lan="default"):
        self.frames = []
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.bind((host.port(lan), ETH_P_ALL))
        self.socket.settimeout(0.1)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.ended.is_set():
            try:
                data, address = self.socket.recvfrom(65536)
            except TimeoutError:
                continue
            if address[2] != OUTGOING:
                self.frames.append(data)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.socket.close()

    def sources(self):
        """Source MACs."""
        return {mac(frame[6:12]) for frame in self.frames}

    def arp_requests(self):
        """(sender address, target address) of each."""
        return [(socket.inet_ntoa(frame[28:32]), socket.inet_ntoa(frame[38:42])) for frame in self.frames
                if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x01"]

    def solicitations(self):
        """(source address, target address) of each neighbour solicitation."""
        return [(six(frame[22:38]), six(frame[62:78])) for frame in self.frames
                if frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 135]


def mac(six_bytes):
    return ":".join(f"{byte:02x}" for byte in six_bytes)


def six(sixteen_bytes):
    return socket.inet_ntop(socket.AF_INET6, sixteen_bytes)
