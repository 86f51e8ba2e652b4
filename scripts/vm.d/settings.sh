# shellcheck shell=bash disable=SC2034
# Everything one may want to change, and the names of files, in one place.

PROGRAM=vm
CACHE=${TRANSSHIP_VM_CACHE:-/var/cache/transship-vm}
STATE=${TRANSSHIP_VM_STATE:-/run/transship-vm}
SUBNET=${TRANSSHIP_VM_SUBNET:-10.78.0}
MEMORY=${TRANSSHIP_VM_MEMORY:-1536}
PROCESSOR=${TRANSSHIP_VM_CPU:-max}
BIN_DIR=${TRANSSHIP_BIN_DIR:-$REPOSITORY/target/release}

DEFAULT_IMAGE=trixie
# Docker's images are built on this one, whatever the host is.
IMAGE_RELEASE=trixie
# The newer release that hosts are offered packages of: the engine to upgrade to, and CRIU.
CRIU_RELEASE=sid

# The release whose engine `older` puts into a host: its packages, and what they need that a host may lack.
OLDER_RELEASE=bookworm
OLDER_PACKAGES="docker.io containerd runc libdevmapper1.02.1 dmsetup"

# transship as it was before, for a peer that has not been upgraded: a commit whose peers this one has to understand.
EARLIER=a371bedd3a6bee6ce0018760ece6db0b174cfe05

# Several emulated ones spin for each other's locks while the other has none of this machine's, which costs more than they do.
PROCESSORS=1
DISK_SIZE=6G
BOOT_TIMEOUT=240    # seconds to a shell and Docker; without KVM a boot takes half a minute on an idle machine

NAMESPACE=tsvm-net
BRIDGE=br0
BRIDGE_ADDRESS=$SUBNET.1
FIRST_HOST_NUMBER=11
HOST_NUMBERS=240

# $CACHE/
#   base/RELEASE-KEY    what roots and Docker images are built on
#   disks/IMAGE-KEY/    disk.raw, kernel, initrd, next/ (the same of the next kernel)
#   key, key.pub        for ssh
#   older/RELEASE-KEY/  packages of an older engine, as a release of a repository
#   earlier/COMMIT/     transship as it was, built
#   images/KEY.tar      Docker images                     archives/      downloaded packages
#   hosts/HOST/         disk.qcow2, console.log, qmp.log, states/NAME/ (see states/)
#   states/HOST-KEY/    memory, disk.qcow2: a host that has just been booted
#   tmp/                half-built things, removed by the next call that changes what hosts share
#   lock, locks/HOST    of what hosts share, and of a host
# $STATE/
#   hosts/HOST/         number, image, disk (the directory it stands on), kernel (/next, where it has booted that), machine
#                       (pid and start time), ssh and qmp (sockets), ready, transship (installed)
