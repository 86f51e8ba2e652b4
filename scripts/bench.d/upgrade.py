"""An upgrade of the engine under containers with clients, beside what people do by hand."""

import json
import shutil
import statistics
import subprocess
import sys

from lab import GAPS, LAB, LabError, call, say

HOST, RELEASE = "bench-upgrade", "trixie"
CONTAINERS = 10
FIRST_PORT = 8001
# The last ones are databases with their clients; visitors come to the others.
DATABASES = 2
# Seconds; loads run for 40 when nothing is in their way.
LONGEST_LOAD = 90

# What is installed is given in words.
UPGRADE = """
    service docker stop >/dev/null 2>&1
    # Where there is no systemd, a dockerd that the package starts would keep apt's pipe, and apt waiting, for ever.
    printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
    DEBIAN_FRONTEND=noninteractive apt-get install -y --allow-downgrades "$@" >/dev/null 2>&1
    rm /usr/sbin/policy-rc.d
    service docker start >/dev/null 2>&1 || true
    until docker version >/dev/null 2>&1; do sleep 0.02; done"""
BY_HAND = f"""
    set -e
    docker stop $(docker ps -q) >/dev/null
    {UPGRADE}
    docker start $(docker ps -aq) >/dev/null"""
REMOVE_ALL = "docker ps -aq | xargs -r docker rm -f >/dev/null"


def measure(lab, repeat):
    """Waits in seconds, of visitors to each server, for each way."""
    host = lab.host(HOST, RELEASE)
    host.shell("mkdir -p /etc/transship; echo '{ \"grace_seconds\": 1 }' >/etc/transship/transship.json; service transshipd restart")
    if not (shutil.which("ab") and shutil.which("redis-benchmark")):
        call("apt-get", "install", "-y", "-qq", "apache2-utils", "redis-tools")
    host.image("bench-nginx", "nginx-light")
    host.image("bench-redis", "redis-server")
    old, new = host.output("apt-cache madison docker.io | awk '{ print $3 }'").split()[:2][::-1]
    found = {"from": old, "to": new, "containers": CONTAINERS, "restart_s": [bare_restart(host) for _ in range(repeat)]}
    say(f"upgrade {old} to {new}: dockerd alone restarts in {statistics.median(found['restart_s']):.2f} s")
    for name, count, way in (("one", 1, transship), ("ten", CONTAINERS, transship), ("by_hand", CONTAINERS, by_hand)):
        found[name] = under_load(host, count, way, old, new)
        waits = found[name]["waits_s"]
        say(f"upgrade of {count} {name}: longest wait {max(waits):.2f} s, median {statistics.median(waits):.2f} s, "
            f"failed: {found[name]['failed'] or 'none'}")
    return found


def bare_restart(host):
    """Nobody runs on it."""
    host.shell(REMOVE_ALL)
    began, ended = host.output("""echo $EPOCHREALTIME; service docker restart >/dev/null 2>&1
        until docker version >/dev/null 2>&1; do :; done; echo $EPOCHREALTIME""").split()
    return float(ended) - float(began)


def under_load(host, count, way, old, new):
    """Servers, visitors and loads; there under load, and back without."""
    ports = [FIRST_PORT + number for number in range(count)]
    databases = ports[-DATABASES:] if count > DATABASES else []
    webs = [port for port in ports if port not in databases]
    for port in webs:
        host.shell('docker run -d --name web$1 --restart always -p $1:80 bench-nginx nginx -g "daemon off;"', str(port))
    for port in databases:
        host.shell("docker run -d --name db$1 -p $1:6379 bench-redis redis-server --protected-mode no --bind 0.0.0.0 --save ''",
                   str(port))
    urls = [f"http://{host.address}:{port}/" for port in webs]
    visitors = client(sys.executable, GAPS, *(f"{host.address}:{port}" for port in webs))
    if visitors.stdout.readline().strip() != "ready":
        raise LabError("the visitors are not answered")
    loads = start_loads(host, urls, databases) if count > 1 else {}
    parts = way(host, new)
    failed = {name: text for name, load in loads.items() if (text := failure(load))}
    visitors.stdin.close()
    seen = json.loads(visitors.stdout.read())
    lost = sum(one["failures"] for one in seen)
    failed.update({"visitors": f"{lost} connections refused or reset"} if lost else {})
    # As before, with nobody there to mind.
    host.shell(REMOVE_ALL)
    host.shell(f"set -e; {UPGRADE}", *packages(host, old))
    return {"waits_s": [one["longest_s"] for one in seen], "failed": failed, **parts}


def start_loads(host, urls, databases):
    """Fifty connections, kept and not; and databases' clients on open connections."""
    loads = {
        "ab, kept connections": client("ab", "-k", "-q", "-t", "40", "-n", "10000000", "-c", "25", "-s", "120", urls[0]),
        "ab, new connections": client("ab", "-q", "-t", "40", "-n", "10000000", "-c", "25", "-s", "120", urls[1]),
    }
    for port in databases:
        words = ["redis-benchmark", "-h", host.address, "-p", str(port), "-c", "25", "-n", "600000", "-t", "set,get", "-q"]
        loads[f"redis-benchmark {port}"] = client(*words)
    return loads


def client(*words):
    return subprocess.Popen([LAB, "client", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def failure(load):
    """What a load complains of when it has come to its end; nothing where all was well."""
    try:
        output, _ = load.communicate(timeout=LONGEST_LOAD)
    except subprocess.TimeoutExpired:
        # Its connection is gone, and nobody has told it.
        load.kill()
        return f"not at its end after {LONGEST_LOAD} s"
    bad = [line.strip() for line in output.splitlines() if "rror" in line or "reset" in line or "refused" in line
           or line.startswith("Failed requests") and line.split()[-1] != "0" or line.startswith("Non-2xx")]
    if load.returncode != 0 or bad:
        return "; ".join(bad) or f"exit code {load.returncode}"
    return ""


def transship(host, new):
    answer = json.loads(host.output("transship --json upgrade --to $1 2>/dev/null", new))
    away = [member["away_us"] / 1e6 for course in answer["containers"] for member in course["members"]]
    return {"away_s": away}


def by_hand(host, new):
    host.shell(BY_HAND, *packages(host, new))
    return {}


def packages(host, engine):
    """The engine's packages that go with a version of it, as apt wants them: the newest, or the oldest."""
    pick = "head" if engine == host.output("apt-cache madison docker.io | awk 'NR == 1 { print $3 }'") else "tail"
    names = "docker.io docker-cli containerd runc".split()
    return [f"{name}=" + host.output(f"apt-cache madison {name} | awk '{{ print $3 }}' | {pick} -n 1") for name in names]
