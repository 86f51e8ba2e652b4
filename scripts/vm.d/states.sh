# shellcheck shell=bash disable=SC2153
# States of running machines, kept in the cache: memory and disk. A machine that is resumed goes on as if nothing had
# been; what it does then does not change the state, so it can be resumed again and again.

# saved_boot HOST: its state after it was booted for the first time, there or not. Memory can only be read into the same
# emulator with the same machine.
saved_boot() {
    local key disk
    disk=$(recorded "$1" disk)
    key=$({
        declare -f emulate
        qemu-system-x86_64 --version
        printf '%s\n' "$(recorded "$1" number)" "$disk" "$(accelerator "$disk")" "$MEMORY" "$PROCESSOR" "$PROCESSORS" "$SUBNET"
    } | sha256sum | cut -c1-12)
    echo "$CACHE/states/$1-$key"
}

# saved_as HOST NAME: the state that somebody has given a name; it goes with the host.
saved_as() { echo "$CACHE/hosts/$1/states/$2"; }

# States of disks that are no longer there.
prune_states() {
    local state
    for state in "$CACHE"/states/*/; do
        [[ ! -e $state || -d $(cat "$state/disk") ]] || rm -rf --one-file-system "$state"
    done
}

# have_done HOST WHAT COMMAND...
have_done() {
    python3 "$VM_PARTS/qmp.py" "$STATE/hosts/$1/qmp" "${@:3}" >"$CACHE/hosts/$1/qmp.log" 2>&1 ||
        die_with_log "$2" "$CACHE/hosts/$1/qmp.log"
}

MOVED_BY_FILE='{"execute":"migrate-set-capabilities","arguments":{"capabilities":[
    {"capability":"mapped-ram","state":true},{"capability":"events","state":true}]}}'

# save_machine HOST DIRECTORY: the host is off afterwards, and its disk in the directory.
save_machine() {
    local host=$1 state=$2 stage=$CACHE/hosts/$1/half-saved file
    rm -rf --one-file-system "$stage"
    mkdir -p "$stage" "${state%/*}"
    rm -f "$STATE/hosts/$host/ready"
    end_connection "$host"
    have_done "$host" "the state of $host could not be written" '{"execute":"stop"}' "$MOVED_BY_FILE" \
        "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"file:$stage/memory\"}}" '{"execute":"quit"}'
    poll 20 machine_has_ended "$host" || die "the emulator of $host does not end"
    rm -f "$STATE/hosts/$host/machine"
    mv "$CACHE/hosts/$host/disk.qcow2" "$stage/disk.qcow2"
    for file in disk engine transship kernel; do
        [[ ! -e $STATE/hosts/$host/$file ]] || cp "$STATE/hosts/$host/$file" "$stage/$file"
    done
    rm -rf --one-file-system "$state"
    mv -T "$stage" "$state"
}

# resume_machine HOST DIRECTORY
resume_machine() {
    local host=$1 state=$2 file disk=$CACHE/hosts/$1/disk.qcow2 began=$SECONDS
    need_segment
    qemu-img create -q -f qcow2 -b "$state/disk.qcow2" -F qcow2 "$disk"
    for file in engine transship kernel; do
        rm -f "$STATE/hosts/$host/$file"
        [[ ! -e $state/$file ]] || cp "$state/$file" "$STATE/hosts/$host/$file"
    done
    start_emulator "$host" -incoming defer
    poll 20 test -S "$STATE/hosts/$host/qmp" || die_with_log "$host does not start" "$CACHE/hosts/$host/emulator.log"
    have_done "$host" "the state of $host could not be read" "$MOVED_BY_FILE" \
        "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"file:$state/memory\"}}" '{"execute":"cont"}'
    wait_until_reachable "$host"
    # It has slept since.
    run_in "$host" date -s "@$(date +%s.%N)" </dev/null >/dev/null
    touch "$STATE/hosts/$host/ready"
    say "$host goes on after $((SECONDS - began)) s: docker $(recorded "$host" engine), $(accelerator "$(recorded "$host" disk)")"
}

# begin HOST: it is made, and runs as if it had just been booted.
begin() {
    local state
    state=$(saved_boot "$1")
    if [[ ! -d $state ]]; then
        boot "$1"
        # Memory that was not written to the disk is in the state as well; the less there is, the smaller it is.
        run_in "$1" sync </dev/null
        save_machine "$1" "$state"
    fi
    resume_machine "$1" "$state"
}

# stands_on HOST NAME: whether its disk keeps only what differs from that state's, or from one that does.
stands_on() {
    qemu-img info -U --backing-chain "$CACHE/hosts/$1/disk.qcow2" | grep -qxF "image: $(saved_as "$1" "$2")/disk.qcow2"
}

check_state_name() { [[ ${1:-} =~ ^[a-z][a-z0-9-]*$ ]] || die_usage "a state's name is [a-z][a-z0-9-]*"; }

command_save() {
    local host
    check_state_name "${1:-}"
    [[ $# -gt 1 ]] || die_usage "save: which hosts?"
    for host in "${@:2}"; do
        must_be_ready "$host"
        ! stands_on "$host" "$1" || die "$host goes on from its state '$1': save it by another name"
    done
    take_lock_of "${@:2}"
    # None goes on before all are saved: what they have to do with each other stays as it is.
    for host in "${@:2}"; do save_machine "$host" "$(saved_as "$host" "$1")"; done
    for host in "${@:2}"; do resume_machine "$host" "$(saved_as "$host" "$1")"; done
}

command_resume() {
    local host hosts=()
    check_state_name "${1:-}"
    for host in $(known_hosts); do
        [[ ! -d $(saved_as "$host" "$1") ]] || hosts+=("$host")
    done
    [[ ${#hosts[@]} -gt 0 ]] || die "no host has a state '$1' (scripts/vm save makes one)"
    take_lock_of "${hosts[@]}"
    # All are off before the first goes on: none meets another as it is later.
    for host in "${hosts[@]}"; do power_off "$host"; done
    for host in "${hosts[@]}"; do resume_machine "$host" "$(saved_as "$host" "$1")"; done
}
