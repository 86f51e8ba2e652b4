# shellcheck shell=bash
# Peers: hosts that trust each other; for scripts/lab and scripts/vm.

# Every host with every other, once they all run.
pair_all() {
    local one other
    for one in "$@"; do
        for other in $(installed_hosts); do
            [[ $one == "$other" ]] || pair "$one" "$other"
        done
    done
}

# All of transship, not a part before a call was killed.
is_installed() { [[ -e $STATE/hosts/$1/transship ]]; }

installed_hosts() {
    local host
    for host in $(known_hosts); do
        if is_installed "$host" && is_ready "$host"; then echo "$host"; fi
    done
}

# A host that was made anew has forgotten its peers, and they know another key of it.
pair() {
    local one=$1 other=$2 word
    if knows "$one" "$other" && knows "$other" "$one"; then return; fi
    say "pairing $one and $other"
    ! knows "$one" "$other" || run_in "$one" transship peer rm "$other" </dev/null >/dev/null
    ! knows "$other" "$one" || run_in "$other" transship peer rm "$one" </dev/null >/dev/null
    word=$(run_in "$one" transship peer invite --address "$(address_of "$one")" </dev/null 2>/dev/null)
    run_in "$other" transship peer join --address "$(address_of "$other")" - <<<"$word" >/dev/null ||
        die "$one and $other could not be paired"
}

knows() { run_in "$1" transship --json peer ls </dev/null | grep -q "\"name\":\"$2\""; }
