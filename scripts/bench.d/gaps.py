#!/usr/bin/env python3
"""The client of an upgrade's bench: asks every server it is given again and again, each on its own, and tells how long each
went without an answer. It runs on the clients' network.

  gaps.py ADDRESS:PORT...

A server is a web server; what counts is a new connection with an answer, as for people who come to a page. Prints `ready`
when all have answered, then one JSON object when its standard input ends and all have answered once more.
"""

import json
import socket
import sys
import threading
import time

PAUSE = 0.02
# As long as this one try may take: connections to a frozen container wait, and that is what is measured.
PATIENCE = 120
# How long somebody whose server refuses waits until the next try.
RETRY = 0.05


class Visitor(threading.Thread):
    """Asks one server, and remembers the longest time between two answers."""

    def __init__(self, address):
        super().__init__(daemon=True)
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))
        self.answers, self.failures, self.longest, self.last = 0, 0, 0.0, None
        self.answered_once = threading.Event()
        self.done_after = None

    def run(self):
        while not (self.done_after and self.last and self.last > self.done_after):
            try:
                self.ask()
            except OSError:
                self.failures += 1
                time.sleep(RETRY)
                continue
            now = time.monotonic()
            if self.last is not None:
                self.longest = max(self.longest, now - self.last)
            self.last = now
            self.answers += 1
            self.answered_once.set()
            time.sleep(PAUSE)

    def ask(self):
        with socket.create_connection(self.address, timeout=PATIENCE) as connection:
            connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            if not connection.recv(4096):
                raise ConnectionResetError

    def end(self):
        self.done_after = time.monotonic()


def main():
    visitors = [Visitor(address) for address in sys.argv[1:]]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.answered_once.wait()
    print("ready", flush=True)
    sys.stdin.read()
    for visitor in visitors:
        visitor.end()
    for visitor in visitors:
        visitor.join()
    print(json.dumps([{"longest_s": one.longest, "answers": one.answers, "failures": one.failures} for one in visitors]))


main()
