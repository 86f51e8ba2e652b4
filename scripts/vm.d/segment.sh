# shellcheck shell=bash
# One segment: a bridge in a network namespace, into which the emulators are plugged. Clients run on the bridge itself.

in_net() { nsenter --net="/run/netns/$NAMESPACE" "$@"; }

need_segment() {
    ! in_net ip link show "$BRIDGE" >/dev/null 2>&1 || return 0
    [[ -e /run/netns/$NAMESPACE ]] || ip netns add "$NAMESPACE"
    in_net ip link set lo up
    in_net ip link add "$BRIDGE" type bridge stp_state 0 forward_delay 0
    in_net ip address add "$BRIDGE_ADDRESS/24" dev "$BRIDGE"
    in_net ip link set "$BRIDGE" up
}

# The lower part of a MAC address is the host's number: a host has its own, and keeps it.
mac_of() { printf '52:54:00:78:00:%02x\n' "$(recorded "$1" number)"; }

# plug_in HOST: a tap on the bridge for its emulator.
plug_in() {
    local tap
    tap=t-$(recorded "$1" number)
    in_net ip link show "$tap" >/dev/null 2>&1 || in_net ip tuntap add "$tap" mode tap
    in_net ip link set "$tap" master "$BRIDGE" up
}

unplug() {
    local tap
    tap=t-$(recorded "$1" number) || return 0
    in_net ip link delete "$tap" 2>/dev/null || true
}

remove_segment() {
    [[ ! -e /run/netns/$NAMESPACE ]] || ip netns delete "$NAMESPACE"
}

command_client() {
    [[ $# -gt 0 ]] || die_usage "client: which command?"
    [[ -e /run/netns/$NAMESPACE ]] || die "there is no client: no host is up"
    exec nsenter --net="/run/netns/$NAMESPACE" "$@"
}
