"""podman: export, copy, import, as its manual has it for another host."""

import subprocess

from lab import LAB, LabError, Newcomer
from peers import podman

from .mover import PORT, ByHand

FILE = f"{podman.HOME}/bench.tar"


class Podman(ByHand):
    key, name = "podman", "podman, to new connections"
    Tool = podman.Podman
    network, inside = "10.88.0.0/16", "10.88.0.99/7000"

    def client(self, address):
        """Open connections do not live on: what the container says first on the other host is masqueraded there."""
        return Newcomer(address)

    def prepare(self):
        """Both get ready; and the image is on both under the same id, as it would be from a registry."""
        super().prepare()
        save = f"{podman.QUIET} podman save bench-holder"
        load = f"{podman.QUIET} podman rmi -f bench-holder >/dev/null; podman load -q"
        with subprocess.Popen([LAB, "exec", self.source.name, "bash", "-c", save], stdout=subprocess.PIPE) as saved:
            done = subprocess.run([LAB, "exec", self.destination.name, "bash", "-c", load], stdin=saved.stdout, capture_output=True)
        if done.returncode != 0:
            raise LabError(f"podman's image cannot be copied: {done.stderr.decode().strip()[-300:]}")

    def send(self):
        return f"{self.here.checkpoint()} >/dev/null; nc -N {self.destination.address} {PORT} <{FILE}"

    def receive(self):
        restore = f"podman container restore --tcp-established --import {FILE} >/dev/null"
        return f"{podman.QUIET} nc -l {PORT} >{FILE}; {restore}"
