"""What the interposer adds to `docker run --rm IMAGE true`: pairs with and without it, in turns."""

import statistics

from lab import say

LINK = "/usr/libexec/transship/bin/runc"


def measure(lab, pairs):
    host = lab.host("bench", "sid")
    host.image("bench-tiny", "--tiny")
    say(f"the interposer's cost: {pairs} pairs of docker run")
    # Docker looks for runc at each start, so taking the link away is enough. Which comes first alternates.
    output = host.output(f"""
        trap 'mv {LINK}.away {LINK} 2>/dev/null' EXIT
        with() {{ [ ! -e {LINK}.away ] || mv {LINK}.away {LINK}; }}
        without() {{ [ ! -e {LINK} ] || mv {LINK} {LINK}.away; }}
        once() {{ "$1"; local began=$EPOCHREALTIME; docker run --rm bench-tiny true; echo "$1 $began $EPOCHREALTIME"; }}
        once with >/dev/null; once without >/dev/null
        for i in $(seq $(($1 / 2))); do once with; once without; once without; once with; done
        with
        for which in {LINK} $(PATH=/usr/sbin:/usr/bin command -v runc); do
            began=$EPOCHREALTIME; for i in $(seq 100); do $which --version >/dev/null; done
            echo "call $began $EPOCHREALTIME"
        done""", str(pairs))
    took = {"with": [], "without": [], "call": []}
    for line in output.splitlines():
        kind, began, ended = line.split()
        took[kind].append(float(ended) - float(began))
    plain = statistics.median(took["without"])
    added = statistics.median(one - other for one, other in zip(took["with"], took["without"]))
    return {
        "pairs": len(took["with"]),
        "with_s": took["with"],
        "without_s": took["without"],
        "median_with_s": statistics.median(took["with"]),
        "median_without_s": plain,
        "median_added_s": added,
        "added_ratio": added / plain,
        "added_per_call_s": (took["call"][0] - took["call"][1]) / 100,
    }
