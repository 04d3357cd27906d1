#!/usr/bin/env bash
# Everything that CI runs, from nothing but the Rust toolchain: checks, then every test on real parts.
# The daemons were made ready by `make setup`, which `make test` calls first.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --workspace
tests/check.sh
# Tests on real parts share one Docker daemon and two cores: one at a time, each with the bed to itself.
cargo test --workspace --tests -- --test-threads=1
