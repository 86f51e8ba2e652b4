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
    if [[ -z $(all_traces) ]]; then clean_all; fi
    [[ ! $cache ]] || rm -rf --one-file-system "$CACHE"
}

# Every host of which anything is left: state or disk.
all_traces() {
    local path
    for path in "$STATE"/hosts/*/ "$CACHE"/hosts/*/; do
        [[ ! -e $path ]] || basename "$path"
    done | sort -u
}

clean_host() {
    power_off "$1"
    unplug "$1"
    rm -rf --one-file-system "$CACHE/hosts/$1" "$STATE/hosts/$1"
}

# The last host takes the segment with it, and whoever still is a client there.
clean_all() {
    local pid
    if [[ -e /run/netns/$NAMESPACE ]]; then
        for pid in $(ip netns pids "$NAMESPACE"); do
            [[ $pid == $$ ]] || kill -KILL "$pid" 2>/dev/null || true
        done
    fi
    remove_segment
    rm -rf --one-file-system "$STATE"
}
