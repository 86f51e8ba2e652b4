# shellcheck shell=bash
# Disk images: a Debian root as the recipes in vm-images say, as a file system in a file, with a kernel and an initrd beside.

images() { (cd "$VM_IMAGES" && ls -- *.conf) | sed 's/\.conf$//'; }

# Reads an image's recipe: release, engine_from, packages.
read_recipe() {
    local release='' engine_from=''
    [[ -f $VM_IMAGES/$1.conf ]] || die_usage "there is no image '$1'; there are: $(images | tr '\n' ' ')"
    # shellcheck source=/dev/null
    . "$VM_IMAGES/$1.conf"
    printf '%s\n' "$release" "$engine_from"
}

packages() { sed 's/#.*//' "$VM_IMAGES/packages" | tr -s '\n ' ' '; }

# disk_of IMAGE: where it lies, built or not; the name holds all it is made of.
disk_of() {
    local key
    key=$({
        declare -f build_disk build_vm_root add_kernel unpack_kernel add_engine configure make_initrd fill_offline offer_newer offer_offline
        recipe_key "$DISK_SIZE" "$UPGRADED_PACKAGES"
        tar -c --sort=name --mtime=@0 --owner=0 --group=0 -C "$VM_IMAGES" "$1.conf" packages files initrd
        cat "$CACHE/key.pub"
    } | sha256sum | cut -c1-12)
    echo "$CACHE/disks/$1-$key"
}

need_disk() {
    local image=$1 disk log=$CACHE/tmp/disk.log began=$SECONDS old
    need_key
    disk=$(disk_of "$image")
    [[ ! -d $disk ]] || return 0
    local release engine_from
    { read -r release && read -r engine_from; } < <(read_recipe "$image") || die "the recipe of $image is not complete"
    need_root base "$release"
    say "building the image $image (some minutes)"
    use_proxy
    # In a process of its own, since errexit does not reach into what is followed by '||'.
    (set -e; build_disk "$CACHE/tmp/disk" "$release" "$engine_from") >"$log" 2>&1 &
    wait $! || die_with_log "could not build the image $image" "$log"
    mv -T "$CACHE/tmp/disk" "$disk"
    say "built the image $image in $((SECONDS - began)) s"
    for old in "$CACHE/disks/$image"-*; do
        # A running host's disk keeps only what differs from the image it stands on.
        [[ $old == "$disk" ]] || grep -qsFx "$old" "$STATE"/hosts/*/disk || rm -rf --one-file-system "$old"
    done
    prune_states
}

need_key() {
    [[ -s $CACHE/key.pub ]] || ssh-keygen -q -t ed25519 -N '' -C transship-vm -f "$CACHE/key"
}

# build_disk DIRECTORY RELEASE ENGINE_FROM
build_disk() {
    local root=$1/root
    mkdir -p "$root"
    cp -a --reflink=auto "$(cached base "$2")/." "$root"
    build_vm_root "$root" "$2" "$3"
    add_kernel "$root" "$2" "$1"
    [[ $2 == "$CRIU_RELEASE" ]] || add_kernel "$root" "$CRIU_RELEASE" "$1/next"
    [[ $2 == "$CRIU_RELEASE" || $3 == "$CRIU_RELEASE" ]] || offer_offline "$root" "$2"
    run_in_root "$root" 'apt-get clean'
    allow_services "$root"
    truncate -s "$DISK_SIZE" "$1/disk.raw"
    mke2fs -q -t ext4 -L root -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" "$1/disk.raw"
    rm -rf --one-file-system "$root"
}

build_vm_root() {
    forbid_services "$1"
    run_in_root "$1" "apt-get install -y --no-install-recommends $(packages)"
    [[ $2 == "$CRIU_RELEASE" ]] || offer_newer "$1" "$2"
    add_engine "$1" "$3"
    run_in_root "$1" "apt-get install -y --no-install-recommends -t $CRIU_RELEASE criu"
    configure "$1"
}

# add_engine ROOT RELEASE
add_engine() {
    local known='docker.io containerd runc docker-cli'
    [[ $2 != bookworm ]] || known='docker.io containerd runc'
    run_in_root "$1" "apt-get install -y --no-install-recommends -t $2 $known"
}

# add_kernel ROOT RELEASE TO: its modules stay in the root, kernel and initrd come into TO. Without its package, which would
# want to make an initrd of its own.
add_kernel() {
    local version
    run_in_root "$1" "RELEASE=$2; $(declare -f unpack_kernel); unpack_kernel"
    version=$(cat "$1/tmp/version")
    mkdir -p "$3"
    mv "$1/tmp/kernel" "$3/kernel"
    rm "$1/tmp/version"
    make_initrd "$1" "$version" "$3"
}

# Runs in the root, with sh. A kernel is one package or several, and lies in either place, by its release.
# shellcheck disable=SC2046
unpack_kernel() {
    cd /tmp
    apt-get -o APT::Sandbox::User=root download $(apt-get -s install -t "$RELEASE" linux-image-cloud-amd64 |
        sed -n 's/^Inst \(linux-\(image\|base\|binary\|modules\)-[0-9][^ ]*\) (\([^ ]*\) .*/\1=\3/p')
    for package in linux-*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C /
    done
    version=$(dpkg-deb -f linux-image-*.deb Package | sed 's/^linux-image-//')
    mv "/boot/vmlinuz-$version" kernel || mv "/usr/lib/modules/$version/vmlinuz" kernel
    depmod "$version"
    echo "$version" >version
    rm linux-*.deb
}

# Files as they are, and who may come in.
configure() {
    cp -a "$VM_IMAGES/files/." "$1/"
    chown -R root:root "$1/etc/systemd/network" "$1/etc/fstab"
    install -D -m 600 "$CACHE/key.pub" "$1/root/.ssh/authorized_keys"
    chmod 700 "$1/root/.ssh"
    : >"$1/etc/machine-id"
    run_in_root "$1" 'systemctl enable systemd-networkd ssh; systemctl mask systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer'
}

# make_initrd ROOT VERSION TO: just enough to find the disk: busybox, a script, and the modules that the script loads in this
# order.
make_initrd() {
    local root=$1 version=$2 stage=$3/initrd.d module
    mkdir -p "$stage"/{bin,dev,proc,sys,root,modules}
    cp "$(command -v busybox)" "$stage/bin/busybox"
    ln -s busybox "$stage/bin/sh"
    install -m 755 "$VM_IMAGES/initrd/init" "$stage/init"
    modprobe -d "$root" -S "$version" --all --show-depends virtio_pci virtio_blk virtio_net virtio_rng ext4 crc32c |
        sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r module; do
        case $module in
            *.xz) xz -dc "$module" >"$stage/modules/$(basename "$module" .xz)" ;;
            *) cp "$module" "$stage/modules/" ;;
        esac
        basename "$module" .xz >>"$stage/modules/order"
    done
    (cd "$stage" && find . | cpio --quiet -o -H newc | gzip -1) >"$3/initrd"
    rm -rf --one-file-system "$stage"
}
