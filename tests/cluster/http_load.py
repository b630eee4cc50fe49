# SPDX-License-Identifier: Apache-2.0
"""New HTTP connections at a steady rate, one after the other from many addresses; prints one JSON line per connection:
[begin, end, outcome, node]. Times are CLOCK_MONOTONIC seconds, outcomes ok, refused, reset, silent, closed, other.

    http_load.py TARGET PORT RATE SECONDS
"""
import json
import selectors
import socket
import sys
import time

SOURCES = [f"10.42.100.{i}" for i in range(1, 200)]
SILENT_AFTER = 3.0


class Connection:
    def __init__(self, target, port, source):
        self.begin, self.answer, self.asked = time.monotonic(), b"", False
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.bind((source, 0))
        self.socket.connect_ex((target, port))

    def step(self):
        """The outcome, once there is one."""
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            return {111: "refused", 104: "reset"}.get(error, "other")
        try:
            if not self.asked:
                self.socket.send(b"GET / HTTP/1.0\r\n\r\n")
                self.asked = True
            part = self.socket.recv(4096)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return "reset"
        self.answer += part
        return None if part else "ok" if self.answer.startswith(b"HTTP/1.1 200") else "closed"


def run(target, port, rate, seconds):
    waiting, live, count = selectors.DefaultSelector(), set(), 0
    begin = time.monotonic()

    def end(connection, outcome):
        waiting.unregister(connection.socket)
        connection.socket.close()
        live.discard(connection)
        body = connection.answer.decode("utf-8", "replace").split("\r\n\r\n", 1)[-1].strip()
        print(json.dumps([connection.begin, time.monotonic(), outcome, body[:40]]), flush=True)

    while True:
        now = time.monotonic()
        while count < (now - begin) * rate and now - begin < seconds:
            connection = Connection(target, port, SOURCES[count % len(SOURCES)])
            waiting.register(connection.socket, selectors.EVENT_WRITE, connection)
            live.add(connection)
            count += 1
        if now - begin >= seconds and not live:
            return
        for key, _ in waiting.select(0.002):
            connection = key.data
            outcome = connection.step()
            if outcome:
                end(connection, outcome)
            elif connection.asked:
                waiting.modify(connection.socket, selectors.EVENT_READ, connection)
        for connection in [one for one in live if now - one.begin > SILENT_AFTER]:
            end(connection, "silent")


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
