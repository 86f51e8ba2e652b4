# shellcheck shell=bash
# Speaking, failing, locking, and the tools of the machine; for scripts/lab and scripts/vm.

say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

die() {
    printf '%s: error: %s\n' "$PROGRAM" "$*" >&2
    exit 1
}

die_usage() {
    printf '%s: error: %s (see scripts/%s --help)\n' "$PROGRAM" "$*" "$PROGRAM" >&2
    exit 2
}

check_host_name() {
    [[ $1 =~ ^[a-z][a-z0-9-]*$ && ${#1} -le 40 ]] || die_usage "'$1' is no host name: [a-z][a-z0-9-]*, 40 at most"
    [[ $1 != net && $1 != client ]] || die_usage "the name '$1' is taken"
}

# Only one call at a time changes the lab. The lock lies in the cache, since the state directory goes with `down`;
# it is looked at again once held, because `down --cache` may have removed it meanwhile.
take_lock() {
    [[ $CACHE$STATE != *[:,\\[:space:]]* ]] || die "the cache and state paths may not hold spaces, ':', ',' or '\\'"
    hold --exclusive "$CACHE/lock"
    # A build that was killed a moment ago may still be on its way out.
    poll 10 rm -rf --one-file-system "$CACHE/tmp" || die "could not empty $CACHE/tmp"
    mkdir -p "$CACHE"/{tmp,roots,base,images,archives,shim,hosts} "$STATE/hosts"
}

# take_lock_of HOST...: calls that change other hosts, and nothing that hosts share, may go on beside this one. Always in the
# same order: none waits for one that waits for it.
take_lock_of() {
    local host
    hold --shared "$CACHE/lock"
    for host in $(printf '%s\n' "$@" | sort -u); do hold --exclusive "$CACHE/locks/$host"; done
}

# hold --exclusive|--shared FILE
hold() {
    local lock announced=
    while :; do
        mkdir -p "${2%/*}"
        exec {lock}>"$2"
        if ! flock --nonblock "$1" "$lock"; then
            [[ $announced ]] || say "waiting for another call, which holds $2"
            announced=yes
            flock "$1" "$lock"
        fi
        [[ "$2" -ef /proc/self/fd/$lock ]] && break
        exec {lock}>&-
    done
    LOCKS+=("$lock")
}

LOCKS=()

let_go_of_locks() {
    local lock
    for lock in "${LOCKS[@]}"; do exec {lock}>&-; done
    LOCKS=()
}

# Runs a command without the locks that are held: it, or what it starts, may outlive this call.
# A program stays a child of this shell's own, and can end with it.
unlocked() {
    (
        let_go_of_locks
        if [[ $(type -t "$1") == file ]]; then exec "$@"; else "$@"; fi
    )
}

# need_tools COMMAND=PACKAGE...: installs the packages whose command is missing.
need_tools() {
    local pair missing=()
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    command -v apt-get >/dev/null || die "missing tools, and no apt-get to install them: ${missing[*]}"
    say "installing ${missing[*]} on this machine"
    local log=$CACHE/tmp/tools.log
    alone_with_packages install_tools "${missing[@]}" >"$log" 2>&1 || die_with_log "could not install ${missing[*]}" "$log"
}

install_tools() {
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# Runs a command while no other call, of whichever script, changes this machine's packages.
alone_with_packages() { (hold --exclusive /run/lock/transship-packages && "$@"); }

die_with_log() {
    printf '%s: error: %s; the end of its log:\n' "$PROGRAM" "$1" >&2
    tail -n 25 "$2" | sed 's/^/    /' >&2
    exit 1
}

# poll SECONDS COMMAND...: repeats a quick check until it holds.
poll() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [[ $SECONDS -lt $deadline ]] || return 1
        sleep 0.05
    done
}

# start_time PID: what tells a process from a later one with the same number. One of which only the first thread has ended still
# has its files open.
start_time() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # The command's name, in parentheses, may hold anything; after it come the fields from the third on. The 20th is the
    # number of threads, the 22nd the time.
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [[ $1 != Z || ${18} -gt 1 ]] && printf '%s\n' "${20}"
}
