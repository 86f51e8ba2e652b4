#!/usr/bin/env python3
"""A client that comes anew each time: asks every server it is given again and again, each on its own, and tells how long each
went without an answer. It runs on the clients' network.

  gaps.py [--ask LINE] [--patience SECONDS] ADDRESS:PORT...

A server is a web server, or one that answers the line; what counts is a new connection with an answer, as for people who come
to a page. Prints `ready` when all have answered, then one JSON object when its standard input ends and all have answered once
more.
"""

import argparse
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

    def __init__(self, address, question, patience):
        super().__init__(daemon=True)
        self.question, self.patience = question, patience
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
        with socket.create_connection(self.address, timeout=self.patience) as connection:
            connection.sendall(self.question)
            if not connection.recv(4096):
                raise ConnectionResetError

    def end(self):
        self.done_after = time.monotonic()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ask")
    parser.add_argument("--patience", type=float, default=PATIENCE)
    parser.add_argument("servers", nargs="+")
    given = parser.parse_args()
    question = f"{given.ask}\n".encode() if given.ask else b"HEAD / HTTP/1.0\r\n\r\n"
    visitors = [Visitor(address, question, given.patience) for address in given.servers]
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
