#!/usr/bin/env bash
# Everything that CI runs, from nothing but the Rust toolchain: checks, then what runs on real parts.
# The daemons were made ready by `make setup`, which `make test` calls first.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --workspace
tests/check.sh
# Faults everywhere, and the deliberate bugs that must not survive them.
cargo run --quiet --profile sim --package lockstep-sim --features simulate -- --from 5000 --seeds 50000
cargo run --quiet --profile sim --package lockstep-sim --features simulate -- --mutants
# What follows shares one Docker daemon and two cores: one test at a time. The other tests have run in check.sh.
cargo test --no-fail-fast --test nginx --test postgres --test probe --test session --test store --test cases \
    --test scenarios --test up -- --test-threads=1
# The main job, as a user sees it; it fails when one request does.
cargo run --quiet --bin demo
# On hosts that boot systemd, installed from packages; it says so where this machine cannot have them.
tests/fleet.sh
