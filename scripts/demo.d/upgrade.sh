# shellcheck shell=bash disable=SC2154 # shared with the demo's other parts
# The engine's own upgrade, under the same clients.

# upgrade_engine: from the release's engine to the newest that the host's packages have.
upgrade_engine() {
    local from to number report=$REPOSITORY/target/upgrade-report.html
    from=$(engine_version)
    to=$(in_demo apt-cache madison docker.io | awk 'NR == 1 { print $3 }')
    start_clients
    # What it is doing goes to the terminal; the table in the end does, too.
    in_demo transship upgrade --to "$to" || die "the upgrade failed; see: scripts/lab exec $HOST transship status"
    end_clients
    tell "dockerd was $from and is $(engine_version)"
    number=$(in_demo transship history --limit 1 | awk 'NR == 2 { print $1 }')
    in_demo transship report "$number" --html /root/report.html >/dev/null
    mkdir -p "${report%/*}"
    in_demo cat /root/report.html >"$report"
    tell "the report, for a browser: $report"
}

engine_version() { in_demo docker version --format '{{.Server.Version}}'; }

# Whether the host's packages have a newer engine than it runs.
has_newer_engine() { [[ $(in_demo apt-cache madison docker.io | wc -l) -gt 1 ]]; }
