# shellcheck shell=bash
# Where this machine's root lacks CAP_SYS_RESOURCE (some virtual machines and containers), CRIU may not read the limits
# of another user's process, nor enlarge its pipes. For the lab alone there is a way around both; real hosts have
# the capability.

lacks_capability() {
    local effective
    effective=$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status)
    ((!(16#$effective >> 24 & 1)))
}

work_around_missing_capability() {
    lacks_capability || return 0
    say "CAP_SYS_RESOURCE is missing here: $1's criu gets a preloaded library that reads limits from /proc (lab only)"
    install_shim "$1"
    bear_low_limits "$1"
    enlarge_pipes
}

install_shim() {
    local root directory=/usr/local/lib/transship-lab
    root=$(root_of "$1")
    install -D -m 644 "$(built_shim)" "$root$directory/prlimit-shim.so"
    # Diverted, so that everybody gets the wrapper whatever their PATH, also after an upgrade of the package.
    run_in "$1" dpkg-divert --quiet --local --rename --divert "$directory/criu" --add /usr/sbin/criu
    printf '#!/bin/sh\nLD_PRELOAD=%s exec %s "$@"\n' "$directory/prlimit-shim.so" "$directory/criu" >"$root/usr/sbin/criu"
    chmod 755 "$root/usr/sbin/criu"
}

# Docker's sysv script raises limits and gives up where it may not. It reads this file just before.
bear_low_limits() {
    local defaults
    defaults="$(root_of "$1")/etc/default/docker"
    # There from the first boot on, and before whatever has been written behind it since.
    ! grep -qs '^ulimit()' "$defaults" || return 0
    cat >>"$defaults" <<'DEFAULTS'

# Without CAP_SYS_RESOURCE limits cannot be raised (lab only).
ulimit() { builtin ulimit "$@" 2>/dev/null || true; }
DEFAULTS
}

built_shim() {
    local source=$LAB_PARTS/prlimit-shim.c library
    library=$CACHE/shim/$(sha256sum <"$source" | cut -c1-12).so
    if [[ ! -f $library ]]; then
        need_tools cc=gcc
        echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1 || need_tools no-libc-headers=libc6-dev
        cc -O2 -Wall -Wextra -shared -fPIC -static-libgcc -o "$CACHE/tmp/shim.so" "$source" -ldl
        mv "$CACHE/tmp/shim.so" "$library"
    fi
    echo "$library"
}

enlarge_pipes() {
    local wanted=$((256 << 20)) setting=/proc/sys/fs/pipe-max-size
    [[ $(<$setting) -lt $wanted ]] || return 0
    cat $setting >"$STATE/pipe-max-size"
    echo "$wanted" >$setting || say "could not raise $setting"
}

put_back_pipe_size() {
    [[ -s $STATE/pipe-max-size ]] || return 0
    cat "$STATE/pipe-max-size" >/proc/sys/fs/pipe-max-size
    rm "$STATE/pipe-max-size"
}
