"""The table, and the ratios that are promised."""

import statistics

import migration.figures

MIB = 1 << 20
# This tool in either way of reaching the container.
OURS = ("transship", "published")
COLUMNS = ("SIZE", "TOOL", "DOWNTIME", "NEW CONN.", "COMMANDS", "= CHECKPOINT + RESTORE", "ON DISK", "AT ONCE", "MEMORY", "CYCLES")


def render(report):
    parts = [machine(report), table(report), upgraded(report), moved(report), ratios(report), notes(report)]
    if "phases" in report:
        parts.insert(5, phases(report["phases"]))
    return "\n\n".join(part for part in parts if part)


def machine(report):
    found = report["machine"]
    return f"{found['cpus']} CPUs ({found['model']}), Linux {found['kernel']}; medians of {report['repeat']}"


def pick(report, tool, mib, **wanted):
    """The cycles of a tool and a size that have such properties."""
    wanted = {"tool": tool, "mib": mib, **wanted}
    return [one for one in report["cycles"] if all(one.get(key, False) == value for key, value in wanted.items())]


def good(cycles):
    return [one for one in cycles if "failed" not in one]


def median(cycles, key):
    values = [one[key] for one in cycles if key in one]
    return statistics.median(values) if values else None


def table(report):
    if not report["cycles"]:
        return ""
    rows = [COLUMNS]
    for mib in sorted({one["mib"] for one in report["cycles"]}):
        for tool in dict.fromkeys(one["tool"] for one in report["cycles"]):
            rows.append(row(report, tool, mib))
    widths = [max(len(line[column]) for line in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) if at < 2 else cell.rjust(width) for at, (cell, width) in enumerate(zip(line, widths)))
             for line in rows]
    lines += [f"{one['name']}: NOT MEASURED: {one['reason']}" for one in report["unavailable"]]
    return "\n".join(line.rstrip() for line in lines)


def upgraded(report):
    """What visitors of each server waited at the longest, while the engine was upgraded under it."""
    if "upgrade" not in report:
        return ""
    found = report["upgrade"]
    lines = [f"Upgrade of docker.io {found['from']} to {found['to']}: the longest time without an answer, server by server",
             f"  {'dockerd alone, restarted':<40} {seconds(statistics.median(found['restart_s'])):>8}"]
    for key, name in (("one", "transship, 1 container"), ("ten", f"transship, {found['containers']} containers"),
                      ("by_hand", f"stop, upgrade, start by hand, {found['containers']}")):
        waits = found[key]["waits_s"]
        lines.append(f"  {name:<40} {seconds(statistics.median(waits)):>8} median {seconds(max(waits)):>8} at most;"
                     f" {len(found[key]['failed'])} of the loads failed")
    lines += [f"    by hand, {load}: {text[:120]}" for load, text in found["by_hand"]["failed"].items()]
    return "\n".join(lines)


def moved(report):
    return migration.figures.render(report["migration"], seconds) if "migration" in report else ""


def row(report, tool, mib):
    every = pick(report, tool, mib, memory=False)
    plain = good(pick(report, tool, mib, new=False, memory=False))
    # Where new connections were not answered in the end, no time is given for them.
    new = [one for one in good(pick(report, tool, mib, new=True)) if not one["problems"]]
    memory = good(pick(report, tool, mib, memory=True))
    lost = [one for one in plain if one["problems"]]
    commands = [one["checkpoint_s"] + one["restore_s"] for one in plain]
    return (
        f"{mib} MiB",
        every[0]["name"],
        "lost" if lost else seconds(median(plain, "open_s")),
        seconds(median(new, "new_s")),
        seconds(statistics.median(commands) if commands else None),
        f"{seconds(median(plain, 'checkpoint_s'))} + {seconds(median(plain, 'restore_s'))}",
        mebibytes(median([one for one in plain if one["settled"]], "disk")),
        mebibytes(median(plain, "disk_now")),
        mebibytes(memory[0]["memory_kib"] * 1024 if memory else None),
        f"{len(good(every))}/{len(every)}",
    )


def seconds(value):
    return "-" if value is None else f"{value:.2f} s" if value >= 10 else f"{value * 1000:.0f} ms"


def mebibytes(value):
    return "-" if value is None else f"{value / MIB:.1f} MiB"


def ratios(report):
    lines = ["What is promised"]
    for verdict, text in judged(report):
        lines.append(f"  {verdict:<7} {text}")
    return "\n".join(lines)


def judged(report):
    """Each promise with `met`, `MISSED` or `-` where it was not measured."""
    sizes = sorted({one["mib"] for one in report["cycles"]})
    for mib, peer, most in ((16, "runc", 1.5), (16, "podman", 0.5), (1024, "podman", 0.4)):
        if mib in sizes:
            yield against(report, mib, peer, most)
    if report["cycles"]:
        yield beyond(report)
        yield growth(report, sizes)
    if "upgrade" in report:
        yield from judged_upgrade(report["upgrade"])
    if "migration" in report:
        yield from migration.figures.judged(report["migration"], verdict)
    if "interposer" in report:
        yield added(report["interposer"])


def against(report, mib, peer, most):
    ours, theirs = (median(good(pick(report, tool, mib, new=False, memory=False)), "open_s") for tool in ("transship", peer))
    what = f"downtime at {mib} MiB against {'bare runc' if peer == 'runc' else peer}"
    if not ours or not theirs:
        return "-", f"{what}: not measured"
    return verdict(ours / theirs <= most), f"{what}: {ours / theirs:.2f} (at most {most})"


def judged_upgrade(found):
    ten, by_hand, one = (found[key]["waits_s"] for key in ("ten", "by_hand", "one"))
    failed = {**found["ten"]["failed"], **found["one"]["failed"]}
    yield verdict(not failed), f"loads that failed under an upgrade: {failed or 'none'}"
    beyond_restart = max(ten) - statistics.median(found["restart_s"])
    yield verdict(beyond_restart <= 4), f"an upgrade's longest wait beyond dockerd's own restart: {beyond_restart:+.2f} s (at most +4 s)"
    ratio = max(ten) / max(by_hand)
    yield verdict(ratio <= 0.25), f"an upgrade's longest wait against that by hand: {ratio:.2f} (at most 0.25)"
    ratio = statistics.median(found["ten"]["away_s"]) / statistics.median(found["one"]["away_s"])
    yield verdict(ratio <= 3), f"the median downtime of {found['containers']} containers against that of one: {ratio:.2f} (at most 3)"


def beyond(report):
    cycles = [one for one in good(report["cycles"]) if one["tool"] in OURS and not one.get("memory") and "downtime_s" in one]
    if not cycles:
        return "-", "a client's slowest answer beyond the downtime: not measured"
    opened = [one["open_s"] - one["downtime_s"] for one in cycles]
    new = [one["new_s"] - one["downtime_s"] for one in cycles if one["new"]]
    worst = max(opened + new)
    return verdict(worst <= 0.05), (f"a client's slowest answer beyond the downtime: worst {max(opened) * 1000:+.0f} ms on open "
                                    f"connections, {max(new) * 1000:+.0f} ms on new ones (at most +50 ms)")


def growth(report, sizes):
    peaks = {mib: median(good(pick(report, "transship", mib, memory=True)), "helper_kib") for mib in sizes}
    peaks = {mib: peak for mib, peak in peaks.items() if peak}
    if len(peaks) < 2:
        return "-", "the helper's peak memory: not measured at two sizes"
    small, large = min(peaks), max(peaks)
    grown = (peaks[large] - peaks[small]) / 1024
    return verdict(grown <= 8), (f"the helper's peak memory: {peaks[small] / 1024:.1f} MiB at {small} MiB, {peaks[large] / 1024:.1f} MiB "
                                 f"at {large} MiB: {grown:+.1f} MiB (at most +8)")


def added(found):
    return verdict(found["added_ratio"] <= 0.02), (
        f"the interposer in docker run --rm IMAGE true: {found['median_added_s'] * 1000:+.1f} ms on "
        f"{found['median_without_s'] * 1000:.0f} ms, {found['added_ratio'] * 100:+.1f} % over {found['pairs']} pairs (at most +2 %); "
        f"{found['added_per_call_s'] * 1000:+.2f} ms a call of runc")


def verdict(met):
    return "met" if met else "MISSED"


def phases(found):
    lines = [f"Where the time goes at {found['mib']} MiB (downtime {found['downtime_ms']:.0f} ms)"]
    for title, steps in (("steps", found["steps_ms"]), ("within them", found["parts_ms"])):
        if steps:
            lines.append(f"  {title}")
            lines += [f"    {name:<28} {took:8.1f} ms" for name, took in steps.items()]
    return "\n".join(lines)


def notes(report):
    lines = [
        "Notes",
        "  DOWNTIME is the slowest answer on a connection with a request every 5 ms; NEW CONN. the slowest new connection, in",
        "  cycles of its own. COMMANDS is the time the two commands take. ON DISK is what a checkpoint takes in the end, AT ONCE",
        "  when the second command has returned. MEMORY is the most that the tool's processes took together (daemons that Docker",
        "  needs anyway: what they grew by). All are reached by the container's address, `transship, -p` through a published port.",
    ]
    for tool in dict.fromkeys(one["tool"] for one in report["cycles"]):
        failures = [one for one in report["cycles"] if one["tool"] == tool and "failed" in one]
        for reason, count in reasons(failures).items():
            lines.append(f"  {failures[0]['name']}: {count} cycles failed: {reason}")
        for one in report["cycles"]:
            if one["tool"] == tool and one.get("problems"):
                lines.append(f"  {one['name']} at {one['mib']} MiB: clients saw {'; '.join(one['problems'])}")
        unsettled = [one for one in report["cycles"] if one["tool"] == tool and one.get("settled") is False]
        if unsettled:
            lines.append(f"  {unsettled[0]['name']}: {len(unsettled)} checkpoints were still not compressed some time later")
        tries = [one["tries"] for one in report["cycles"] if one["tool"] == tool and "tries" in one]
        if tries and max(tries) > 1:
            lines.append(f"  docker start --checkpoint had to be repeated up to {max(tries)} times until it was accepted")
    if "docker_today" in report:
        found = report["docker_today"]
        said = "works there" if not found["error"] else f"does NOT work: {found['error']}"
        lines.append(f"  docker start --checkpoint on Docker {found['version']}: {said}")
    for key, version in report.get("versions", {}).items():
        lines.append(f"  {key}: {version}")
    return "\n".join(lines)


def reasons(failures):
    counts = {}
    for one in failures:
        reason = "a client was just connecting (In-flight connection)" if one["in_flight"] else f"{one['step']}: {one['failed']}"
        if one["new"] and one["in_flight"]:
            reason += ", in cycles with new connections"
        counts[reason] = counts.get(reason, 0) + 1
    return counts
