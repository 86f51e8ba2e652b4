# shellcheck shell=bash disable=SC2153
# transship as it was before: a peer that has not been upgraded yet.

command_earlier() {
    local tree
    [[ $# -eq 1 ]] || die_usage "earlier: which host?"
    must_be_ready "$1"
    # Building takes minutes, in which other hosts are not to wait.
    take_lock_of "$1"
    tree=$CACHE/earlier/$EARLIER
    need_earlier "$tree"
    REPOSITORY=$tree BIN_DIR=$tree/target/release need_transship "$1"
}

# need_earlier TREE: its sources, and what was built of them.
need_earlier() {
    local half=$CACHE/earlier/half log=$CACHE/earlier/build.log
    hold --exclusive "$CACHE/locks/earlier.build"
    [[ ! -d $1 ]] || return 0
    # Whoever runs this is not always who has cloned it.
    local history=(git -c safe.directory='*' -C "$REPOSITORY")
    need_tools git=git
    "${history[@]}" cat-file -e "$EARLIER^{commit}" 2>/dev/null ||
        die "this clone does not reach back to $EARLIER, transship as it was: git fetch --unshallow"
    say "building transship as it was (${EARLIER:0:7})"
    rm -rf --one-file-system "$CACHE/earlier"
    mkdir -p "$half"
    "${history[@]}" archive "$EARLIER" | tar -x -C "$half"
    (cd "$half" && unlocked env CARGO_TARGET_DIR="$half/target" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo build --release --bins) >"$log" 2>&1 || die_with_log "transship as it was could not be built" "$log"
    find "$half/target/release" -mindepth 1 -maxdepth 1 -type d -exec rm -r {} +
    mv -T "$half" "$1"
}
