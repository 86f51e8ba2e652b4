# shellcheck shell=bash disable=SC2153,SC2154 # shared with the demo's other parts
# Freezing and restoring, and where the time went.

HELPER_LOG=/var/log/transshipd.log

# cycle NAME PAUSE: checkpoint, wait, restore; prints the timeline.
cycle() {
    local name=$1 pause=$2 lines
    lines=$(in_demo sh -c "wc -l <$HELPER_LOG")
    transship "$name" checkpoint
    if [[ $pause -gt 0 ]]; then
        tell "$name is off this host, in $(in_demo transship ls | awk -v name="$name" '$3 == name || $2 == name { print "checkpoint " $1; exit }');" \
            "docker says: $(in_demo docker ps -a --filter "name=^$name\$" --format '{{.Status}}'). Its clients wait for $pause s."
        sleep "$pause"
    fi
    transship "$name" restore
    in_demo tail -n "+$((lines + 1))" "$HELPER_LOG" >"$WORK/log"
    tell_timeline "$name" "$pause"
}

# transship NAME VERB: leaves the answer in $WORK/VERB and what happened on the way in $WORK/VERB.steps.
transship() {
    in_demo transship --json "$2" "$1" >"$WORK/$2" 2>"$WORK/$2.steps" && return
    in_demo transship status >&2 || true
    die "transship $2 $1 failed: $(cat "$WORK/$2")"
}

# step VERB NAME...: microseconds that these steps took together.
step() {
    local verb=$1 name sum=0 found
    shift
    for name in "$@"; do
        found=$(sed -n "s/.*\"step-ended\",\"name\":\"$name\",\"microseconds\":\([0-9]*\).*/\1/p" "$WORK/$verb.steps")
        sum=$((sum + ${found:-0}))
    done
    echo "$sum"
}

answer() { grep -o "\"$2\":[0-9]*" "$WORK/$1" | head -n 1 | cut -d: -f2; }

# since_restore TEXT: microseconds from the request to restore until the helper says TEXT; nothing if it did not.
since_restore() {
    awk -v text="$1" '
        function us(stamp, part) { split(substr(stamp, 12, 15), part, ":"); return int((part[1] * 3600 + part[2] * 60 + part[3]) * 1e6) }
        /request=Restore/ { asked = us($1) }
        asked && index($0, text) { print (us($1) - asked + 86400e6) % 86400e6; exit }' "$WORK/log"
}

tell_timeline() {
    local name=$1 away='' start restored tracked lifted
    [[ $2 -eq 0 ]] || away="$2 s of them because nobody asked for it back"
    start=$(step restore start)
    restored=$(since_restore "restored, and stopped")
    tracked=$(since_restore "connection tracking put back")
    lifted=$(since_restore "hold lifted")
    printf '%s%s%s, %d KiB of memory\n' "$BOLD" "$name" "$PLAIN" $(($(answer checkpoint pages_bytes) / 1024))
    bar freeze "packets wait, then the processes stand still" "$(step checkpoint hold freeze)"
    bar dump "memory, files and connections to disk" "$(step checkpoint dump copy)"
    bar seal "digests, and the note that it may be restored" "$(step checkpoint seal claim)"
    bar stop "Docker is told that it has ended" "$(step checkpoint stop)"
    if [[ $restored && $tracked && $lifted ]]; then
        bar restore "docker start, with CRIU in place of a fresh start" "$restored"
        bar network "addresses, ports and connection tracking are back" $((tracked - restored))
        bar thaw "the processes run, waiting packets are let go" $((lifted - tracked))
    else
        bar restore "docker start: restore, network and thaw" "$start"
    fi
    printf '  %-8s %-50s %5d ms\n\n' away "$away" $(($(answer restore downtime_us) / 1000))
}

# bar PHASE WHAT MICROSECONDS
bar() {
    local length=$((($3 + 9999) / 10000)) blocks
    [[ $length -le 60 ]] || length=60
    printf -v blocks '%*s' "$length" ''
    printf '  %-8s %-50s %5d ms %s%s%s\n' "$1" "$2" $(($3 / 1000)) "$BLUE" "${blocks// /▆}" "$PLAIN"
}
