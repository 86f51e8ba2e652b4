# shellcheck shell=bash
# Machines: an emulator each, and a shell in it over ssh.

# machine_of HOST: the emulator's pid, if it still is that very process.
machine_of() {
    local pid began
    { read -r pid began <"$STATE/hosts/$1/machine"; } 2>/dev/null || return 1
    [[ $(start_time "$pid") == "$began" ]] || return 1
    echo "$pid"
}

# power_on HOST: its disk, number and image are there.
power_on() {
    start_emulator "$1"
    wait_until_reachable "$1"
}

# start_emulator HOST OPTION...: options are the emulator's own.
start_emulator() {
    local host=$1 state=$STATE/hosts/$1 log=$CACHE/hosts/$1/emulator.log how pid
    how=$(accelerator "$(recorded "$host" disk)")
    plug_in "$host"
    rm -f "$state/qmp"
    (
        # It takes this shell's place, and so its number; and it outlives this call, so the lock is not its.
        let_go_of_locks
        emulate "$host" "$how" "${@:2}"
    ) </dev/null >"$log" 2>&1 &
    pid=$!
    echo "$pid $(start_time "$pid")" >"$state/machine"
}

# emulate HOST ACCELERATOR OPTION... A machine that goes on from a state learns by the generation that it did so before: its
# kernel draws other random numbers then.
emulate() {
    local host=$1 accel=$2 kernel disk=$CACHE/hosts/$1
    kernel=$(recorded "$host" disk)$(recorded "$host" kernel || true)
    [[ $accel == kvm ]] || accel=tcg,thread=multi
    local line="root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 systemd.hostname=$host"
    line+=" ip=$(address_of "$host")::$BRIDGE_ADDRESS:255.255.255.0::eth0:none"
    exec nsenter --net="/run/netns/$NAMESPACE" setsid qemu-system-x86_64 \
        -accel "$accel" -cpu "$PROCESSOR" -smp "$PROCESSORS" -m "$MEMORY" -nodefaults -display none -no-reboot \
        -kernel "$kernel/kernel" -initrd "$kernel/initrd" -append "$line" \
        -drive "file=$disk/disk.qcow2,if=virtio,format=qcow2,discard=unmap" \
        -netdev "tap,id=net,ifname=t-$(recorded "$host" number),script=no,downscript=no" \
        -device "virtio-net-pci,netdev=net,mac=$(mac_of "$host")" -device virtio-rng-pci \
        -device vmgenid,guid=auto \
        -qmp "unix:$STATE/hosts/$host/qmp,server=on,wait=off" \
        -serial "file:$disk/console.log" "${@:3}"
}

wait_until_reachable() {
    poll "$BOOT_TIMEOUT" is_reachable_or_dead "$1" && is_reachable "$1" ||
        die_with_log "$1 did not boot" "$CACHE/hosts/$1/console.log"
}

is_reachable_or_dead() { ! machine_of "$1" >/dev/null || is_reachable "$1"; }

# Leaves a connection that later calls share. They do not make one themselves: it would keep their output open.
is_reachable() { connect "$1" auto true </dev/null >/dev/null 2>&1; }

shell_in() { connect "$1" no "${@:2}"; }

# connect HOST SHARED WORD...: which key the machine has does not matter, since its network is ours.
connect() {
    local host=$1 shared=$2
    shift 2
    unlocked nsenter --net="/run/netns/$NAMESPACE" ssh -q -F none -i "$CACHE/key" -l root \
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=2 -o BatchMode=yes \
        -o ControlMaster="$shared" -o ControlPersist=yes -o ControlPath="$STATE/hosts/$host/ssh" \
        "$(address_of "$host")" "$@"
}

# What it had not written to its disk is lost.
power_off() {
    local pid
    rm -f "$STATE/hosts/$1/ready"
    end_connection "$1"
    if pid=$(machine_of "$1"); then
        kill -KILL "$pid" 2>/dev/null || true
        poll 20 machine_has_ended "$1" || die "the emulator of $1 does not end"
    fi
    rm -f "$STATE/hosts/$1/machine"
}

machine_has_ended() { ! machine_of "$1" >/dev/null; }

end_connection() {
    [[ ! -S $STATE/hosts/$1/ssh ]] || ssh -q -F none -o ControlPath="$STATE/hosts/$1/ssh" -O exit host 2>/dev/null || true
    rm -f "$STATE/hosts/$1/ssh"
}
