# shellcheck shell=bash
# A host's first process: runs in the host's new namespaces, still on the machine's files, puts its root in place
# and becomes its reaper. Says "ready" on stdout when done. host-init.sh HOST STATE DISK
set -euo pipefail

HOST=$1 STATE=$2 DISK=$3
ROOT=$DISK/root

main() {
    record_self
    mount --make-rprivate /
    mount_disks
    mount_kernel_files
    mount_devices
    mount_cgroups
    write_files
    enter_root
    echo ready
    # Packages may have put the one in place of the other since the host was booted last.
    exec "$(command -v tini || command -v tini-static)" -- sleep infinity >/dev/null
}

# First of all, so that whatever happens later the host can be ended. The machine's /proc is still the one seen here,
# and so is the machine's number for this process.
record_self() {
    local stat pid
    read -r stat </proc/self/stat
    pid=${stat%% *}
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    echo "$pid ${20}" >"$STATE/init.new"
    mv "$STATE/init.new" "$STATE/init"
    readlink /proc/self/ns/{mnt,pid,net,uts,ipc} >"$STATE/namespaces"
}

# Docker's directories must not lie on an overlay, so plain ones are put there.
mount_disks() {
    local name
    mount -t overlay -o "lowerdir=$(<"$STATE/root"),upperdir=$DISK/upper,workdir=$DISK/work" "$HOST" "$ROOT"
    for name in "$DISK"/*/; do
        name=$(basename "$name")
        case $name in upper | work | root) continue ;; esac
        mkdir -p "$ROOT/var/lib/$name"
        mount --bind "$DISK/$name" "$ROOT/var/lib/$name"
    done
}

mount_kernel_files() {
    mount -t proc -o nosuid,nodev,noexec proc "$ROOT/proc"
    mount -t sysfs -o nosuid,nodev,noexec sysfs "$ROOT/sys"
    mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$ROOT/run"
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$ROOT/tmp"
    mkdir -m 1777 "$ROOT/run/lock"
    if [[ -d /lib/modules ]]; then
        mkdir -p "$ROOT/lib/modules"
        mount --bind -o ro /lib/modules "$ROOT/lib/modules"
    fi
}

# A /dev of the host's own: what it does there does not reach the machine's.
mount_devices() {
    local node
    mount -t tmpfs -o nosuid,mode=755 tmpfs "$ROOT/dev"
    for node in null zero full random urandom tty kmsg fuse loop-control userfaultfd; do
        [[ ! -c /dev/$node ]] || cp -a "/dev/$node" "$ROOT/dev/$node"
    done
    mkdir -p "$ROOT/dev"/{pts,shm,mqueue,net}
    [[ ! -c /dev/net/tun ]] || cp -a /dev/net/tun "$ROOT/dev/net/tun"
    mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$ROOT/dev/pts"
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$ROOT/dev/shm"
    mount -t mqueue mqueue "$ROOT/dev/mqueue" || true
    ln -s pts/ptmx "$ROOT/dev/ptmx"
    ln -s /proc/self/fd "$ROOT/dev/fd"
    for node in 0=stdin 1=stdout 2=stderr; do
        ln -s "/proc/self/fd/${node%=*}" "$ROOT/dev/${node#*=}"
    done
}

# The machine's hierarchies once more; the cgroup namespace makes the host's own cgroup their root.
mount_cgroups() {
    local hierarchies kind place options
    if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
        mount -t cgroup2 cgroup2 "$ROOT/sys/fs/cgroup"
        # The namespace's root is settled; now the processes must leave it for their leaf.
        echo 0 >"$ROOT/sys/fs/cgroup/init/cgroup.procs"
        return
    fi
    # Read at once: the list grows while these are mounted.
    hierarchies=$(awk '$3 == "cgroup" || $3 == "cgroup2"' /proc/mounts)
    mount -t tmpfs -o nosuid,nodev,noexec,mode=755 tmpfs "$ROOT/sys/fs/cgroup"
    while read -r _ place kind options _; do
        mkdir -p "$ROOT$place"
        if [[ $kind == cgroup2 ]]; then
            mount -t cgroup2 cgroup2 "$ROOT$place"
        else
            mount -t cgroup -o "$(hierarchy_options "$options")" cgroup "$ROOT$place"
        fi
    done <<<"$hierarchies"
}

# Of a v1 mount's options, those that say which hierarchy it is.
hierarchy_options() {
    tr ',' '\n' <<<"$1" | awk '
        /^name=/ { named = $0 }
        !/=/ && !/^(rw|ro|nosuid|nodev|noexec|relatime|noatime|xattr|clone_children|cpuset_v2_mode|favordynmods)$/ { controllers = controllers "," $0 }
        END { print controllers ? substr(controllers, 2) (named ? "," named : "") : "none," named }'
}

write_files() {
    echo "$HOST" >/proc/sys/kernel/hostname
    echo "$HOST" >"$ROOT/etc/hostname"
    cat "$STATE/names" >"$ROOT/etc/hosts"
    : >"$ROOT/etc/resolv.conf"
    # Docker's sysv script looks for the word here, and otherwise tries to mount hierarchies this machine has not got.
    grep -qs cgroup "$ROOT/etc/fstab" || echo ' # cgroup hierarchies are mounted already' >>"$ROOT/etc/fstab"
    pretend_booted
}

# Packages start their services only where there is an init and a runlevel: what an upgrade restarts on a real host,
# it shall restart here.
pretend_booted() {
    [[ -e $ROOT/usr/sbin/init || -L $ROOT/usr/sbin/init ]] || ln -s ../bin/true "$ROOT/usr/sbin/init"
    [[ -e $ROOT/usr/sbin/runlevel ]] || printf '#!/bin/sh\necho N 2\n' >"$ROOT/usr/sbin/runlevel"
    chmod 755 "$ROOT/usr/sbin/runlevel"
}

enter_root() {
    cd "$ROOT"
    mkdir run/old
    pivot_root . run/old
    cd /
    umount -l /run/old
    rmdir /run/old
    hash -r
}

main
