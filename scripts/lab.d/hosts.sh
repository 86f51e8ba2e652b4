# shellcheck shell=bash disable=SC2153
# Hosts: starting them, and running things in them.

known_hosts() {
    local directory
    for directory in "$STATE"/hosts/*/; do
        [[ ! -d $directory ]] || basename "$directory"
    done
}

recorded() { cat "$STATE/hosts/$1/$2" 2>/dev/null; }

address_of() { echo "$SUBNET.$(recorded "$1" number)"; }

# init_of HOST: the machine's number of the host's first process, if that very process still lives.
init_of() {
    local pid began
    { read -r pid began <"$STATE/hosts/$1/init"; } 2>/dev/null || return 1
    [[ $(start_time "$pid") == "$began" ]] || return 1
    echo "$pid"
}

# A host is ready from the moment it is complete until its first process ends. A process that is killed has no root any
# more, though it stays to be seen for as long as something frozen keeps it from ending.
is_ready() {
    local init
    [[ -e $STATE/hosts/$1/ready ]] && init=$(init_of "$1") && [[ -d /proc/$init/root/proc ]]
}

# The host's own view of its files, from outside.
root_of() { echo "/proc/$(init_of "$1")/root"; }

must_be_ready() {
    [[ -n ${1:-} ]] || die_usage "which host?"
    check_host_name "$1"
    is_ready "$1" || die "host '$1' is not up"
}

# in_host HOST COMMAND...: replaces this shell. A killed caller takes the command with it.
in_host() {
    local init host=$1
    shift
    init=$(init_of "$host")
    join_cgroups "$host" "$(only_v2 && echo init)"
    exec nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup -- \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root USER=root LANG=C.UTF-8 ${TERM:+TERM="$TERM"} setpriv --pdeathsig TERM -- "$@"
}

# run_in HOST COMMAND...: the same as a step of this call.
run_in() { unlocked in_host "$@"; }

command_exec() {
    must_be_ready "${1:-}"
    [[ $# -gt 1 ]] || die_usage "exec: which command?"
    in_host "$@"
}

command_ip() {
    [[ $# -eq 1 ]] || die_usage "ip: which host?"
    check_host_name "$1"
    [[ -s $STATE/hosts/$1/number ]] || die "there is no host '$1'"
    address_of "$1"
}

command_ls() {
    local host state engine form='%-14s %-10s %-16s %-14s %s\n'
    # shellcheck disable=SC2059
    printf "$form" HOST RELEASE ENGINE ADDRESS STATE
    for host in $(known_hosts); do
        engine=- state=dead
        if is_ready "$host"; then
            state=no-docker
            ! engine=$(engine_of "$host") || state=up
        fi
        # shellcheck disable=SC2059
        printf "$form" "$host" "$(recorded "$host" release)" "${engine:--}" "$(address_of "$host")" "$state"
    done
}

engine_of() { run_in "$1" timeout 5 docker version --format '{{.Server.Version}}' 2>/dev/null; }

command_up() {
    local bare='' argument hosts=() host release
    for argument in "$@"; do
        case $argument in
            --bare) bare=yes ;;
            -*) die_usage "up knows no '$argument'" ;;
            *)
                check_host_name "${argument%%=*}"
                hosts+=("$argument")
                ;;
        esac
    done
    [[ ${#hosts[@]} -gt 0 ]] || die_usage "up: which hosts?"
    take_lock
    need_tools ip=iproute2 unshare=util-linux setpriv=util-linux pivot_root=util-linux
    [[ $bare ]] || need_binaries
    for argument in "${hosts[@]}"; do
        host=${argument%%=*} release=
        [[ $argument != *=* ]] || release=${argument#*=}
        [[ $release =~ ^[a-z]*$ ]] || die_usage "'$release' is no Debian release"
        need_host "$host" "$release"
    done
    share_names
    [[ ! $bare ]] || return 0
    for argument in "${hosts[@]}"; do need_transship "${argument%%=*}"; done
    pair_all "${hosts[@]%%=*}"
}

need_host() {
    local host=$1 release=$2 present
    if is_ready "$host"; then
        present=$(recorded "$host" release)
        [[ -z $release || $release == "$present" ]] || die "host '$host' is up with $present: take it down first"
        need_docker "$host"
        return
    fi
    # What a crash has left of it; a host starts fresh.
    release=${release:-$(recorded "$host" release || echo "$DEFAULT_RELEASE")}
    clean_host "$host"
    need_root root "$release"
    start_host "$host" "$release"
    need_docker "$host"
}

start_host() {
    local host=$1 release=$2
    local state=$STATE/hosts/$host disk=$CACHE/hosts/$host number
    number=$(free_number)
    mkdir -p "$state" "$disk"/{upper,work,root}
    (cd "$disk" && for name in $HOST_DISKS; do mkdir -p -m 700 "$name"; done)
    echo "$number" >"$state/number"
    echo "$release" >"$state/release"
    cached root "$release" >"$state/root"
    say "starting $host ($release, $(address_of "$host"))"
    boot_host "$host"
}

# Its disk, number and root are there.
boot_host() {
    local host=$1 state=$STATE/hosts/$1
    need_segment
    join_segment "$PREFIX-$host" "$(address_of "$host")" "$(recorded "$host" number)"
    make_cgroups "$host"
    hosts_file >"$state/names"
    remember_grace_periods
    spawn_init "$host" || die_with_log "could not start $host" "$state/log"
    work_around_missing_capability "$host"
    # Only now: a call that was killed halfway leaves something that the next one starts afresh.
    touch "$state/ready"
}

# What is on its disks stays, and nothing else: /run is empty, no process, rule, route or cgroup has survived.
command_reboot() {
    [[ $# -eq 1 ]] || die_usage "reboot: which host?"
    must_be_ready "$1"
    take_lock
    say "cutting $1's power"
    end_processes "$1"
    remove_cgroups "$1"
    remove_namespace "$PREFIX-$1"
    boot_host "$1"
    need_docker "$1"
    ! is_installed "$1" || run_in "$1" service transshipd start </dev/null >&2
}

# The lowest number no host has; it is the last byte of the address.
free_number() {
    local number=$FIRST_HOST_NUMBER
    while grep -qsx "$number" "$STATE"/hosts/*/number; do number=$((number + 1)); done
    [[ $number -lt 255 ]] || die "no address is left on the segment"
    echo "$number"
}

# Hosts share the machine's kernel. What a host's helper was in the middle of telling it ends with the host's power.
remember_grace_periods() {
    [[ -s $STATE/rcu-expedited || ! -w /sys/kernel/rcu_expedited ]] || cat /sys/kernel/rcu_expedited >"$STATE/rcu-expedited"
}

put_back_grace_periods() {
    [[ ! -s $STATE/rcu-expedited ]] || cat "$STATE/rcu-expedited" >/sys/kernel/rcu_expedited
}

# Starts the host's first process and waits until it says that its root is in place.
spawn_init() {
    local host=$1 word='' from
    exec {from}< <(
        join_cgroups "$host"
        let_go_of_locks
        exec nsenter --net="/run/netns/$PREFIX-$host" setsid \
            unshare --mount --pid --uts --ipc --cgroup --fork \
            bash "$LAB_PARTS/host-init.sh" "$host" "$STATE/hosts/$host" "$CACHE/hosts/$host" \
            </dev/null 2>"$STATE/hosts/$host/log"
    )
    read -r -t 30 word <&"$from" || true
    exec {from}<&-
    [[ $word == ready ]] && init_of "$host" >/dev/null
}

docker_answers() {
    [[ -S $(root_of "$1")/run/docker.sock ]] && run_in "$1" timeout 10 docker info >/dev/null 2>&1
}

need_docker() {
    local host=$1
    docker_answers "$host" && return
    run_in "$host" service docker start >>"$STATE/hosts/$host/log" 2>&1 </dev/null ||
        die_with_log "docker in $host could not be started" "$STATE/hosts/$host/log"
    poll "$DOCKER_TIMEOUT" docker_answers "$host" ||
        die_with_log "docker in $host did not answer within $DOCKER_TIMEOUT s" "$(docker_log "$host")"
    say "$host is up: docker $(engine_of "$host")"
}

docker_log() {
    local log
    log=$(root_of "$1")/var/log/docker.log
    [[ -s $log ]] && echo "$log" || echo "$STATE/hosts/$1/log"
}
