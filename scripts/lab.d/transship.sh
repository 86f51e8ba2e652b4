# shellcheck shell=bash
# transship in a host, as its package would install it.

# Installs, or refreshes what differs. Docker and its containers are left alone.
need_transship() {
    local host=$1
    if ! is_installed "$host"; then
        say "installing transship in $host"
        put_files "$host"
        run_in "$host" sh -ec 'getent group transship >/dev/null || groupadd --system transship
            update-rc.d transshipd defaults'
        run_in "$host" service transshipd start </dev/null >&2
        run_in "$host" transship install </dev/null >&2 || die "'transship install' failed in $host"
        touch "$STATE/hosts/$host/transship"
    elif ! is_current "$host"; then
        say "refreshing transship in $host"
        run_in "$host" service transshipd stop </dev/null >&2
        put_files "$host"
        run_in "$host" service transshipd start </dev/null >&2
    else
        run_in "$host" service transshipd status </dev/null >/dev/null ||
            run_in "$host" service transshipd start </dev/null >&2
    fi
}

# All of it, not a part before a call was killed.
is_installed() { [[ -e $STATE/hosts/$1/transship ]]; }

is_current() {
    local binary root
    root=$(root_of "$1")
    for binary in $BINARIES; do
        cmp -s "$BIN_DIR/${binary%%=*}" "$root${binary#*=}" || return 1
    done
    cmp -s "$LAB_PARTS/transshipd.init" "$root/etc/init.d/transshipd"
}

put_files() {
    local binary root
    root=$(root_of "$1")
    for binary in $BINARIES; do
        put_file "$BIN_DIR/${binary%%=*}" "$root${binary#*=}"
    done
    put_file "$LAB_PARTS/transshipd.init" "$root/etc/init.d/transshipd"
}

# By rename, since Docker may call the interposer at any time.
put_file() {
    install -D -m 755 "$1" "$2.new"
    mv "$2.new" "$2"
}

# Every host with every other, once they all run.
pair_all() {
    local one other
    for one in "$@"; do
        for other in $(installed_hosts); do
            [[ $one == "$other" ]] || pair "$one" "$other"
        done
    done
}

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
