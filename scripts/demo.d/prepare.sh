# shellcheck shell=bash disable=SC2154 # shared with the demo's other parts
# What a fresh machine lacks: a compiler, Rust, the lab's tools.

# Installs Debian packages whose command is missing: need COMMAND=PACKAGE...
need() {
    local pair missing=()
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    tell "installing ${missing[*]}"
    update_lists_once
    run_logged env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

update_lists_once() {
    [[ ! ${UPDATED:-} ]] || return 0
    UPDATED=yes
    run_logged apt-get update -q
}

wanted_rust() { sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$REPOSITORY/Cargo.toml"; }

at_least() { printf '%s\n%s\n' "$2" "$1" | sort --version-sort --check=quiet; }

has_rust() {
    local found
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2) && [[ $found ]] && at_least "$found" "$(wanted_rust)"
}

# Rust: what is there if it is new enough, else Debian's, else Debian's rustup.
need_rust() {
    local wanted offered
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    ! has_rust || return 0
    wanted=$(wanted_rust)
    update_lists_once
    offered=$(apt-cache policy rustc | sed -n 's/^ *Candidate: //p')
    if [[ ! $offered =~ ^[0-9] ]] || ! at_least "${offered%%[+~-]*}" "$wanted"; then offered=''; fi
    if [[ $offered ]] && ! command -v cargo >/dev/null; then
        need cargo=cargo
    elif apt-cache show rustup >/dev/null 2>&1 && ! command -v cargo >/dev/null; then
        need rustup=rustup
    fi
    if command -v rustup >/dev/null && ! has_rust; then
        tell "installing Rust's stable toolchain with rustup"
        run_logged rustup toolchain install stable --profile minimal
        run_logged rustup default stable
    fi
    has_rust || die "Rust $wanted or newer is needed to build transship, and $(cargo --version 2>/dev/null || echo none) is what is here.
       Debian has it from forky on; elsewhere install it with rustup (see https://rustup.rs), then run this again."
}

build() {
    local began=$SECONDS
    if [[ ${TRANSSHIP_BIN_DIR:-} ]]; then
        tell "using the binaries in $TRANSSHIP_BIN_DIR"
        return
    fi
    need cc=gcc
    echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1 || need no-libc-headers=libc6-dev
    need_rust
    tell "building transship (some minutes the first time)"
    # Cargo draws its own progress where it has a terminal.
    if [[ -t 2 ]]; then
        (cd "$REPOSITORY" && cargo build --release --bins) || die "transship could not be built"
    else
        (cd "$REPOSITORY" && run_logged cargo build --release --bins)
    fi
    tell "built in $((SECONDS - began)) s"
}
