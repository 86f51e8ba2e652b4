"""This tool, on today's Docker: by the container's address, like the others; and through a published port, which costs
Docker rules and proxies of its own, as containers are reached ordinarily."""

import json
import time

from . import Tool

# Seconds, and as many more for each 256 MiB.
COMPRESSED_WITHIN = 10
STORE = "/var/lib/transship"
# Docker 28 lets nobody from outside reach a container's own address unless its network says so.
NETWORK, SUBNET, ADDRESS = "bench-open", "10.66.0.0/24", "10.66.0.9"


class Transship(Tool):
    key = "transship"
    name = "transship"
    container = "bench-t"

    def prepare(self):
        self.host = self.lab.host("bench", "sid")
        self.holder_image(self.host)
        self.lab.route(SUBNET, self.host)
        self.host.shell("""docker network inspect "$1" >/dev/null 2>&1 || docker network create --subnet "$2" \\
            -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected "$1" """, NETWORK, SUBNET)
        self.version = self.host.output("transship --version; docker version -f 'Docker {{.Server.Version}}'")

    def start(self, mib):
        self.mib = mib
        self.empty = self.bytes_of(STORE)
        self.host.shell('docker run -d --name "$1" --network "$2" --ip "$3" bench-holder /holder 7000 "$4"',
                        self.container, NETWORK, ADDRESS, str(mib))
        return f"{ADDRESS}:7000"

    def checkpoint(self):
        return f"transship --json checkpoint {self.container} 2>>/dev/null"

    def restore(self):
        return f"transship --json restore {self.container} 2>>/dev/null"

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
        self.host.shell(f"docker rm -f {self.container}", check=False)
        self.forget()


class Published(Transship):
    key = "published"
    name = "transship, -p"
    container = "bench-tp"

    def start(self, mib):
        self.mib = mib
        self.empty = self.bytes_of(STORE)
        self.host.shell('docker run -d --name "$1" -p 7000:7000 bench-holder /holder 7000 "$2"', self.container, str(mib))
        return f"{self.host.address}:7000"
