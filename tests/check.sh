#!/usr/bin/env bash
# Format, dependencies, lints, documentation, unit tests, stories, tidy and the bytes of earlier versions: what needs no
# daemon. Three quarters of a minute warm.
#
# No command names a package: cargo would choose the features of dependencies for that package alone, and compile them
# and our crates once more.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
# Licences, second versions, registries (deny.toml), and dependencies that nothing names.
PATH="$PWD/target/tools/checkers/bin:$PATH"
for checker in cargo-deny cargo-shear; do
    command -v "$checker" >/dev/null || { printf 'error: %s is not installed\n  next: make setup\n' "$checker" >&2; exit 1; }
done
cargo deny --log-level error --locked --workspace check --deny unmatched-skip --deny unnecessary-skip licenses bans sources
cargo shear --locked
cargo clippy --quiet --workspace --all-targets -- --deny warnings
# A broken link is a lie; a link into the private part of a crate is read by who reads its source.
RUSTDOCFLAGS="--deny rustdoc::broken_intra_doc_links --allow rustdoc::private_intra_doc_links" cargo doc --quiet --workspace --no-deps
cargo test --quiet --lib --bins --test access --test declarations --test env_check --test driver --test hints --test journal \
    --test newcomer --test postinst --test redaction_is_linear --test strangers --test stories --test tidy \
    --test upgrade --test upgrade_fleet --test worker --test model
