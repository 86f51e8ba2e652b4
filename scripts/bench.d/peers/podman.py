"""podman as Debian has it: checkpoint to a file, remove, restore from the file. Reached by its own address."""

from . import Tool, Unavailable
from lab import LabError

HOME = "/var/lib/docker/bench-podman"
QUIET = "export PODMAN_IGNORE_CGROUPSV1_WARNING=1;"


class Podman(Tool):
    key = "podman"
    name = "podman"

    def prepare(self):
        self.lab.route("10.88.0.0/16", self.ready_on(self.lab.host("bench", "sid")))

    def ready_on(self, host):
        """Gets it ready on a host, which is then the tool's."""
        self.host = host
        self.holder_image(self.host)
        self.host.image("bench-tiny", "--tiny")
        try:
            self.host.install("podman", "crun", "libcriu2", "conmon", "netavark", "aardvark-dns")
        except LabError as error:
            raise Unavailable(str(error)) from error
        # Its storage must not lie on an overlay. Another container keeps the bridge, as on any host with several.
        self.host.shell(f"""set -e; {QUIET}
            mkdir -p {HOME}/storage /var/lib/containers
            mountpoint -q /var/lib/containers || mount --bind {HOME}/storage /var/lib/containers
            podman image exists bench-holder || docker save bench-holder bench-tiny | podman load
            podman container exists bench-bridge || podman run -d --name bench-bridge bench-tiny sleep infinity
            for way in -i -o; do iptables -C FORWARD $way podman0 -j ACCEPT || iptables -I FORWARD $way podman0 -j ACCEPT; done""")
        self.version = self.host.output("podman --version; crun --version | head -n 1")
        return host

    def start(self, mib):
        self.host.shell(f'{QUIET} podman run -d --name bench-p --ip 10.88.0.99 bench-holder /holder 7000 "$1"', str(mib))
        return "10.88.0.99:7000"

    def checkpoint(self):
        return f"{QUIET} podman container checkpoint --tcp-established --export {HOME}/bench.tar bench-p"

    def restore(self):
        return f"{QUIET} podman rm bench-p && podman container restore --tcp-established --import {HOME}/bench.tar"

    def disk(self):
        return self.bytes_of(f"{HOME}/bench.tar")

    def forget(self):
        self.host.shell(f"rm -f {HOME}/bench.tar")

    def stop(self):
        self.host.shell(f"{QUIET} podman rm -f -t 0 bench-p", check=False)
        self.forget()

    def close(self):
        if self.host:
            self.host.shell(f"""{QUIET} podman rm -f -t 0 -a; podman rmi -a -f; umount -l /var/lib/containers; rm -rf {HOME}
                for way in -i -o; do iptables -D FORWARD $way podman0 -j ACCEPT; done""", check=False)
