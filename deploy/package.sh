#!/usr/bin/env bash
# Makes the three Debian packages in target/debian. For tests: PROFILE=dev takes the debug build, VERSION names another
# version than the workspace's, OUTPUT another folder.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO_DEB="3.8.0"
profile="${PROFILE:-release}"
tools="$PWD/target/tools"
PATH="$tools/bin:$PATH"

[ "$(cargo deb --version 2>/dev/null)" = "$CARGO_DEB" ] ||
    cargo install --quiet --locked --root "$tools" --version "$CARGO_DEB" cargo-deb

cargo build --quiet --profile "$profile" --package lockstep --package lockstep-agent --package lockstep-coordinator
folder="$profile"
[ "$profile" != dev ] || folder=debug
rm -rf target/package
"target/$folder/lockstep" package-files target/package

output="${OUTPUT:-target/debian}"
mkdir -p "$output"
options=(--no-build --quiet --output "$output/" --profile "$profile")
# The packages of debug programs are for a moment.
[ "$profile" != dev ] || options+=(--fast)
[ -z "${VERSION:-}" ] || options+=(--deb-version "$VERSION")
for package in lockstep lockstep-agent lockstep-coordinator; do
    cargo deb "${options[@]}" --package "$package"
done
