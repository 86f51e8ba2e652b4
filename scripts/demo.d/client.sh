#!/usr/bin/env bash
# One client of the demo: client.sh web-open|web-new|db-open|db-new ADDRESS PORT
# Asks every few milliseconds until it gets SIGTERM, checks each answer, and then prints what came of it:
#   requests failed slowest-in-microseconds [first failure]
set -u
LC_ALL=C

KIND=$1 ADDRESS=$2 PORT=$3
# Longer than anything in the demo takes: without an answer by then, a request has failed.
PATIENCE=60
PAUSE=0.005

requests=0 failed=0 slowest=0 complaint='' ending=''
trap 'ending=yes' TERM
exec {never}<> <(:)

pause() { read -r -t "$PAUSE" -u "$never" || true; }

# The program, not the shell's own word, which sends line by line and so waits for the server's delayed acknowledgements.
SEND=$(type -P printf)

connect() { exec {server}<>"/dev/tcp/$ADDRESS/$PORT"; } 2>/dev/null

disconnect() { [[ ! ${server:-} ]] || exec {server}>&-; server=''; }

# ask_web: one request on the open connection; the page must be the one that the first answer had.
ask_web() {
    local line length=-1 status='' page='' closes=''
    "$SEND" 'GET / HTTP/1.1\r\nHost: demo\r\n\r\n' >&"$server" || return
    while :; do
        IFS= read -r -t "$PATIENCE" -u "$server" line || return
        line=${line%$'\r'}
        [[ $line ]] || break
        [[ $status ]] || status=$line
        # nginx ends a connection after so many requests, and says so.
        [[ ${line,,} != "connection: close" ]] || closes=yes
        [[ ${line,,} != content-length:* ]] || length=${line##*: }
    done
    [[ $status == "HTTP/1.1 200 OK" && $length -ge 0 ]] || return
    IFS= read -r -t "$PATIENCE" -N "$length" -u "$server" page || return
    : "${first_page:=$page}"
    [[ ! $closes ]] || disconnect
    [[ $page == "$first_page" ]]
}

# ask_db: counts on; the number must be the one after the last, so a request that was lost or done twice is seen.
ask_db() {
    local line
    printf 'INCR demo:%s\r\n' "$KIND:$$" >&"$server" || return
    IFS= read -r -t "$PATIENCE" -u "$server" line || return
    [[ $line == ":$((counted + 1))"$'\r' ]] || return
    counted=$((counted + 1))
}

took() {
    local microseconds=$((${EPOCHREALTIME/./} - ${1/./}))
    requests=$((requests + 1))
    [[ $microseconds -le $slowest ]] || slowest=$microseconds
}

fail() {
    # What the end has cut off has not failed.
    [[ ! $ending ]] || return 0
    failed=$((failed + 1))
    : "${complaint:=$1}"
    disconnect
    sleep 0.1
}

counted=0 server=''
while [[ ! $ending ]]; do
    began=$EPOCHREALTIME
    if [[ ! $server ]] && ! connect; then
        fail "connection refused or not answered after $requests requests"
    elif ! "ask_${KIND%-*}"; then
        fail "no answer, or a wrong one, after $requests requests"
    else
        took "$began"
        [[ $KIND == *-open ]] || disconnect
        pause
    fi
done
echo "$requests $failed $slowest $complaint"
