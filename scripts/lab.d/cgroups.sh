# shellcheck shell=bash
# Each host has a cgroup of its own in every hierarchy and a cgroup namespace rooted there. So Docker finds its usual
# paths (/docker/ID), hosts do not meet in them, and everything a host ever ran can be found and ended by cgroup.

# The machine's hierarchies: one directory each (v1, or both), or /sys/fs/cgroup itself (v2 alone).
hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts; }

only_v2() { [[ -f /sys/fs/cgroup/cgroup.controllers ]]; }

host_cgroups() {
    local hierarchy
    for hierarchy in $(hierarchies); do
        [[ ! -d $hierarchy/$PREFIX-$1 ]] || echo "$hierarchy/$PREFIX-$1"
    done
}

make_cgroups() {
    local hierarchy file
    for hierarchy in $(hierarchies); do
        mkdir -p "$hierarchy/$PREFIX-$1"
        # A v1 cpuset takes no process before it has processors and memory nodes.
        for file in cpuset.cpus cpuset.mems; do
            [[ ! -f $hierarchy/$file || -f $hierarchy/cgroup.controllers ]] ||
                cat "$hierarchy/$file" >"$hierarchy/$PREFIX-$1/$file"
        done
    done
    ! only_v2 || share_controllers "$1"
}

# In v2 a cgroup whose controllers are used further down may hold no process: they live in a leaf beside Docker's.
share_controllers() {
    local cgroup controller
    mkdir -p "/sys/fs/cgroup/$PREFIX-$1/init"
    for cgroup in /sys/fs/cgroup "/sys/fs/cgroup/$PREFIX-$1"; do
        for controller in $(<"$cgroup/cgroup.controllers"); do
            echo "+$controller" 2>/dev/null >"$cgroup/cgroup.subtree_control" || true
        done
    done
}

# join_cgroups HOST [LEAF]: moves this very shell there.
join_cgroups() {
    local cgroup
    for cgroup in $(host_cgroups "$1"); do
        echo 0 >"$cgroup${2:+/$2}/cgroup.procs"
    done
}

# Every process in a host's cgroups, this shell's view of them.
host_processes() {
    local cgroup
    for cgroup in $(host_cgroups "$1"); do
        find "$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null || true
    done | sort -nu
}

# A frozen v1 cgroup does not die before it is thawed. To be used only after all in it have been killed.
thaw_cgroups() {
    local state
    for state in $(find /sys/fs/cgroup/*/"$PREFIX-$1" -name freezer.state 2>/dev/null || true); do
        grep -q THAWED "$state" 2>/dev/null || { echo THAWED >"$state"; } 2>/dev/null || true
    done
}

remove_cgroups() {
    local cgroup
    for cgroup in $(host_cgroups "$1"); do
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}
