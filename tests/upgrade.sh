#!/usr/bin/env bash
# Upgrades a fleet, and one machine, from the packages of an earlier revision to those of this one:
#
#   tests/upgrade.sh REVISION [TEST]...
#
# The programs of a revision are built once: target/upgrade/<revision> keeps their packages. Hosts are upgraded at
# once, or one by one in the order of UPGRADE_ORDER="app-1 c1 lb-1" (hosts that are not named follow).
set -euo pipefail
cd "$(dirname "$0")/.."
export GIT_PAGER=cat
unset CARGO_TARGET_DIR

from="$(git rev-parse --verify --short=12 "$1^{commit}")"
shift
readonly from
readonly build="$PWD/target/upgrade/build"
readonly place="$PWD/target/upgrade/$from"

# All earlier revisions share one build folder. It begins with the registry's crates that are compiled here already:
# cargo takes those that it needs, and compiles the others.
make_build_folder() {
    [ ! -d "$build" ] || return 0
    mkdir -p "$build.new/debug/deps" target/tools
    ln -s "$PWD/target/tools" "$build.new/tools"
    if [ -d target/debug/deps ]; then
        cp -a target/debug/.fingerprint target/debug/build "$build.new/debug/"
        (cd target/debug/deps && find . -maxdepth 1 -type f ! -name '*lockstep*' \
            \( -name '*.rlib' -o -name '*.rmeta' -o -name '*.so' -o -name '*.d' \) -print0) |
            (cd target/debug/deps && xargs -0 cp -al -t "$build.new/debug/deps/")
        rm -rf "$build.new/debug/.fingerprint/lockstep"* "$build.new/debug/build/lockstep"*
    fi
    mv "$build.new" "$build"
}

# The revision is in the packages' number, which is lower than those of `make fleet-packages`.
package_earlier() {
    [ ! -d "$place/packages" ] || return 0
    make_build_folder
    rm -rf "$place"
    mkdir -p "$place/source"
    git archive "$from" | tar -x -C "$place/source"
    ln -s "$build" "$place/source/target"
    PROFILE=dev VERSION="0.1.0-0.$from" OUTPUT="$place/packages.new" "$place/source/deploy/package.sh"
    mv "$place/packages.new" "$place/packages"
}

say() { printf 'upgrade: %s\n' "$*" >&2; }

described() {
    git log -1 --format='%h (%s)' "$1"
}

say "from $(described "$from")"
package_earlier
to="$(described HEAD)"
git diff --quiet HEAD -- || to="$to, with changes that are not committed"
say "to $to"
PROFILE=dev VERSION=0.1.0-2 OUTPUT=target/fleet/0.1.0-2 deploy/package.sh >/dev/null
UPGRADE_FROM="$from" UPGRADE_TO="$to" \
    cargo test --test upgrade_fleet -- --include-ignored --nocapture --test-threads=1 "$@"
