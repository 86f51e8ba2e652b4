# shellcheck shell=bash
# Debian roots, built once and kept: a minimal base, and on it what a host needs.

# Prints a short key of a recipe: its functions' text (comments do not count) and what else is given.
recipe_key() {
    { declare -f build_base build_root run_in_root allow_services forbid_services fill_offline && printf '%s\n' "$@"; } |
        sha256sum | cut -c1-12
}

# The machine's own mirror, or nothing, which leaves it to debootstrap.
# shellcheck disable=SC2016 # the format is for apt-get to read
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null |
        head -n 1 || true
}

# Downloads pass the machine's own proxy, if it has one.
use_proxy() {
    local found
    found=$(apt-config shell http_proxy Acquire::http::Proxy 2>/dev/null || true)
    [[ -z $found ]] || eval "export $found"
}

# Runs a command where its mounts and processes end with it, and with this call, however that ends.
contained() {
    unlocked setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc "$@"
}

# run_in_root ROOT COMMAND: a shell command chrooted in ROOT, with the shared package directory.
run_in_root() {
    # shellcheck disable=SC2016
    contained sh -ec '
        root=$1 archives=$2 command=$3
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mkdir -p "$root/var/cache/apt/archives"
        mount --bind "$archives" "$root/var/cache/apt/archives"
        cat /etc/resolv.conf >"$root/etc/resolv.conf"
        exec chroot "$root" env -i ${http_proxy:+http_proxy="$http_proxy"} DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -ec "$command"
    ' run_in_root "$1" "$CACHE/archives" "$2"
}

# No service starts while packages are installed.
forbid_services() {
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
    chmod 755 "$1/usr/sbin/policy-rc.d"
    # A half-built root is thrown away anyway: nothing needs to reach the disk in order.
    echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/lab"
}

allow_services() {
    rm -f "$1/usr/sbin/policy-rc.d" "$1/etc/dpkg/dpkg.cfg.d/lab"
    : >"$1/etc/resolv.conf"
}

# build_base DIRECTORY RELEASE: the minimal base, with package lists.
build_base() {
    # shellcheck disable=SC2046
    contained debootstrap --variant=minbase --cache-dir="$CACHE/archives" "$2" "$1" $(mirror)
    # A mirror may lag behind its own date.
    cat >"$1/etc/apt/apt.conf.d/lab" <<'CONF'
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
APT::Install-Recommends "false";
CONF
    forbid_services "$1"
    run_in_root "$1" 'apt-get update'
    allow_services "$1"
}

# build_root DIRECTORY RELEASE: the base with an engine and CRIU. The package lists stay, so that a host knows which
# versions there are.
build_root() {
    cp -a --reflink=auto "$(cached base "$2")/." "$1"
    forbid_services "$1"
    run_in_root "$1" "
        known=
        for package in $(tr -s '\n ' ' ' <<<"$ROOT_PACKAGES"); do
            ! apt-cache show \$package >/dev/null 2>&1 || known=\"\$known \$package\"
        done
        apt-get install -y --no-install-recommends \$known"
    [[ $2 == "$CRIU_RELEASE" || $2 == unstable ]] || offer_newer "$1" "$2"
    run_in_root "$1" "apt-get install -y --no-install-recommends -t $CRIU_RELEASE criu"
    [[ $2 == "$CRIU_RELEASE" || $2 == unstable ]] || offer_offline "$1" "$2"
    allow_services "$1"
}

# Adds a newer release for who asks for it by name; nothing is upgraded to it by itself.
offer_newer() {
    sed "s/ $2 / $CRIU_RELEASE /" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/$CRIU_RELEASE.list"
    printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$CRIU_RELEASE" >"$1/etc/apt/preferences.d/lab"
    run_in_root "$1" 'apt-get update'
}

# cached KIND RELEASE: where that base or root lies, built or not.
cached() {
    case $1 in
        base) echo "$CACHE/base/$2-$(recipe_key)" ;;
        root) echo "$CACHE/roots/$2-$(recipe_key "$ROOT_PACKAGES" "$CRIU_RELEASE")" ;;
    esac
}

# need_root KIND RELEASE: builds it unless it is there. It is built aside and renamed when complete.
need_root() {
    local kind=$1 release=$2 directory began=$SECONDS
    directory=$(cached "$kind" "$release")
    [[ ! -d $directory ]] || return 0
    need_tools debootstrap=debootstrap unshare=util-linux setpriv=util-linux
    [[ $kind == base ]] || need_root base "$release"
    say "building the $kind of $release (about half a minute)"
    use_proxy
    local log=$CACHE/tmp/$kind-$release.log half=$CACHE/tmp/$kind-$release
    mkdir "$half"
    # In a process of its own, since errexit does not reach into what is followed by '||'.
    (set -e; "build_$kind" "$half" "$release") >"$log" 2>&1 &
    wait $! || die_with_log "could not build the $kind of $release" "$log"
    mv -T "$half" "$directory"
    say "built the $kind of $release in $((SECONDS - began)) s"
    forget_old_roots "$directory"
}

# Removes roots of the same kind and release made by other recipes, unless a host stands on them.
forget_old_roots() {
    local old
    for old in "${1%-*}"-*; do
        [[ $old != "$1" && -d $old ]] || continue
        grep -qsFx "$old" "$STATE"/hosts/*/root || rm -rf --one-file-system "$old"
    done
}
