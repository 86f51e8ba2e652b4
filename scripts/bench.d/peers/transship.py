"""This tool, on today's Docker: through a published port, as containers are reached ordinarily."""

import json
import time

from . import Tool

# Seconds, and as many more for each 256 MiB.
COMPRESSED_WITHIN = 10
STORE = "/var/lib/transship"


class Transship(Tool):
    key = "transship"
    name = "transship"

    def prepare(self):
        self.host = self.lab.host("bench", "sid")
        self.holder_image(self.host)
        self.version = self.host.output("transship --version; docker version -f 'Docker {{.Server.Version}}'")

    def start(self, mib):
        self.mib = mib
        self.empty = self.bytes_of(STORE)
        self.host.shell('docker run -d --name bench-t -p 7000:7000 bench-holder /holder 7000 "$1"', str(mib))
        return f"{self.host.address}:7000"

    def checkpoint(self):
        return "transship --json checkpoint bench-t 2>>/dev/null"

    def restore(self):
        return "transship --json restore bench-t 2>>/dev/null"

    def own(self, output):
        answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return {"downtime_s": answers[-1]["containers"][0]["downtime_us"] / 1e6, "answers": answers}

    def disk(self):
        return self.bytes_of(STORE) - self.empty

    def listed(self):
        return json.loads(self.host.output("transship --json ls"))["checkpoints"]

    def settle(self):
        """Compression goes on after the restore; whether it came to its end is given."""
        deadline = time.monotonic() + COMPRESSED_WITHIN * (1 + self.mib / 256)
        while any(one["state"] != "compressed" for one in self.listed()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def forget(self):
        """Removes the checkpoints that are no longer needed."""
        for one in self.listed():
            self.host.shell('transship rm --force "$1"', one["id"], check=False)

    def stop(self):
        self.host.shell("docker rm -f bench-t", check=False)
        self.forget()
