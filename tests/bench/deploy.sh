#!/usr/bin/env bash
# A blue-green deployment by hand: what a careful person writes who has one host, Docker, nginx and
# PostgreSQL, and no tool. `make bench` compares Lockstep with it.
#
#   deploy.sh IMAGE    snapshot, migrations, start in the idle slot, three good answers, switch
#   deploy.sh --back   gives the traffic back to the other slot, which still runs
#
# From the environment:
#   NAME            what its containers' names begin with
#   FOLDER          its lock, its switch (traffic/green is there, or it is blue) and its snapshots
#   BLUE, GREEN     address:port of each slot
#   SITE            address:port at which nginx serves
#   DATABASE_URL    for the application; PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE for the tools
#
# Each step says on standard output what it was and how many seconds it took.
set -euo pipefail

readonly KEEP_SNAPSHOTS=3

fail() {
    echo "error: $*" >&2
    exit 1
}

begun=$EPOCHREALTIME
took() {
    local now=$EPOCHREALTIME
    awk -v what="$1" -v from="$begun" -v to="$now" 'BEGIN { printf "%s %.3f\n", what, to - from }'
    begun=$now
}

live_slot() { if [ -e "$FOLDER/traffic/green" ]; then echo green; else echo blue; fi; }
other() { if [ "$1" = blue ]; then echo green; else echo blue; fi; }
address_of() { if [ "$1" = blue ]; then echo "$BLUE"; else echo "$GREEN"; fi; }

# URL, how many good answers in a row, how many tries, and the version that must answer.
wait_for_good_answers() {
    local url=$1 wanted=$2 tries=$3 version=$4 row=0 answer
    while [ "$tries" -gt 0 ]; do
        answer="$(curl --silent --fail --max-time 1 --output /dev/null --write-out '%header{x-version}' "$url" || true)"
        if [ "$answer" = "$version" ]; then row=$((row + 1)); else row=0; fi
        [ "$row" -lt "$wanted" ] || return 0
        tries=$((tries - 1))
        sleep 0.1
    done
    return 1
}

# SLOT VERSION: one file, made durable; taken back where the version does not answer through nginx.
switch_to() {
    put_switch "$1"
    wait_for_good_answers "http://$SITE/health" 3 100 "$2" && return 0
    put_switch "$(other "$1")"
    return 1
}

put_switch() {
    if [ "$1" = green ]; then touch "$FOLDER/traffic/green"; else rm -f "$FOLDER/traffic/green"; fi
    sync "$FOLDER/traffic"
}

# pg_dump makes its files durable itself.
take_snapshot() {
    local snapshot
    snapshot="$FOLDER/snapshots/$(date -u +%Y%m%dT%H%M%S.%NZ)"
    pg_dump --format=directory --jobs=2 --compress=1 --file="$snapshot.partial"
    pg_restore --list "$snapshot.partial" >/dev/null
    mv "$snapshot.partial" "$snapshot"
    sync "$FOLDER/snapshots"
}

# Migrations are in the image, in golang-migrate's layout; each runs with its version's row in one transaction.
migrate() {
    local scratch container current file version
    scratch="$(mktemp -d)"
    container="$(docker create "$image")"
    docker cp "$container:/migrations" "$scratch/" >/dev/null
    docker rm "$container" >/dev/null
    current="$(psql -XAtq -v ON_ERROR_STOP=1 -c 'SELECT version FROM schema_migrations')"
    for file in "$scratch"/migrations/*.up.sql; do
        version="$(basename "$file" | sed -e 's/^0*//' -e 's/_.*//')"
        [ "$version" -gt "$current" ] || continue
        {
            echo "SET lock_timeout = '5s'; BEGIN;"
            cat "$file"
            echo ";DELETE FROM schema_migrations; INSERT INTO schema_migrations VALUES ($version, false); COMMIT;"
        } | psql -Xq -v ON_ERROR_STOP=1 -f -
    done
    rm -rf "$scratch"
}

start() {
    local container="$NAME-$1"
    docker stop -t 5 "$container" >/dev/null 2>&1 || true
    docker rm "$container" >/dev/null 2>&1 || true
    docker run --detach --name "$container" --restart unless-stopped --memory 128m \
        --label "by-hand=$NAME" --env DATABASE_URL --publish "$(address_of "$1"):8080" "$image" >/dev/null
}

remove_old_snapshots() {
    find "$FOLDER/snapshots" -mindepth 1 -maxdepth 1 | sort | head -n "-$KEEP_SNAPSHOTS" | xargs -r rm -rf
}

deploy() {
    local slot
    slot="$(other "$(live_slot)")"
    docker image inspect "$image" >/dev/null 2>&1 || docker pull "$image"
    took image
    take_snapshot
    took snapshot
    migrate
    took migrate
    start "$slot"
    took start
    wait_for_good_answers "http://$(address_of "$slot")/health" 3 100 "${image##*:}" || {
        docker logs --tail 20 "$NAME-$slot" >&2
        docker rm --force "$NAME-$slot" >/dev/null
        fail "$image did not become healthy; $(live_slot) goes on serving"
    }
    took health
    switch_to "$slot" "${image##*:}" || fail "nginx did not answer from $slot; $(live_slot) serves again"
    took switch
    remove_old_snapshots
    took clean_up
}

back() {
    local slot version
    slot="$(other "$(live_slot)")"
    version="$(docker inspect --format '{{.Config.Image}}' "$NAME-$slot")"
    version="${version##*:}"
    # Two: it was proved when it was deployed.
    wait_for_good_answers "http://$(address_of "$slot")/health" 2 100 "$version" ||
        fail "$slot is not healthy; $(live_slot) goes on serving"
    took health
    switch_to "$slot" "$version" || fail "nginx did not answer from $slot; $(live_slot) serves again"
    took switch
}

[ "$#" -eq 1 ] || fail "usage: deploy.sh IMAGE, or deploy.sh --back"
mkdir -p "$FOLDER/traffic" "$FOLDER/snapshots"
# Two people at once would take each other's slot.
exec 9>"$FOLDER/lock"
flock --nonblock 9 || fail "somebody else deploys"
if [ "$1" = --back ]; then
    back
else
    readonly image=$1
    deploy
fi
