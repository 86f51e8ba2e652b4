# shellcheck shell=bash
# Docker images of Debian packages: the base, the packages on an overlay, all of it in one tar that Docker imports.

IMAGE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Not needed to run anything. Package lists go too: nothing can be installed in a container without a network.
IMAGE_LEAVES_OUT="./var/lib/apt/lists/* ./var/cache/* ./usr/share/doc/* ./usr/share/man/* ./usr/share/locale/*
    ./usr/share/info/* ./var/log/*.log ./var/log/apt/* ./dev/* ./proc/* ./sys/* ./run/* ./tmp/* ./etc/apt/apt.conf.d/lab"

command_image() {
    local host name tar tiny='' packages=() copies=()
    while [[ $# -gt 0 ]]; do
        case $1 in
            --tiny) tiny=yes ;;
            --copy)
                [[ ${2:-} == ?*:/?* ]] || die_usage "image: --copy takes SRC:DST, DST beginning with /"
                [[ -e ${2%:/*} ]] || die "image: there is no ${2%:/*}"
                copies+=("$2")
                shift
                ;;
            -*) die_usage "image knows no '$1'" ;;
            *)
                if [[ -z ${host:-} ]]; then host=$1; elif [[ -z ${name:-} ]]; then name=$1; else packages+=("$1"); fi
                ;;
        esac
        shift
    done
    must_be_ready "${host:-}"
    [[ -n ${name:-} ]] || die_usage "image: which name?"
    [[ $tiny || ${#packages[@]} -gt 0 ]] || die_usage "image: which packages? (or --tiny)"
    [[ ! $tiny || ${#packages[@]} -eq 0 ]] || die_usage "image: --tiny takes no packages"
    take_lock
    tar=$(need_image_tar "$tiny" "${packages[@]}")
    need_image "$host" "$name" "$tar" "${copies[@]}"
}

# need_image HOST NAME TAR COPY...
need_image() {
    local host=$1 name=$2 tar=$3 key
    shift 3
    key=$(basename "$tar" .tar)$(copies_key "$@")
    [[ $(run_in "$host" docker image inspect --format '{{index .Config.Labels "transship.lab.key"}}' "$name" 2>/dev/null) != "$key" ]] ||
        return 0
    say "importing $name into $host"
    [[ $# -eq 0 ]] || tar=$(with_copies "$tar" "$@")
    run_in "$host" docker import --change "ENV PATH=$IMAGE_PATH" --change "LABEL transship.lab.key=$key" - "$name" \
        <"$tar" >/dev/null || die "docker in $host did not take the image $name"
}

# Prints what makes one set of copies differ from another: names and contents.
copies_key() {
    local copy source
    [[ $# -gt 0 ]] || return 0
    for copy in "$@"; do
        source=${copy%:/*}
        printf '%s\n' "/${copy##*:/}"
        tar -c --sort=name --mtime=@0 --owner=0 --group=0 -C "$(dirname "$source")" "$(basename "$source")"
    done | sha256sum | cut -c1-12 | sed 's/^/-/'
}

# with_copies TAR COPY...: a tar with those files as well, for this call only.
with_copies() {
    local tar=$CACHE/tmp/with-copies.tar stage=$CACHE/tmp/copies copy target
    cp --reflink=auto "$1" "$tar"
    for copy in "${@:2}"; do
        target=$stage/${copy##*:/}
        mkdir -p "$(dirname "$target")"
        cp -aLT "${copy%:/*}" "$target"
    done
    # Only what was copied is added: the directories above it are the image's own.
    for copy in "${@:2}"; do
        # What is there by that name, such as one of busybox's links, is replaced: Docker takes no name twice.
        tar --delete -f "$tar" "./${copy##*:/}" 2>/dev/null || true
        tar -r -f "$tar" --owner=0 --group=0 -C "$stage" "./${copy##*:/}"
    done
    echo "$tar"
}

# need_image_tar TINY PACKAGE...: prints where the tar is, built if need be.
need_image_tar() {
    local tiny=$1 began=$SECONDS key tar log=$CACHE/tmp/image.log
    shift
    need_root base "$IMAGE_RELEASE"
    key=$({ declare -f build_image build_tiny_image && cached base "$IMAGE_RELEASE" &&
        echo "${tiny:-no}" "$IMAGE_LEAVES_OUT" && printf '%s\n' "$@" | sort -u; } | sha256sum | cut -c1-16)
    tar=$CACHE/images/$key.tar
    if [[ ! -f $tar ]]; then
        say "building the image of ${*:-busybox}"
        use_proxy
        # In a process of its own, since errexit does not reach into what is followed by '||'.
        (set -e; if [[ $tiny ]]; then build_tiny_image; else build_image "$@"; fi) >"$log" 2>&1 &
        wait $! || die_with_log "could not build the image of ${*:-busybox}" "$log"
        mv "$CACHE/tmp/image.tar" "$tar"
        say "built the image in $((SECONDS - began)) s, $(du -h "$tar" | cut -f1)"
    fi
    echo "$tar"
}

# The packages are put on an overlay of the base, which is seen, and ends, within this command only.
build_image() {
    local parts=$CACHE/tmp/image
    mkdir -p "$parts"/{upper,work,root}
    # shellcheck disable=SC2016
    contained bash -ec '
        parts=$1 lower=$2 leave_out=$3 install=$4
        mount -t overlay -o "lowerdir=$lower,upperdir=$parts/upper,workdir=$parts/work" image "$parts/root"
        . "$5/settings.sh" && . "$5/common.sh" && . "$5/roots.sh"
        forbid_services "$parts/root"
        run_in_root "$parts/root" "$install"
        allow_services "$parts/root"
        exclude=()
        set -f
        for path in $leave_out; do exclude+=("--exclude=$path"); done
        tar -c -f "$parts.tar" --one-file-system --anchored "${exclude[@]}" -C "$parts/root" .
    ' build_image "$parts" "$(cached base "$IMAGE_RELEASE")" "$IMAGE_LEAVES_OUT" \
        "$(install_fresh "$@")" "$LAB_PARTS"
}

# The lists are as old as the base; a mirror may have moved on.
install_fresh() {
    local install="apt-get install -y --no-install-recommends $*"
    echo "$install || { apt-get update && $install; }"
}

build_tiny_image() {
    local parts=$CACHE/tmp/image
    build_image busybox-static
    mkdir -p "$parts/tiny"/{bin,etc,proc,sys,dev,run,tmp,root,var}
    chmod 1777 "$parts/tiny/tmp"
    cp "$parts"/upper/{,usr/}bin/busybox "$parts/tiny/bin/" 2>/dev/null || [[ -x $parts/tiny/bin/busybox ]]
    "$parts/tiny/bin/busybox" --list | while read -r applet; do
        [[ $applet == busybox ]] || ln -s busybox "$parts/tiny/bin/$applet"
    done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$parts/tiny/etc/passwd"
    echo 'root:x:0:' >"$parts/tiny/etc/group"
    tar -c -f "$parts.tar" -C "$parts/tiny" .
}
