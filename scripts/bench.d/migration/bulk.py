"""How fast much data goes from host to host: a large container's files, beside `zstd | nc` with the same files."""

import statistics
import time

from lab import LabError, say

from .mover import PORT, expect, run

# On the source: what a checkpoint of the container consists of.
DATA = "/var/lib/docker/bench-data"


def measure(lab, mover, mib, repeat):
    """Bytes a second, each way of sending by its name."""
    from . import answers
    found = {"transship": [], "transship, --compress fast": [], "zstd -1 | nc": [], "nc": []}
    for _ in range(repeat):
        for name, words in (("transship", ()), ("transship, --compress fast", ("--compress", "fast"))):
            try:
                answers(lab, mover.start(mib, 0))
                if not found["nc"]:
                    keep_images(mover.source)
                moved = mover.move("stop-and-copy", *words)
                found[name].append(moved["sent_bytes"] / (moved["steps_s"]["pre-copy"] + moved["steps_s"]["ship"]))
            finally:
                mover.stop()
        for name, pack, unpack in (("zstd -1 | nc", "zstd -1 -T0 -c |", "| zstd -d -c"), ("nc", "", "")):
            found[name].append(by_hand(mover, pack, unpack))
    say("bulk data: " + ", ".join(f"{name} {statistics.median(rates) / 1e6:.0f} MB/s" for name, rates in found.items()))
    mover.source.shell(f"rm -rf {DATA}")
    return found


def keep_images(host):
    """Leaves a checkpoint's files as they are sent, not compressed, where nothing else is at them."""
    host.shell(f"""set -e; rm -rf {DATA}; mkdir {DATA}
        transship checkpoint --leave-running --name bench-bulk bench-m >/dev/null 2>&1
        for dir in /var/lib/transship/checkpoints/*/images; do cp "$dir"/* {DATA}; done
        transship rm --force bench-bulk >/dev/null 2>&1""")


def by_hand(mover, pack, unpack):
    """The same bytes into one file, which is on disk in the end, as a checkpoint's are."""
    source, destination = mover.hosts
    length = int(source.output(f"cat {DATA}/* | wc -c"))
    script = f"set -e -o pipefail; echo ready; nc -l {PORT} {unpack} >/var/lib/docker/bench-bulk; sync /var/lib/docker/bench-bulk"
    receive = run(destination, script)
    expect(receive, "ready")
    destination.shell(f"until ss -Hltn 'sport = {PORT}' | grep -q .; do :; done")
    began = time.monotonic()
    source.shell(f"set -o pipefail; cat {DATA}/* | {pack} nc -N {destination.address} {PORT}")
    if receive.wait() != 0:
        raise LabError(f"bulk data: {receive.stderr.read()[-300:]}")
    took = time.monotonic() - began
    destination.shell("rm /var/lib/docker/bench-bulk")
    return length / took
