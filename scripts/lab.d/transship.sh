# shellcheck shell=bash
# transship in a host, as its package would install it.

# Installs, or refreshes what differs. Docker and its containers are left alone.
need_transship() {
    local host=$1
    if ! is_installed "$host"; then
        say "installing transship in $host"
        put_files "$host"
        run_in "$host" sh -ec 'getent group transship >/dev/null || groupadd --system transship
            update-rc.d transshipd defaults'
        run_in "$host" service transshipd start </dev/null >&2
        run_in "$host" transship install </dev/null >&2 || die "'transship install' failed in $host"
        touch "$STATE/hosts/$host/transship"
    elif ! is_current "$host"; then
        say "refreshing transship in $host"
        run_in "$host" service transshipd stop </dev/null >&2
        put_files "$host"
        run_in "$host" service transshipd start </dev/null >&2
    else
        run_in "$host" service transshipd status </dev/null >/dev/null ||
            run_in "$host" service transshipd start </dev/null >&2
    fi
}

is_current() {
    local binary root
    root=$(root_of "$1")
    for binary in $BINARIES; do
        cmp -s "$BIN_DIR/${binary%%=*}" "$root${binary#*=}" || return 1
    done
    cmp -s "$LAB_PARTS/transshipd.init" "$root/etc/init.d/transshipd"
}

put_files() {
    local binary root
    root=$(root_of "$1")
    for binary in $BINARIES; do
        put_file "$BIN_DIR/${binary%%=*}" "$root${binary#*=}"
    done
    put_file "$LAB_PARTS/transshipd.init" "$root/etc/init.d/transshipd"
}

# By rename, since Docker may call the interposer at any time.
put_file() {
    install -D -m 755 "$1" "$2.new"
    mv "$2.new" "$2"
}
