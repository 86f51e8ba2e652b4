"""One cycle: a client at work, the tool's two commands one after the other, and what they cost."""

import pathlib
import re
import threading
import time

from lab import LabError, Watch, say
from peers import Unavailable

# How long a client is at work before the commands, and how long things may settle after them.
WARM_UP = 0.3
# Daemons that containers need anyway; of these, only what they grow by counts as the tool's memory.
RESIDENT = ("dockerd", "containerd", "containerd-shim", "conmon", "tini", "sleep", "netavark", "aardvark-dns")
SAMPLE = 0.01
# Seconds in which a program fills its memory and listens.
STARTED_WITHIN = 60


def prepare(tool, report):
    """Gets a tool ready, or notes why it cannot be measured."""
    tool.available = False
    try:
        tool.prepare()
        tool.available = True
    except (Unavailable, LabError) as error:
        say(f"{tool.name} is not measured: {error}")
        report["unavailable"].append({"tool": tool.key, "name": tool.name, "reason": str(error)})


def size(tools, mib, repeat, report):
    """Measures every tool with containers of one size."""
    tools = [tool for tool in tools if tool.available]
    for tool in tools:
        say(f"{mib} MiB: starting {tool.name}'s container")
        start(tool, mib)
    try:
        for number in range(repeat):
            for new in (False, True):
                for tool in tools:
                    note(tool, mib, report, cycle(tool, new), f"{number + 1}/{repeat}", new=new)
        for tool in tools:
            note(tool, mib, report, memory_cycle(tool), "memory", new=False, memory=True)
    finally:
        for tool in tools:
            tool.stop()


def start(tool, mib):
    tool.mib = mib
    tool.address = tool.start(mib)
    # The first client comes when the memory is filled: until then nobody is answered.
    deadline = time.monotonic() + STARTED_WITHIN
    while problems(Watch(tool.lab, tool.address, new=False).end()):
        if time.monotonic() > deadline:
            raise LabError(f"{tool.name}'s container answers nobody within {STARTED_WITHIN} s")


def note(tool, mib, report, result, which, **kind):
    result = {"tool": tool.key, "name": tool.name, "mib": mib, **kind, **result}
    report["cycles"].append(result)
    if "failed" in result:
        say(f"{mib} MiB {which} {tool.name}{' with new connections' * result['new']}: FAILED: {result['failed']}")
    else:
        say(f"{mib} MiB {which} {tool.name}{' with new connections' * result['new']}: slowest answer {result['open_s']:.3f} s, "
            f"slowest new connection {result['new_s']:.3f} s, commands {result['checkpoint_s']:.3f} + {result['restore_s']:.3f} s"
            f"{', ' + '; '.join(result['problems']) if result['problems'] else ''}")


def cycle(tool, new):
    """Freezes and restores once under a client."""
    # What earlier cycles left to be written must not be in this one's way.
    tool.host.shell("sync")
    watch = Watch(tool.lab, tool.address, new)
    time.sleep(WARM_UP)
    done = tool.host.shell(f"""
        a=$EPOCHREALTIME; {{ {tool.checkpoint()}
        }}; checkpoint=$?; b=$EPOCHREALTIME
        [ $checkpoint != 0 ] || {{ {tool.restore()}
        }}; restore=$?; c=$EPOCHREALTIME
        echo "bench $a $b $c $checkpoint $restore" """, check=False)
    output, _, times = done.stdout.rpartition("bench ")
    began, between, ended, *codes = times.split()
    if codes != ["0", "0"]:
        return failed(tool, watch, codes, done)
    disk_now = tool.disk()
    seen = watch.end()
    settled = tool.settle()
    result = {
        "open_s": seen["slowest_open_us"] / 1e6,
        "new_s": seen["slowest_new_us"] / 1e6,
        "checkpoint_s": float(between) - float(began),
        "restore_s": float(ended) - float(between),
        "disk_now": disk_now,
        "disk": tool.disk(),
        "settled": settled,
        "problems": problems(seen),
        "requests": seen["replies"] + seen["new"],
        **tool.own(output.strip()),
    }
    tool.forget()
    if seen["lost"] or seen["reset"] or seen["refused"] or seen["timed_out"]:
        restart(tool)
    return result


def problems(seen):
    counts = [f"{seen[kind]} {kind.replace('_', ' ')}" for kind in ("lost", "reset", "refused", "timed_out", "wrong") if seen[kind]]
    return counts + seen["problems"][:2] if counts else []


def failed(tool, watch, codes, done):
    which = "checkpoint" if codes[0] != "0" else "restore"
    say_why = [line for line in done.stderr.splitlines() if "In-flight connection" in line or "rror" in line and "RLIMIT" not in line]
    reason = (say_why or done.stderr.splitlines() or [done.stdout.strip() or "no reason given"])[0].strip()
    reason = re.sub(r"[0-9a-f]{64}", "ID", reason)[:300]
    in_flight = "In-flight" in done.stderr
    watch.kill()
    if which == "checkpoint" and alive(tool):
        tool.forget()
    else:
        restart(tool)
    return {"failed": reason, "step": which, "in_flight": in_flight}


def alive(tool):
    """Whether the container still answers after a checkpoint that failed."""
    watch = Watch.__new__(Watch)
    try:
        watch.__init__(tool.lab, tool.address, new=False)
        seen = watch.end()
        return seen["replies"] > 0 and not problems(seen)
    except LabError:
        return False


def restart(tool):
    tool.stop()
    start(tool, tool.mib)


def memory_cycle(tool):
    """A cycle that is watched closely, which costs time, and is therefore not counted among the others."""
    sampler = Sampler(tool.host)
    helper = reset_peak(tool)
    sampler.start()
    try:
        result = cycle(tool, new=False)
    finally:
        sampler.stop()
    result["memory_kib"], result["memory_of"] = sampler.peak, sampler.peak_of
    if helper:
        result["helper_kib"] = status(helper).get("VmHWM", 0)
    return result


def reset_peak(tool):
    """Sets the helper's high-water mark back to what it uses now, and gives its pid."""
    if tool.key != "transship":
        return None
    pid = tool.host.pid_of("transshipd")
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
    return pid


def status(pid):
    """The sizes in /proc/PID/status, in KiB, and the name."""
    found = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "Name":
            found[key] = value.strip()
        elif key in ("VmRSS", "VmHWM"):
            found[key] = int(value.split()[0])
    return found


class Sampler(threading.Thread):
    """Adds up what the tool's processes use, ever again, and keeps the largest sum."""

    def __init__(self, host):
        super().__init__(daemon=True)
        self.host = host
        self.before = self.sample()
        self.peak, self.peak_of = 0, {}
        self.ending = threading.Event()

    def sample(self):
        found = {}
        for pid in self.host.processes():
            try:
                process = status(pid)
            except OSError:
                continue
            if "VmRSS" in process:
                found[pid] = (process["Name"], process["VmRSS"])
        return found

    def run(self):
        while not self.ending.wait(SAMPLE):
            used = {}
            for pid, (name, size) in self.sample().items():
                if name.startswith(RESIDENT):
                    size -= self.before.get(pid, (name, size))[1]
                if name not in ("bash", "setpriv", "nsenter", "sh") and size > 0:
                    used[name] = used.get(name, 0) + size
            if sum(used.values()) > self.peak:
                self.peak, self.peak_of = sum(used.values()), used

    def stop(self):
        self.ending.set()
        self.join()
