"""Has an emulator do something: qmp.py SOCKET COMMAND..., each command as JSON.

Waits after `migrate` and `migrate-incoming` until the state is written or read; prints what the last command returned.
What the emulator speaks: https://www.qemu.org/docs/master/interop/qmp-spec.html
"""

import json
import socket
import sys

PATIENCE = 120  # seconds without a word


class Emulator:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r")
        self.events = []
        json.loads(self.lines.readline())
        self.ask({"execute": "qmp_capabilities"})

    def say(self):
        """The next thing that it says; an event is kept as well."""
        line = self.lines.readline()
        if not line:
            sys.exit("the emulator has ended")
        said = json.loads(line)
        if "event" in said:
            self.events.append(said)
        return said

    def ask(self, command):
        self.socket.sendall(json.dumps(command).encode() + b"\n")
        while True:
            said = self.say()
            if "error" in said:
                sys.exit(f"{command['execute']}: {said['error']['desc']}")
            if "return" in said:
                return said["return"]

    def wait_for_migration(self):
        """Needs the capability `events`."""
        while True:
            for event in self.events:
                status = event["data"].get("status") if event["event"] == "MIGRATION" else None
                if status == "completed":
                    return
                if status in ("failed", "cancelled"):
                    sys.exit(f"the state could not be moved: {self.ask({'execute': 'query-migrate'})}")
            self.events.clear()
            self.say()


def main():
    emulator = Emulator(sys.argv[1])
    answer = {}
    for text in sys.argv[2:]:
        command = json.loads(text)
        answer = emulator.ask(command)
        if command["execute"] in ("migrate", "migrate-incoming"):
            emulator.wait_for_migration()
    print(json.dumps(answer))


main()
