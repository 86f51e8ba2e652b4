# shellcheck shell=bash disable=SC2153
# The engine of an older release in a host, beside those that its disk has on offer: what it is upgraded from.

command_older() {
    [[ $# -eq 1 ]] || die_usage "older: which host?"
    must_be_ready "$1"
    take_lock
    need_older
    let_go_of_locks
    take_lock_of "$1"
    say "installing the engine of $OLDER_RELEASE in $1"
    tar -c -C "$(older_packages)" . | run_in "$1" tar -x -C "$OFFLINE"
    run_in "$1" sh -ec "OFFLINE=$OFFLINE RELEASE=$OLDER_RELEASE; $(declare -f install_older); install_older $OLDER_PACKAGES" \
        </dev/null >"$CACHE/hosts/$1/older.log" 2>&1 ||
        die_with_log "the engine of $OLDER_RELEASE could not be installed in $1" "$CACHE/hosts/$1/older.log"
    run_in "$1" docker version --format '{{.Server.Version}}' </dev/null >"$STATE/hosts/$1/engine"
    say "$1 has docker $(recorded "$1" engine)"
}

# Where its packages lie, fetched or not, as one more release of the repository that a host has on its disk.
older_packages() {
    local key
    key=$({ declare -f fetch_older write_release && echo "$OLDER_PACKAGES"; } | sha256sum | cut -c1-12)
    echo "$CACHE/older/$OLDER_RELEASE-$key"
}

need_older() {
    local stage=$CACHE/tmp/older log=$CACHE/tmp/older.log
    [[ ! -d $(older_packages) ]] || return 0
    need_root base "$OLDER_RELEASE"
    use_proxy
    cp -a --reflink=auto "$(cached base "$OLDER_RELEASE")" "$stage"
    run_in_root "$stage" "OFFLINE=$OFFLINE RELEASE=$OLDER_RELEASE
        $(declare -f fetch_older write_release); fetch_older $OLDER_PACKAGES" >"$log" 2>&1 ||
        die_with_log "the packages of $OLDER_RELEASE could not be fetched" "$log"
    rm -rf --one-file-system "$CACHE/older"
    mkdir "$CACHE/older"
    mv -T "$stage$OFFLINE" "$(older_packages)"
    rm -rf --one-file-system "$stage"
}

# Runs in the root, with sh.
fetch_older() {
    list=$OFFLINE/dists/$RELEASE/main/binary-amd64
    mkdir -p "$OFFLINE/pool" "$list"
    cd "$OFFLINE/pool"
    apt-get -o APT::Sandbox::User=root download "$@"
    for package in "$@"; do
        apt-cache show --no-all-versions "$package" | awk -v file="pool/$(echo "$package"_*.deb)" '
            /^Filename:/ { print "Filename: " file; next }
            { print }' >>"$list/Packages"
    done
    write_release "$RELEASE" oldstable
}

# Runs in the host, with sh. What the engine that was there has kept is not for an older one to read, and the command line is in
# the engine's own package.
install_older() {
    echo "deb [trusted=yes] file:$OFFLINE $RELEASE main" >>/etc/apt/sources.list
    apt-get -o APT::Sandbox::User=root update
    systemctl stop docker.socket docker containerd
    rm -rf /var/lib/docker /var/lib/containerd
    wanted=
    for package in "$@"; do wanted="$wanted $package/$RELEASE"; done
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --allow-downgrades $wanted docker-cli-
    systemctl restart containerd docker.socket docker
}
