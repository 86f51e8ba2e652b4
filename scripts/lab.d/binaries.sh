# shellcheck shell=bash
# transship's binaries: where they come from, and where they go.

# NAME=PLACE
BINARIES="transship=/usr/bin/transship transshipd=/usr/sbin/transshipd
    transship-runc=/usr/libexec/transship/transship-runc"

need_binaries() {
    local binary
    for binary in $BINARIES; do
        is_built "${binary%%=*}" || { build_binaries && break; }
    done
    for binary in $BINARIES; do
        [[ -x $BIN_DIR/${binary%%=*} ]] || die "there is no $BIN_DIR/${binary%%=*} (up --bare does without transship)"
    done
}

# Whether a binary is there, and of these sources; those that somebody else has built are taken as they are.
is_built() {
    [[ -x $BIN_DIR/$1 ]] || return 1
    [[ -z ${TRANSSHIP_BIN_DIR:-} ]] || return 0
    [[ -z $(find "$REPOSITORY"/{src,Cargo.toml,Cargo.lock} -newer "$BIN_DIR/$1" -print -quit) ]]
}

build_binaries() {
    [[ -z ${TRANSSHIP_BIN_DIR:-} ]] || die "not all of transship's binaries are in $BIN_DIR"
    say "building transship"
    (cd "$REPOSITORY" && unlocked cargo build --release --bins) || die "transship could not be built (up --bare does without)"
}
