#!/usr/bin/env bash
# The real drivers under faults of everything, in so many schedules, each from one seed; then the deliberate bugs that must
# not survive them. In release: a run is ten times shorter.
set -euo pipefail
cd "$(dirname "$0")/.."
simulate() { cargo run --quiet --profile sim --package lockstep-sim --features simulate -- "$@"; }
simulate --seeds "$1"
simulate --mutants
