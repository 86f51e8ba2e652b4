# shellcheck shell=bash
# One segment: a bridge in a namespace of its own (a bridge cannot be moved between them), a client, and the hosts.

in_net() { nsenter --net="/run/netns/$1" "${@:2}"; }

has_namespace() { in_net "$1" true 2>/dev/null; }

need_segment() {
    if ! has_namespace "$NET_NAMESPACE" || ! in_net "$NET_NAMESPACE" ip link show "$BRIDGE" >/dev/null 2>&1; then
        make_namespace "$NET_NAMESPACE"
        in_net "$NET_NAMESPACE" ip link add "$BRIDGE" type bridge stp_state 0 forward_delay 0
        in_net "$NET_NAMESPACE" ip address add "$BRIDGE_ADDRESS/24" dev "$BRIDGE"
        in_net "$NET_NAMESPACE" ip link set "$BRIDGE" up
        # There is no way out. Said at once (network unreachable), since silence makes name lookups hang.
        in_net "$NET_NAMESPACE" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    fi
    on_segment "$CLIENT_NAMESPACE" || join_segment "$CLIENT_NAMESPACE" "$CLIENT_ADDRESS" client
}

# Left over and broken ones are replaced.
make_namespace() {
    remove_namespace "$1"
    ip netns add "$1"
    in_net "$1" ip link set lo up
}

remove_namespace() {
    [[ ! -e /run/netns/$1 ]] || ip netns delete "$1"
}

on_segment() { in_net "$1" ip route get "$BRIDGE_ADDRESS" >/dev/null 2>&1; }

# join_segment NAMESPACE ADDRESS PORT: makes the namespace, with an eth0 that is plugged into the bridge. Its hardware address
# follows from the other one: others still know it when a host comes after another one with the same address.
join_segment() {
    local hardware
    make_namespace "$1"
    # shellcheck disable=SC2086
    hardware=$(printf '02:4c:%02x:%02x:%02x:%02x' ${2//./ })
    # The other end may still be on its way out with a namespace that was just deleted.
    in_net "$NET_NAMESPACE" ip link delete "p-$3" 2>/dev/null || true
    in_net "$NET_NAMESPACE" ip link add "p-$3" type veth peer name eth0 address "$hardware" netns "$1"
    in_net "$NET_NAMESPACE" ip link set "p-$3" master "$BRIDGE" up
    in_net "$1" ip address add "$2/24" dev eth0
    in_net "$1" ip link set eth0 up
    in_net "$1" ip route add default via "$BRIDGE_ADDRESS"
}

command_unplug() { set_plug "$1" down; }

command_plug() { set_plug "$1" up; }

set_plug() {
    is_ready "$1" || die "there is no host '$1' that is up"
    in_net "$NET_NAMESPACE" ip link set "p-$(recorded "$1" number)" "$2"
}

remove_segment() {
    remove_namespace "$CLIENT_NAMESPACE"
    remove_namespace "$NET_NAMESPACE"
}

# Names for everybody on the segment.
hosts_file() {
    local host
    printf '127.0.0.1 localhost\n::1 localhost\n%s client\n' "$CLIENT_ADDRESS"
    for host in $(known_hosts); do
        [[ ! -s $STATE/hosts/$host/number ]] || printf '%s %s\n' "$(address_of "$host")" "$host"
    done
}

share_names() {
    local host
    hosts_file >"$STATE/names.new"
    mv "$STATE/names.new" "$STATE/names"
    for host in $(known_hosts); do
        ! is_ready "$host" || cat "$STATE/names" >"$(root_of "$host")/etc/hosts"
    done
}

command_client() {
    [[ $# -gt 0 ]] || die_usage "client: which command?"
    has_namespace "$CLIENT_NAMESPACE" || die "there is no client: the lab is down"
    # shellcheck disable=SC2016
    exec nsenter --net="/run/netns/$CLIENT_NAMESPACE" unshare --mount --propagation slave \
        sh -c 'mount --bind "$1" /etc/hosts; shift; exec "$@"' client "$STATE/names" "$@"
}
