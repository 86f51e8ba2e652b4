# shellcheck shell=bash disable=SC2034,SC2154 # shared with the demo's other parts
# Clients of the two containers: on connections that stay open, and on new ones all the time.

CLIENT_KINDS="web-open web-new db-open db-new"

start_clients() {
    local kind port
    for kind in $CLIENT_KINDS; do
        case $kind in
            web-*) port=8080 ;;
            db-*) port=6379 ;;
        esac
        "$LAB" client bash "$PARTS/client.sh" "$kind" "$ADDRESS" "$port" >"$WORK/$kind" 2>"$WORK/$kind.errors" &
        CLIENTS["$kind"]=$!
    done
    sleep 1
}

# Ends them, and prints what each has come through. Sets FAILED where a request failed.
end_clients() {
    local kind
    # What was asked while a container was away is answered first.
    sleep 1
    for kind in $CLIENT_KINDS; do
        kill -TERM "${CLIENTS[$kind]}"
        wait "${CLIENTS[$kind]}" || true
        unset "CLIENTS[$kind]"
    done
    for kind in $CLIENT_KINDS; do tell_client "$kind"; done
}

kill_clients() {
    local pid
    for pid in "${CLIENTS[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}

tell_client() {
    local requests failed slowest complaint name colour=''
    case $1 in
        web-open) name="web: a connection that stays open" ;;
        web-new) name="web: a new connection each time" ;;
        db-open) name="db:  a connection that stays open" ;;
        db-new) name="db:  a new connection each time" ;;
    esac
    read -r requests failed slowest complaint <"$WORK/$1" ||
        die "a client ended early: $(tail -n 3 "$WORK/$1.errors" | tr '\n' ' ')"
    [[ $requests -gt 0 ]] || failed=$((failed + 1))
    [[ $failed -eq 0 ]] || { FAILED=yes colour=$RED; }
    printf '  %-36s %6d requests   %sfailed: %d%s   slowest answer %5d ms%s\n' "$name" "$requests" "$colour" "$failed" "$PLAIN" \
        $((slowest / 1000)) "${complaint:+   ($complaint)}"
}
