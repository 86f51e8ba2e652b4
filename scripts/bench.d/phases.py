"""Where transship's own downtime goes, as it tells itself."""

import json
import statistics
import time

from lab import Watch, say
from peers.transship import Transship

ORDER = 1000


def measure(lab, mib, repeat):
    """The median of each step over some cycles, in the order in which they come."""
    tool = Transship(lab)
    tool.prepare()
    address = tool.start(mib)
    Watch(lab, address, new=False).end()
    say(f"phases of {repeat} cycles at {mib} MiB")
    steps, parts, downtimes = {}, {}, []
    try:
        for _ in range(repeat):
            watch = Watch(lab, address, new=False)
            time.sleep(0.3)
            done = tool.host.shell("""for verb in checkpoint restore; do
                echo "verb $verb"; transship --json $verb bench-t 2>&1; done""")
            watch.end()
            verb = ""
            for line in done.stdout.splitlines():
                if line.startswith("verb "):
                    verb = line[5:]
                    continue
                message = json.loads(line)
                if message.get("type") == "step-ended":
                    steps.setdefault(f"{verb}: {message['name']}", []).append(message["microseconds"])
                for one in message.get("checkpoints", []) + message.get("containers", []):
                    for name, took in one.get("timings_us", {}).items():
                        parts.setdefault(f"{verb}: {name}", []).append(took)
                    if "downtime_us" in one:
                        downtimes.append(one["downtime_us"])
            tool.settle()
            tool.forget()
    finally:
        tool.stop()
    return {
        "mib": mib,
        "steps_ms": {name: statistics.median(values) / ORDER for name, values in steps.items()},
        "parts_ms": {name: statistics.median(values) / ORDER for name, values in parts.items()},
        "downtime_ms": statistics.median(downtimes) / ORDER,
    }
