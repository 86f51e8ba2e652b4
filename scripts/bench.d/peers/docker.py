"""Docker's own checkpoints, an experimental feature: on 28 to see whether they work, on 26.1 to be measured."""


from . import Tool, Unavailable

# dockerd gives containerd a checkpoint that containerd still has, until it collects its garbage.
RETRY_FOR = 30
# What CRIU says is only in its log.
WHY = "grep -h Error /run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/*/criu-dump.log >&2"


class Docker(Tool):
    key = "docker"
    name = "docker checkpoint"

    def prepare(self):
        self.host = self.lab.host("bench-old", "trixie", bare=True)
        self.holder_image(self.host)
        self.lab.route("10.98.0.0/24", self.host)
        # On a network without masquerading: a restored container that speaks first would appear with another address.
        self.host.shell("""set -e
            mkdir -p /etc/docker /etc/criu
            echo tcp-established >/etc/criu/runc.conf
            echo '{"experimental": true}' >/etc/docker/daemon.json
            [ "$(docker info -f '{{.ExperimentalBuild}}')" = true ] || service docker restart
            for i in $(seq 100); do docker info >/dev/null 2>&1 && break; sleep 0.1; done
            docker network inspect bench >/dev/null 2>&1 || docker network create --subnet 10.98.0.0/24 \\
                -o com.docker.network.bridge.name=bench0 -o com.docker.network.bridge.enable_ip_masquerade=false bench
            for way in -i -o; do iptables -C FORWARD $way bench0 -j ACCEPT || iptables -I FORWARD $way bench0 -j ACCEPT; done""")
        self.version = self.host.output("docker version -f 'Docker {{.Server.Version}}'; runc --version | head -n 1")
        self.number = 0

    def start(self, mib):
        self.host.shell('docker run -d --name bench-d --network bench --ip 10.98.0.9 bench-holder /holder 7000 "$1"', str(mib))
        return "10.98.0.9:7000"

    def checkpoint(self):
        self.number += 1
        return f"docker checkpoint create bench-d one-{self.number} || {{ {WHY}; false; }}"

    def restore(self):
        return f"""end=$((SECONDS + {RETRY_FOR})); tries=1
            until docker start --checkpoint one-{self.number} bench-d 2>/tmp/bench-error; do
                [ $SECONDS -lt $end ] || {{ cat /tmp/bench-error >&2; exit 1; }}
                tries=$((tries + 1)); sleep 0.05
            done; echo "tries $tries" """

    def own(self, output):
        return {"tries": int(output.split()[-1])}

    def disk(self):
        return self.bytes_of(self.host.output("echo /var/lib/docker/containers/*/checkpoints/") + f"one-{self.number}")

    def forget(self):
        self.host.shell(f"docker checkpoint rm bench-d one-{self.number}", check=False)

    def stop(self):
        self.host.shell("docker rm -f bench-d", check=False)
        self.number = 0


def on_todays(lab):
    """Whether it works on the newest engine too; the error if it does not."""
    host = lab.host("bench", "sid")
    host.shell("""set -e; mkdir -p /etc/docker
        [ "$(docker info -f '{{.ExperimentalBuild}}')" = true ] && exit
        [ ! -e /etc/docker/daemon.json ] || { echo "there is a daemon.json" >&2; exit 1; }
        echo '{"experimental": true}' >/etc/docker/daemon.json; service docker restart
        for i in $(seq 100); do docker info >/dev/null 2>&1 && break; sleep 0.1; done""")
    try:
        done = host.shell("""docker run -d --name bench-d bench-holder /holder 7000 1 >/dev/null; sleep 0.5
            docker checkpoint create bench-d one >/dev/null && docker start --checkpoint one bench-d""", check=False)
        version = host.output("docker version -f '{{.Server.Version}}'")
        return {"version": version, "error": done.stderr.strip().splitlines()[-1] if done.returncode else None}
    finally:
        host.shell("""docker rm -f bench-d; rm -f /etc/docker/daemon.json; service docker restart
            for i in $(seq 100); do docker info >/dev/null 2>&1 && break; sleep 0.1; done""", check=False)
