# shellcheck shell=bash
# The emulator. Debian 12's own is too old to stand beside newer tools of it, so there it comes from the backports.

need_emulator() {
    need_tools debootstrap=debootstrap unshare=util-linux mke2fs=e2fsprogs cpio=cpio ssh=openssh-client ip=iproute2 \
        depmod=kmod xz=xz-utils busybox=busybox-static python3=python3
    command -v qemu-system-x86_64 >/dev/null && command -v qemu-img >/dev/null && return
    # shellcheck source=/dev/null
    if [[ $(. /etc/os-release && echo "${VERSION_CODENAME:-}") == bookworm ]]; then
        need_backport qemu-system-x86 qemu-utils
    else
        need_tools qemu-system-x86_64=qemu-system-x86 qemu-img=qemu-utils
    fi
}

# need_backport PACKAGE...: with sources and lists of its own, so that the machine's stay as they are.
need_backport() {
    local log=$CACHE/tmp/tools.log lists=$CACHE/tmp/lists
    local options=(-q -o "Dir::Etc::sourcelist=$CACHE/tmp/backports.list" -o "Dir::State::lists=$lists")
    say "installing $* from bookworm-backports on this machine"
    mkdir -p "$lists/partial"
    echo "deb $(mirror) bookworm-backports main" >"$CACHE/tmp/backports.list"
    alone_with_packages install_backport "$@" >"$log" 2>&1 || die_with_log "could not install $*" "$log"
}

# Takes need_backport's options.
install_backport() {
    apt-get "${options[@]}" update &&
        DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y --no-install-recommends -t bookworm-backports "$@"
}

# Prints what runs the machines. Having /dev/kvm does not say that a kernel boots under it: one is tried.
accelerator() {
    local answer=$STATE/accelerator
    [[ -s $answer ]] || try_kvm "$1" >"$answer"
    cat "$answer"
}

# A kernel that finds no initrd's root panics, which ends the emulator; under a KVM that does not work it says nothing.
try_kvm() {
    [[ -w /dev/kvm ]] || { echo tcg && return; }
    local said=$CACHE/tmp/kvm.log
    unlocked timeout --signal=KILL 20 qemu-system-x86_64 -accel kvm -cpu host -m 256 -nodefaults -display none -no-reboot \
        -serial "file:$said" -kernel "$1/kernel" -append "console=ttyS0 panic=-1" >/dev/null 2>&1 || true
    if grep -qs 'Linux version' "$said"; then echo kvm; else echo tcg; fi
}
