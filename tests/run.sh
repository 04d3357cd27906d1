#!/usr/bin/env bash
# Everything that CI runs, from nothing but the Rust toolchain: checks, then what runs on real parts.
# The daemons were made ready by `make setup`, which `make test` calls first.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=()

# Runs a part, and the next one although it fails: a run shows everything that is wrong. Says how long it took: the table
# in tests/README.md is made of these lines.
part() {
    local name="$1" begun="$SECONDS"
    shift
    "$@" || failed+=("$name")
    printf 'took %4d s: %s\n' "$((SECONDS - begun))" "$name"
}

# Most of their time they wait: for a health check, a lease, a drain. None may meet another, so three run at a time.
on_real_parts() { cargo test --no-fail-fast "$@" -- --test-threads=3; }

cargo build --workspace
printf 'took %4d s: build\n' "$SECONDS"
# It computes, while most of what follows waits: so it runs beside that, and takes what is left of the processors.
nice -n 19 tests/simulate.sh 55000 >target/simulation.log 2>&1 &
simulation="$!"
# The same holds for the fuzz targets, which are compiled with flags of their own.
(tail --pid="$simulation" --follow /dev/null && nice -n 19 tests/fuzz.sh 10) >target/fuzz.log 2>&1 &
fuzzing="$!"
part "tests/check.sh" tests/check.sh
part "nginx, postgres, probe, session, store" on_real_parts --test nginx --test postgres --test probe --test session --test store
part "attack" on_real_parts --test attack
part "cases" on_real_parts --test cases
part "scenarios" on_real_parts --test scenarios
part "up" on_real_parts --test up
part "simulation, what was left of it" wait "$simulation"
cat target/simulation.log
part "fuzz, what was left of it" wait "$fuzzing"
cat target/fuzz.log
# The main job, as a user sees it; it fails when one request does.
part "demonstration" cargo run --quiet --bin demo
# On hosts that boot systemd, installed from packages; it says so where this machine cannot have them.
part "fleet" tests/fleet.sh

[ "${#failed[@]}" -eq 0 ] || {
    printf 'error: failed: %s\n' "${failed[@]}" >&2
    exit 1
}
