"""Moving a running container from one host to another under a client: this tool, podman, and a script around runc.

All over the same link, in turns, in one run. Then bulk data over that link, beside `zstd | nc`.
"""

import statistics
import time

from lab import LabError, Watch, say
from measure import STARTED_WITHIN, WARM_UP, problems
from peers import Unavailable

from . import bulk, podman, runc, transship

SOURCE, DESTINATION = "bench-from", "bench-to"
# Of the large container's pages, so many a second are written anew where it is pre-copied: about a tenth of them meanwhile.
DIRTIED = 2600
SMALL, LARGE = 16, 1024


def measure(lab, repeat, large=True):
    """What each tool's client saw, size by size, and how fast bulk data goes."""
    hosts = [lab.host(name, "sid") for name in (SOURCE, DESTINATION)]
    for host in hosts:
        host.install("netcat-openbsd", "zstd")
    movers = [Mover(lab, *hosts) for Mover in (transship.Transship, podman.Podman, runc.BareRunc)]
    modes = movers[0].modes()
    report = {"repeat": repeat, "modes": modes, "moves": [], "unavailable": []}
    try:
        movers = [mover for mover in movers if ready(mover, report)]
        for mib in (SMALL, LARGE) if large else (SMALL,):
            for _ in range(repeat):
                for mover in movers:
                    for mode in modes if mover.key == "transship" else [None]:
                        report["moves"].append(move(lab, mover, mib, mode))
        if large:
            report["bulk"] = bulk.measure(lab, movers[0], LARGE, repeat)
    finally:
        for mover in movers:
            mover.close()
    return report


def ready(mover, report):
    try:
        mover.prepare()
        return True
    except (Unavailable, LabError) as error:
        say(f"moving with {mover.name} is not measured: {error}")
        report["unavailable"].append({"tool": mover.key, "name": mover.name, "reason": str(error)})
        return False


def move(lab, mover, mib, mode):
    """One container, there and no further; what its client saw of it."""
    found = {"tool": mover.key, "name": mover.name, "mib": mib, "mode": mode}
    try:
        address = mover.start(mib, DIRTIED if mode == "pre-copy" else 0)
        answers(lab, address)
        for host in mover.hosts:
            host.shell("sync")
        watch = mover.client(address)
        time.sleep(WARM_UP)
        began = time.monotonic()
        try:
            found.update(mover.move(mode))
        except LabError:
            watch.kill()
            raise
        found["took_s"] = time.monotonic() - began
        seen = watch.end()
        found.update({"open_s": seen["slowest_open_us"] / 1e6, "problems": problems(seen)})
        mover.check()
    except LabError as error:
        found["failed"] = str(error)[-600:]
    finally:
        mover.stop()
    what = f"{mib} MiB to another host, {mover.name}{f', {mode}' if mode else ''}"
    say(f"{what}: FAILED: {found['failed']}" if "failed" in found else
        f"{what}: slowest answer {found['open_s']:.3f} s, in all {found['took_s']:.2f} s{'; '.join(['', *found['problems']])}")
    return found


def answers(lab, address):
    """Returns when a client is answered: until its memory is filled nobody is."""
    deadline = time.monotonic() + STARTED_WITHIN
    while problems(Watch(lab, address, new=False).end()):
        if time.monotonic() > deadline:
            raise LabError(f"nobody answers at {address} within {STARTED_WITHIN} s")


def downtime(report, tool, mib, mode=None):
    """The median of what clients saw, where none of them lost anything; nothing where it was not measured."""
    moves = [one for one in report["moves"] if (one["tool"], one["mib"], one["mode"]) == (tool, mib, mode)]
    good = [one["open_s"] for one in moves if "failed" not in one and not one["problems"]]
    return statistics.median(good) if good else None
