"""What is told of moving containers, and the ratios that are promised of it."""

import statistics

from . import LARGE, SMALL, downtime


def render(report, seconds):
    lines = ["Moving a container to another host: the slowest answer on an open connection, and the commands from begin to end"]
    for mib in sorted({one["mib"] for one in report["moves"]}):
        for tool, mode in dict.fromkeys((one["tool"], one["mode"]) for one in report["moves"]):
            lines += [row(report, mib, tool, mode, seconds)]
    lines += [f"  {one['name']}: NOT MEASURED: {one['reason']}" for one in report["unavailable"]]
    if "bulk" in report:
        rates = (f"{name} {statistics.median(rates) / 1e6:.0f} MB/s" for name, rates in report["bulk"].items())
        lines.append("  bulk data, all on disk in the end: " + ", ".join(rates))
    return "\n".join(lines)


def row(report, mib, tool, mode, seconds):
    moves = [one for one in report["moves"] if (one["mib"], one["tool"], one["mode"]) == (mib, tool, mode)]
    good = [one for one in moves if "failed" not in one]
    took = statistics.median(one["took_s"] for one in good) if good else None
    name = f"{moves[0]['name']}{f', {mode}' if mode else ''}"
    lost = [problem for one in good for problem in one["problems"]]
    text = f"  {mib:>5} MiB  {name:<36} {'lost' if lost else seconds(downtime(report, tool, mib, mode)):>8}  in all {seconds(took):>8}"
    failed = [one["failed"].splitlines()[-1] for one in moves if "failed" in one]
    return "; ".join([f"{text}  {len(good)}/{len(moves)}", *lost[:2], *failed[:1]])


def judged(report, verdict):
    """Each promise with `met`, `MISSED`, or `-` where it was not measured."""
    for mib, mode, peer, most in ((SMALL, "stop-and-copy", "podman", 0.4), (SMALL, "stop-and-copy", "runc", 2.5),
                                  (LARGE, "post-copy", "podman", 0.07), (LARGE, "pre-copy", "podman", 0.3)):
        ours, theirs = downtime(report, "transship", mib, mode), downtime(report, peer, mib)
        what = f"downtime of a move at {mib} MiB, {mode}, against {'bare runc' if peer == 'runc' else peer}"
        if ours and theirs:
            yield verdict(ours / theirs <= most), f"{what}: {ours / theirs:.2f} (at most {most})"
        else:
            yield "-", f"{what}: not measured"
    if "bulk" in report:
        rates = {name: statistics.median(rates) for name, rates in report["bulk"].items()}
        ratio = rates["transship, --compress fast"] / rates["zstd -1 | nc"]
        yield verdict(ratio >= 0.7), f"bulk data, compressed, against zstd | nc: {ratio:.2f} (at least 0.7)"
    grown = [one["grown_kib"] for one in report["moves"] if "grown_kib" in one]
    if grown:
        source, destination = (max(sizes) / 1024 for sizes in zip(*grown))
        yield verdict(max(source, destination) <= 64), (
            f"the helper's memory above idle in a move: {source:.1f} MiB on the source, {destination:.1f} MiB on the destination "
            "(at most 64)")
