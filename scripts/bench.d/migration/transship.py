"""This tool: one command, and clients stay where they are, at a port of the source."""

import json
import pathlib
import re

from lab import LabError
from measure import status

from .mover import Mover

CONTAINER = "bench-m"


class Transship(Mover):
    key, name = "transship", "transship migrate"
    inside = "127.0.0.1/7000"

    def prepare(self):
        for host in self.hosts:
            host.image("bench-holder", "libc6", "libgcc-s1", "--copy", f"{self.lab.program('holder')}:/holder")

    def modes(self):
        """Those of this version, without the one that chooses among them."""
        told = self.source.output("transship migrate --help")
        values = re.search(r"--mode.*?possible values: ([^\]]*)\]", told, re.DOTALL)
        listed = re.findall(r"^ *- ([a-z-]+):", told, re.MULTILINE) if "--mode" in told else []
        known = ("stop-and-copy", "pre-copy", "post-copy")
        words = re.split(r"[,\s]+", values[1]) if values else listed
        return [mode for mode in known if mode in words] or [known[0]]

    def start(self, mib, dirtied):
        self.source.shell('docker run -d --name "$1" -p 7000:7000 bench-holder /holder 7000 "$2" "$3"',
                          CONTAINER, str(mib), str(dirtied))
        return f"{self.source.address}:7000"

    def move(self, mode, *options):
        words = ["--mode", mode] if len(self.modes()) > 1 else []
        before = [memory(host) for host in self.hosts]
        done = self.source.shell('transship --json migrate "$@"', CONTAINER, "--to", self.destination.name, *words, *options,
                                 check=False)
        if done.returncode != 0:
            raise LabError(f"{self.name}: {(done.stdout or done.stderr).strip()[-500:]}")
        lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        steps = {line["name"]: line["microseconds"] / 1e6 for line in lines if line["type"] == "step-ended"}
        answer = json.loads(done.stdout)["containers"][0]
        grown = [peak(host, was) for host, was in zip(self.hosts, before)]
        return {"steps_s": steps, "sent_bytes": answer["sent_bytes"], "downtime_s": (answer["downtime_us"] or 0) / 1e6,
                "grown_kib": grown}

    def stop(self):
        self.source.shell(f"transship forward rm {CONTAINER}", check=False)
        for host in self.hosts:
            host.shell(f"docker rm -f {CONTAINER}", check=False)


def helpers(host):
    """The helper's processes, by their pids as this machine counts: itself and its port."""
    found = []
    for pid in host.processes():
        try:
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "transshipd":
                found.append(pid)
        except OSError:
            pass
    return found


def memory(host):
    """What the helper's processes use while nothing is to be done, in KiB; their peaks are forgotten."""
    used = {}
    for pid in helpers(host):
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
        used[pid] = status(pid)["VmRSS"]
    return used


def peak(host, before):
    """By how much they have used more since, at the most."""
    return sum(status(pid)["VmHWM"] - before.get(pid, 0) for pid in helpers(host))
