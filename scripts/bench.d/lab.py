"""The lab's hosts as seen from here: brought up when first asked for, taken down in the end."""

import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = SCRIPTS.parent
LAB = str(SCRIPTS / "lab")
GAPS = str(SCRIPTS / "bench.d" / "gaps.py")
BEGAN = time.monotonic()
# Without an answer for so many seconds, a connection counts as lost.
PATIENCE = 20
STATE = pathlib.Path(os.environ.get("TRANSSHIP_LAB_STATE", "/run/transship-lab"))


class LabError(Exception):
    """Something that the bench itself needs has failed."""


def say(text):
    print(f"bench: {time.monotonic() - BEGAN:4.0f} s  {text}", file=sys.stderr, flush=True)


def call(*words, check=True, stdin=None):
    """Runs a command and gives its output."""
    done = subprocess.run(words, input=stdin, text=True, capture_output=True)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(words)[:200]} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done


class Lab:
    """Hosts by name, and programs for them."""

    def __init__(self, keep):
        self.keep = keep
        self.started = []
        self.hosts = {}

    def host(self, name, release, bare=False):
        """The host of that name, up."""
        if name not in self.hosts:
            # One that was up before is somebody's; it is used, and left as it was found.
            if not (STATE / "hosts" / name).exists():
                self.started.append(name)
            say(f"bringing up {name} ({release})")
            subprocess.run([LAB, "up", *(["--bare"] if bare else []), f"{name}={release}"], check=True, stdout=sys.stderr)
            self.hosts[name] = Host(name)
        return self.hosts[name]

    def program(self, name):
        """The path of one of the test programs, built."""
        path = REPOSITORY / "target/release/examples" / name
        sources = max(source.stat().st_mtime for source in (REPOSITORY / "tests/programs").rglob("*.rs"))
        if not path.exists() or path.stat().st_mtime < sources:
            say(f"building {name}")
            subprocess.run(["cargo", "build", "--release", "--quiet", "--example", name], cwd=REPOSITORY, check=True)
        return str(path)

    def route(self, network, host):
        """Lets the client reach a network behind a host."""
        call(LAB, "client", "ip", "route", "replace", network, "via", host.address)

    def machine(self):
        """What the figures were measured on."""
        model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
        return {"kernel": platform.release(), "cpus": os.cpu_count(), "model": model}

    def close(self):
        if self.started and not self.keep:
            subprocess.run([LAB, "down", *self.started], stdout=sys.stderr)


class Host:
    """One host."""

    def __init__(self, name):
        self.name = name
        self.address = call(LAB, "ip", name).stdout.strip()
        self.init = int((STATE / "hosts" / name / "init").read_text().split()[0])
        self.root = pathlib.Path(f"/proc/{self.init}/root")
        # The hosts have no way out, and nothing tells a client to go elsewhere while a container's bridge is away.
        self.shell("for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >$f; done")

    def shell(self, script, *words, check=True):
        """Runs a script there."""
        return call(LAB, "exec", self.name, "bash", "-c", script, "bench", *words, check=check)

    def output(self, script, *words):
        return self.shell(script, *words).stdout.strip()

    def image(self, name, *words):
        """Makes an image there, as scripts/lab image does."""
        subprocess.run([LAB, "image", self.name, name, *words], check=True, stdout=sys.stderr)

    def install(self, *packages):
        """Installs Debian packages there; the host itself has no way out, so this borrows the machine's network."""
        present = self.shell("dpkg-query -W -f '${Status}\\n' \"$@\" 2>/dev/null", *packages, check=False).stdout
        if present.count("install ok installed") == len(packages):
            return
        say(f"installing {' '.join(packages)} in {self.name}")
        archives = pathlib.Path(os.environ.get("TRANSSHIP_LAB_CACHE", "/var/cache/transship-lab")) / "archives"
        kept = self.root / "var/cache/apt/archives"
        for package in archives.glob("*.deb"):
            if not (kept / package.name).exists():
                shutil.copy(package, kept)
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        proxy = call("apt-config", "shell", "proxy", "Acquire::http::Proxy", check=False).stdout.strip()
        environment.update({"http_proxy": proxy.removeprefix("proxy=").strip("'")} if proxy else {})
        script = """
            printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
            install="apt-get install -y --no-install-recommends $*"
            $install || { apt-get update && $install; }; done=$?
            rm /usr/sbin/policy-rc.d; : >/etc/resolv.conf; exit $done"""
        words = ["nsenter", "-t", str(self.init), "-m", "-p", "-u", "-i", "--", "bash", "-c", script, "bench", *packages]
        done = subprocess.run(words, env=environment, text=True, capture_output=True)
        for package in kept.glob("*.deb"):
            if done.returncode == 0 and not (archives / package.name).exists():
                shutil.copy(package, archives)
        if done.returncode != 0:
            raise LabError(f"{' '.join(packages)} cannot be installed: {(done.stdout + done.stderr).strip()[-500:]}")

    def processes(self):
        """The pids, as this machine counts, of what runs in the host, outside of containers."""
        namespace = os.readlink(f"/proc/{self.init}/ns/pid")
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    if os.readlink(f"/proc/{entry.name}/ns/pid") == namespace:
                        found.append(int(entry.name))
                except OSError:
                    pass
        return found

    def pid_of(self, name):
        """The pid, as this machine counts, of a daemon there."""
        for pid in self.processes():
            try:
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name[:15]:
                    return pid
            except OSError:
                pass
        raise LabError(f"{name} does not run in {self.name}")


class Watch:
    """The client: a long-lived connection with a request every few milliseconds, and new connections."""

    def __init__(self, lab, address, new):
        words = [LAB, "client", lab.program("watch"), address, "--open", "1", "--pipelined", "0", "--streams", "0",
                 "--patience", str(PATIENCE), *([] if new else ["--no-new"])]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise LabError(f"no client of {address}")

    def end(self):
        """Waits until every connection is answered again, or has given up; how it went."""
        self.process.stdin.close()
        text = self.process.stdout.read()
        self.process.wait()
        return json.loads(text)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Newcomer:
    """A client that comes anew each time, to a server whose open connections are lost. It waits for none that is not answered
    soon: what counts is how long nobody was."""

    def __init__(self, address):
        words = [LAB, "client", sys.executable, GAPS, "--ask", "check", "--patience", "0.2", address]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise LabError(f"no client of {address}")

    def end(self):
        """Waits until it is answered again; in the words of Watch."""
        out, _ = self.process.communicate()
        [gap] = json.loads(out)
        return {"slowest_open_us": gap["longest_s"] * 1e6, "lost": 0, "reset": 0, "refused": 0, "timed_out": 0, "wrong": 0, "problems": []}

    def kill(self):
        self.process.kill()
        self.process.wait()
