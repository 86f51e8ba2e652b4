# shellcheck shell=bash
# A lab host reaches no mirror. So a root of an older release carries what an upgrade of its engine to the newer one
# needs, and what the way back needs, as a repository on its own disk with both releases in it.

OFFLINE=/srv/packages
UPGRADED_PACKAGES="docker.io docker-cli containerd runc"

# offer_offline ROOT RELEASE: fills the repository and makes it the only one that the host knows.
offer_offline() {
    run_in_root "$1" "OFFLINE=$OFFLINE RELEASE=$2 NEWER=$CRIU_RELEASE; $(declare -f fill_offline write_release); fill_offline $UPGRADED_PACKAGES"
}

# Runs in the root, with sh. Each package goes into the release that apt would take it from.
fill_offline() {
    mkdir -p "$OFFLINE/pool"
    cd "$OFFLINE/pool"
    # The engine's own packages from the newer release, and what they need from wherever this one prefers it.
    apt-get -s install -t "$NEWER" "$@" >/tmp/newer
    for package in "$@"; do
        sed -n "s/^Inst \($package\) .*(\([^ ]*\) .*/\1=\2/p" /tmp/newer
    done >/tmp/engine
    # shellcheck disable=SC2046
    apt-get -s install $(cat /tmp/engine) >/tmp/plan
    for release in "$RELEASE" "$NEWER"; do
        mkdir -p "$OFFLINE/dists/$release/main/binary-amd64"
        : >"$OFFLINE/dists/$release/main/binary-amd64/Packages"
    done
    # Inst NAME [OLD] (NEW Debian:SUITE [amd64]); Remv NAME [OLD]
    sed -n 's/^Inst \([^ ]*\) .*(\([^ ]*\) .*Debian:unstable.*/\1 \2 '"$NEWER"'/p
            s/^Inst \([^ ]*\) .*(\([^ ]*\) .*Debian:[0-9].*/\1 \2 '"$RELEASE"'/p
            s/^\(Inst\|Remv\) \([^ ]*\) \[\([^]]*\)\].*/\2 \3 '"$RELEASE/p" /tmp/plan >/tmp/wanted
    # One line can match twice: a package that is replaced has a new version and an old one.
    sed -n 's/^Inst \([^ ]*\) \[\([^]]*\)\].*/\1 \2 '"$RELEASE/p" /tmp/plan >>/tmp/wanted
    sort -u /tmp/wanted | while read -r name version release; do
        apt-get -qq -o APT::Sandbox::User=root download "$name=$version"
        file=$(echo "${name%%:*}_$(echo "$version" | sed 's/:/%3a/')"_*.deb)
        apt-cache show "${name}=$version" | awk -v file="pool/$file" '
            /^Filename:/ { print "Filename: " file; next }
            /^$/ { exit }
            { print }
            END { print "" }' >>"$OFFLINE/dists/$release/main/binary-amd64/Packages"
    done
    write_release "$RELEASE" stable
    write_release "$NEWER" unstable
    rm -f /etc/apt/sources.list.d/* /tmp/newer /tmp/engine /tmp/plan /tmp/wanted
    for release in "$RELEASE" "$NEWER"; do
        echo "deb [trusted=yes] file:$OFFLINE $release main"
    done >/etc/apt/sources.list
    apt-get -o APT::Sandbox::User=root update
}

# write_release RELEASE SUITE
write_release() {
    cd "$OFFLINE/dists/$1"
    {
        printf 'Origin: Debian\nLabel: Debian\nSuite: %s\nCodename: %s\nComponents: main\nArchitectures: amd64\nSHA256:\n' "$2" "$1"
        sum=$(sha256sum main/binary-amd64/Packages)
        printf ' %s %s main/binary-amd64/Packages\n' "${sum%% *}" "$(stat -c %s main/binary-amd64/Packages)"
    } >Release
}
