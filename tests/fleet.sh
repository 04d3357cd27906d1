#!/usr/bin/env bash
# What CI runs on a fleet, where this machine can have one. `make fleet-test` runs all that is tested there.
set -euo pipefail
cd "$(dirname "$0")/.."

# Why hosts that boot systemd cannot be had here, if they cannot.
obstacle() {
    [ "$(id -u)" -eq 0 ] || { echo "it needs root, and this is $(id -un)"; return; }
    command -v debootstrap >/dev/null || { echo "debootstrap is not installed"; return; }
    unshare --mount true 2>/dev/null || { echo "nothing may be mounted here (CAP_SYS_ADMIN)"; return; }
    local folder
    folder="$(mktemp --directory)"
    # shellcheck disable=SC2064 # the folder of this moment
    trap "rm -rf '$folder'" RETURN
    mknod "$folder/null" c 1 3 2>/dev/null || { echo "no device may be made here (CAP_MKNOD)"; return; }
}

why="$(obstacle)"
if [ -n "$why" ]; then
    echo "NOT TESTED: the fleet. $why; make fleet-test, as root on a machine of its own, tests it." >&2
    exit 0
fi
make --no-print-directory fleet-packages
# The rest takes a quarter of an hour, and a machine that does nothing else.
cargo test --test fleet -- --ignored --nocapture --test-threads=1 a_fleet_is_installed the_readme_serves
SUITE=trixie cargo test --test fleet -- --ignored --nocapture --test-threads=1 the_readme_serves
