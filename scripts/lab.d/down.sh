# shellcheck shell=bash disable=SC2153
# Taking hosts down. Every step bears that its object is missing, so that it works after any crash, and twice.

command_down() {
    local cache='' argument hosts=() host
    for argument in "$@"; do
        case $argument in
            --cache) cache=yes ;;
            -*) die_usage "down knows no '$argument'" ;;
            *) check_host_name "$argument" && hosts+=("$argument") ;;
        esac
    done
    take_lock
    [[ ! $cache || ${#hosts[@]} -eq 0 ]] || die_usage "down --cache takes every host down: name none"
    if [[ ${#hosts[@]} -eq 0 ]]; then mapfile -t hosts < <(all_traces); fi
    for host in "${hosts[@]}"; do
        say "taking $host down"
        clean_host "$host"
    done
    if [[ -z $(all_traces) ]]; then clean_lab; else share_names; fi
    report_leftovers "${hosts[@]}"
    [[ ! $cache ]] || rm -rf --one-file-system "$CACHE"
}

# Every host of which anything is left: state, disk, network namespace or cgroup.
all_traces() {
    local path
    for path in "$STATE"/hosts/*/ "$CACHE"/hosts/*/ "/run/netns/$PREFIX"-* $(find_cgroups); do
        [[ ! -e $path ]] || basename "$path" | sed "s/^$PREFIX-//"
    done | sort -u | grep -vxE 'net|client' || true
}

find_cgroups() {
    local hierarchy
    for hierarchy in $(hierarchies); do
        find "$hierarchy" -maxdepth 1 -name "$PREFIX-*" 2>/dev/null || true
    done
}

clean_host() {
    end_processes "$1"
    remove_cgroups "$1"
    remove_namespace "$PREFIX-$1"
    unmount_disk "$CACHE/hosts/$1"
    rm -rf --one-file-system "$CACHE/hosts/$1"
    # The record of the namespaces is still needed to look for leftovers.
    [[ ! -s $STATE/hosts/$1/namespaces ]] || mv "$STATE/hosts/$1/namespaces" "$STATE/ended-$1"
    rm -rf --one-file-system "$STATE/hosts/$1"
}

# The kernel ends a pid namespace with its first process: containers, dockerd and all. What else is in the host's
# cgroups was started by the lab on its way in; it mostly ends by itself, having waited for its child.
end_processes() {
    local init
    rm -f "$STATE/hosts/$1/ready"
    if init=$(init_of "$1"); then
        kill -KILL "$init" 2>/dev/null || true
        poll 2 init_ended "$1" || true
    fi
    put_back_grace_periods
    poll "$END_TIMEOUT" all_ended "$1" || say "processes of $1 do not end: $(host_processes "$1" | tr '\n' ' ')"
}

init_ended() {
    thaw_cgroups "$1"
    [[ -z $(host_processes "$1") ]]
}

all_ended() {
    local pid left
    left=$(host_processes "$1")
    [[ -n $left ]] || return 0
    for pid in $left; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    thaw_cgroups "$1"
    return 1
}

# Mounts live in the host's own namespace and go with it. Should one be seen here nevertheless, it must not be in
# the way of, or worse, be emptied by, the removal.
unmount_disk() {
    local place
    awk -v disk="$1/" 'index($5, disk) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r place; do
        umount -l "$place" || true
    done
}

# The last host takes the segment, the client and the machine's changed settings with it.
clean_lab() {
    end_client
    remove_segment
    put_back_pipe_size
    rm -rf --one-file-system "$STATE/hosts" "$STATE/names" "$STATE/rcu-expedited"
}

# Whatever still runs on the client's network is taken down with it, as with any other host.
end_client() {
    local pid
    has_namespace "$CLIENT_NAMESPACE" || return 0
    [[ -z $(ip netns pids "$CLIENT_NAMESPACE") ]] || say "ending what runs on the client"
    poll "$END_TIMEOUT" client_ended || true
}

client_ended() {
    local pid left
    left=$(ip netns pids "$CLIENT_NAMESPACE")
    [[ -n $left ]] || return 0
    for pid in $left; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    return 1
}

# Looks for what should be gone, and fails if any of it is there.
report_leftovers() {
    local found
    found=$(for host in "$@"; do leftovers_of "$host"; done)
    [[ -d $STATE/hosts ]] || found+=$(lab_leftovers)
    rm -f "$STATE"/ended-*
    rmdir "$STATE" 2>/dev/null || true
    [[ -z $found ]] || {
        say "LEFT OVER: $found"
        die "not everything is gone"
    }
}

leftovers_of() {
    local host=$1 namespace
    [[ ! -e /run/netns/$PREFIX-$host ]] || echo "network namespace $PREFIX-$host"
    host_cgroups "$host" | sed 's/^/cgroup /'
    [[ ! -e $CACHE/hosts/$host ]] || echo "directory $CACHE/hosts/$host"
    awk -v disk="$CACHE/hosts/$host/" 'index($5, disk) == 1 { print "mount " $5 }' /proc/self/mountinfo
    [[ -s $STATE/ended-$host ]] || return 0
    while read -r namespace; do
        find /proc/[0-9]*/ns -lname "$namespace" 2>/dev/null | sed "s|\$| still is in a namespace of $host|" || true
    done <"$STATE/ended-$host"
}

lab_leftovers() {
    ls -d "/run/netns/$PREFIX"-* 2>/dev/null || true
    find_cgroups
    grep -F "$CACHE/hosts/" /proc/self/mountinfo || true
}
