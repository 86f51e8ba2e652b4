"""runc alone: a bundle made by hand whose network namespace stays, so that nothing has to be set up for a restore.

No engine, no names, no logs, nothing digested or compressed: the floor for what stands on runc.
"""

import json

from . import Tool

HOME = "/var/lib/docker/bench-runc"


class BareRunc(Tool):
    key = "runc"
    name = "bare runc"

    def prepare(self):
        self.lab.route("10.99.0.0/24", self.ready_on(self.lab.host("bench", "sid")))

    def ready_on(self, host):
        """Gets a bundle ready on a host, which is then the tool's."""
        self.host = host
        self.holder_image(self.host)
        self.host.shell(f"""set -e
            ip netns delete bench 2>/dev/null || true
            mkdir -p {HOME}/rootfs; cd {HOME}
            docker create --name bench-rootfs bench-holder true; docker export bench-rootfs | tar -x -C rootfs
            docker rm bench-rootfs
            ip netns add bench; ip link add bench0 type veth peer name eth0 netns bench
            ip address add 10.99.0.1/24 dev bench0; ip link set bench0 up
            ip -n bench address add 10.99.0.2/24 dev eth0; ip -n bench link set eth0 up; ip -n bench link set lo up
            ip -n bench route add default via 10.99.0.1
            for way in -i -o; do iptables -C FORWARD $way bench0 -j ACCEPT || iptables -I FORWARD $way bench0 -j ACCEPT; done
            rm -f config.json; runc spec""")
        self.version = self.host.output("runc --version | head -n 1; criu --version | head -n 1")
        return host

    def start(self, mib):
        self.configure(mib)
        self.host.shell(f"cd {HOME}; runc run -d bench </dev/null >/dev/null 2>&1")
        return "10.99.0.2:7000"

    def configure(self, mib):
        """What the container is to run; the same wherever it is restored."""
        path = self.host.root / HOME[1:] / "config.json"
        config = json.loads(path.read_text())
        config["process"].update(terminal=False, args=["/holder", "7000", str(mib)])
        config["root"]["readonly"] = False
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = "/run/netns/bench"
        path.write_text(json.dumps(config))

    def checkpoint(self):
        return f"cd {HOME}; rm -rf image; runc checkpoint --tcp-established --image-path image --work-path work bench"

    def restore(self):
        return f"""cd {HOME}; runc restore --detach --tcp-established --image-path image --work-path work --bundle . bench \
            </dev/null >/dev/null"""

    def disk(self):
        return self.bytes_of(f"{HOME}/image")

    def forget(self):
        self.host.shell(f"rm -rf {HOME}/image {HOME}/work")

    def stop(self):
        self.host.shell("runc kill bench KILL; for i in $(seq 50); do runc delete -f bench && break; sleep 0.1; done", check=False)
        self.forget()

    def close(self):
        if self.host:
            self.host.shell(f"""ip netns delete bench; rm -rf {HOME}
                for way in -i -o; do iptables -D FORWARD $way bench0 -j ACCEPT; done""", check=False)
