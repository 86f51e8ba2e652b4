# shellcheck shell=bash
# transship in a host, by its package.

need_transship() {
    local host=$1 key package
    key=$(package_key)
    # Somebody may have removed it in the host.
    if [[ $(recorded "$host" transship) == "$key" ]] && run_in "$host" test -x /usr/sbin/transshipd </dev/null; then return; fi
    say "installing transship in $host"
    package=$(TRANSSHIP_BIN_DIR=$BIN_DIR "$REPOSITORY/scripts/package" "$CACHE/tmp/package")
    run_in "$host" sh -c 'cat >/tmp/transship.deb' <"$package"
    run_in "$host" sh -c 'dpkg -i /tmp/transship.deb && rm /tmp/transship.deb' </dev/null >&2 ||
        die "the package could not be installed in $host"
    run_in "$host" systemctl is-active --quiet transshipd </dev/null ||
        die "transshipd does not run in $host: $(run_in "$host" journalctl -u transshipd -n 20 --no-pager -o cat </dev/null)"
    echo "$key" >"$STATE/hosts/$host/transship"
}

# All that the package is made of.
package_key() {
    local binary
    {
        for binary in $BINARIES; do cat "$BIN_DIR/${binary%%=*}"; done
        cat "$REPOSITORY/scripts/package"
        find "$REPOSITORY/packaging" -type f -print0 | sort -z | xargs -0 cat
    } | sha256sum
}
