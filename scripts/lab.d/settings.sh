# shellcheck shell=bash disable=SC2034
# Everything one may want to change, and the names of files, in one place.

PROGRAM=lab
CACHE=${TRANSSHIP_LAB_CACHE:-/var/cache/transship-lab}
STATE=${TRANSSHIP_LAB_STATE:-/run/transship-lab}
SUBNET=${TRANSSHIP_LAB_SUBNET:-10.77.0}
BIN_DIR=${TRANSSHIP_BIN_DIR:-$REPOSITORY/target/release}

DEFAULT_RELEASE=sid
# Images do not depend on the host's release: one base serves them all.
IMAGE_RELEASE=trixie
# The first CRIU that can dump TCP sockets on kernels from 6.16 on is in sid.
CRIU_RELEASE=sid

DOCKER_TIMEOUT=60   # seconds for dockerd to answer
END_TIMEOUT=30      # seconds for a host's processes to be gone once killed

# What a host's root holds. Packages that a release does not know are left out (bookworm has no docker-cli).
ROOT_PACKAGES="docker.io docker-cli containerd runc iproute2 nftables iptables conntrack procps tini kmod zstd
    ca-certificates curl systemd-standalone-sysusers"

# Namespaces, interfaces and cgroups of the lab all begin with this.
PREFIX=tslab
NET_NAMESPACE=$PREFIX-net
CLIENT_NAMESPACE=$PREFIX-client
BRIDGE=br0
BRIDGE_ADDRESS=$SUBNET.1
CLIENT_ADDRESS=$SUBNET.2
FIRST_HOST_NUMBER=11

# $CACHE/
#   roots/RELEASE-KEY   roots for hosts          base/RELEASE-KEY  what images are built on
#   images/KEY.tar      images                   archives/         downloaded packages
#   shim/KEY.so         the preloaded library    tmp/              half-built things, removed by the next call
#   hosts/HOST/         {upper,work,root} of the overlay, and the disks {docker,containerd,transship}
# $STATE/
#   hosts/HOST/         number, release, root, init (pid and start time), namespaces, names, ready,
#                       transship (installed), log
#   pipe-max-size, rcu-expedited   the machine's own settings, to be put back
HOST_DISKS="docker containerd transship"
