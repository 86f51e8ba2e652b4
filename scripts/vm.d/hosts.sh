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

is_ready() { [[ -e $STATE/hosts/$1/ready ]] && machine_of "$1" >/dev/null; }

must_be_known() {
    [[ -n ${1:-} ]] || die_usage "which host?"
    check_host_name "$1"
    [[ -s $STATE/hosts/$1/number ]] || die "there is no host '$1'"
}

must_be_ready() {
    must_be_known "$@"
    is_ready "$1" || die "host '$1' is not up"
}

# run_in HOST COMMAND...: ssh joins its words for a shell, so they are quoted for one.
run_in() {
    local host=$1
    shift
    shell_in "$host" "$(printf '%q ' "$@")"
}

command_exec() {
    must_be_ready "${1:-}"
    [[ $# -gt 1 ]] || die_usage "exec: which command?"
    run_in "$@"
}

command_ip() {
    must_be_known "$@"
    address_of "$1"
}

command_ls() {
    local host state form='%-14s %-14s %-16s %s\n'
    # shellcheck disable=SC2059
    printf "$form" HOST IMAGE ADDRESS STATE
    for host in $(known_hosts); do
        state=off
        ! is_ready "$host" || state=up
        # shellcheck disable=SC2059
        printf "$form" "$host" "$(recorded "$host" image)" "$(address_of "$host")" "$state"
    done
}

command_up() {
    local bare='' argument hosts=() host image
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
    mkdir -p "$CACHE/disks"
    need_emulator
    [[ $bare ]] || need_binaries
    for argument in "${hosts[@]}"; do
        host=${argument%%=*} image=
        [[ $argument != *=* ]] || image=${argument#*=}
        [[ $image =~ ^[a-z0-9-]*$ ]] || die_usage "'$image' is no image"
        need_host "$host" "$image"
        [[ $bare ]] || need_transship "$host"
    done
    [[ $bare ]] || pair_all "${hosts[@]%%=*}"
}

need_host() {
    local host=$1 image=$2 present
    if is_ready "$host"; then
        present=$(recorded "$host" image)
        [[ -z $image || $image == "$present" ]] || die "host '$host' is up with $present: take it down first"
        return
    fi
    # What a crash has left of it; a host starts fresh.
    image=${image:-$(recorded "$host" image || echo "$DEFAULT_IMAGE")}
    clean_host "$host"
    need_disk "$image"
    make_host "$host" "$image"
    begin "$host"
}

make_host() {
    local state=$STATE/hosts/$1 number disk
    number=$(free_number "$1")
    disk=$(disk_of "$2")
    mkdir -p "$state" "$CACHE/hosts/$1"
    qemu-img create -q -f qcow2 -b "$disk/disk.raw" -F raw "$CACHE/hosts/$1/disk.qcow2"
    echo "$number" >"$state/number"
    echo "$2" >"$state/image"
    echo "$disk" >"$state/disk"
}

docker_answers() {
    run_in "$1" timeout 60 docker version --format '{{.Server.Version}}' </dev/null >"$STATE/hosts/$1/engine" 2>/dev/null
}

boot() {
    local began=$SECONDS
    need_segment
    say "booting $1 ($(recorded "$1" image), $(address_of "$1"))"
    power_on "$1"
    # "degraded" is what the manager calls a boot of which one unit failed; the host is there all the same, and says it.
    run_in "$1" systemctl is-system-running --wait </dev/null >/dev/null ||
        say "units of $1 that failed: $(run_in "$1" systemctl --failed --plain --no-legend </dev/null)"
    # An upgrade that goes on stops it for a while.
    poll "$BOOT_TIMEOUT" docker_answers "$1" ||
        die_with_log "docker in $1 does not answer" "$CACHE/hosts/$1/console.log"
    touch "$STATE/hosts/$1/ready"
    say "$1 is up after $((SECONDS - began)) s: docker $(recorded "$1" engine), $(accelerator "$(recorded "$1" disk)")"
}

command_cut() {
    [[ $# -eq 1 ]] || die_usage "cut: which host?"
    must_be_known "$1"
    take_lock_of "$1"
    power_off "$1"
}

command_halt() {
    [[ $# -eq 1 ]] || die_usage "halt: which host?"
    must_be_ready "$1"
    take_lock_of "$1"
    # The connection ends with the machine, so what becomes of the command says nothing.
    run_in "$1" systemctl poweroff </dev/null || true
    poll "$BOOT_TIMEOUT" machine_has_ended "$1" || die "$1 does not shut down; see $CACHE/hosts/$1/console.log"
    power_off "$1"
}

command_boot() {
    local host=${1:-} image
    [[ $# -eq 1 || ${2:-} == --next-kernel && $# -eq 2 ]] || die_usage "boot: which host? (and, if at all, --next-kernel)"
    must_be_known "$host"
    take_lock_of "$host"
    ! is_ready "$host" || return 0
    power_off "$host"
    if [[ ${2:-} ]]; then
        image=$(recorded "$host" disk)
        [[ -d $image/next ]] || die "the image of $host has no other kernel: $(recorded "$host" image)"
        echo /next >"$STATE/hosts/$host/kernel"
    fi
    boot "$host"
}

# free_number HOST: the last byte of its address. It comes of the name where no other host has it: what was saved of a host
# of that name fits whenever it is made again.
free_number() {
    local tried number
    number=$(($(cksum <<<"$1" | cut -d ' ' -f 1) % HOST_NUMBERS))
    for ((tried = 0; tried < HOST_NUMBERS; tried++, number = (number + 1) % HOST_NUMBERS)); do
        grep -qsx "$((FIRST_HOST_NUMBER + number))" "$STATE"/hosts/*/number || break
    done
    [[ $tried -lt $HOST_NUMBERS ]] || die "no address is left on the segment"
    echo "$((FIRST_HOST_NUMBER + number))"
}
