#!/usr/bin/env bash
# tests/fuzz.sh SECONDS [TARGET…] runs every fuzz target, or those that are named, for so many seconds each, from the corpus
# in tests/fuzz/corpus. What is new goes into target/fuzz/corpus, and what breaks a target into target/fuzz/artifacts.
#
# On stable: without a sanitizer, a target has coverage, assertions and overflow checks. It finds what a safe program can
# do wrong; `unsafe` is forbidden in every crate of the project.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly SECONDS_EACH="$1"
readonly OUTPUT="target/fuzz"
# An input takes microseconds: one that takes this long hangs.
readonly HANG_SECONDS=20
readonly MEMORY_MIB=2048
shift
PATH="$PWD/target/tools/checkers/bin:$PATH"
command -v cargo-fuzz >/dev/null || { printf 'error: cargo-fuzz is not installed\n  next: make setup\n' >&2; exit 1; }

# The dependencies that are fuzzed are those of the programs, at the same versions.
cp Cargo.lock tests/fuzz/Cargo.lock
fuzz() { cargo fuzz "$1" --fuzz-dir tests/fuzz --target-dir "$OUTPUT" --sanitizer none --strip-dead-code "${@:2}"; }
begun="$SECONDS"
fuzz build
printf 'took %4d s: compiling the fuzz targets\n' "$((SECONDS - begun))"

host="$(rustc -vV | sed -n 's/^host: //p')"
[ "$#" -gt 0 ] || mapfile -t targets < <(cargo fuzz list --fuzz-dir tests/fuzz)
[ "$#" -eq 0 ] || targets=("$@")
failed=()
for target in "${targets[@]}"; do
    new="$OUTPUT/corpus/$target" broken="$OUTPUT/artifacts/$target" log="$OUTPUT/$target.log"
    mkdir -p "$new" "$broken"
    if "$OUTPUT/$host/release/$target" -max_total_time="$SECONDS_EACH" -timeout="$HANG_SECONDS" \
        -rss_limit_mb="$MEMORY_MIB" -print_final_stats=1 -artifact_prefix="$broken/" \
        "$new" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
        printf '%-16s %10s inputs in %s s\n' "$target" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$SECONDS_EACH"
        continue
    fi
    failed+=("$target")
    tail -n 40 "$log" >&2
    input="$(sed -n 's/^.*Test unit written to //p' "$log" | tail -n 1)"
    printf 'error: the fuzz target %s failed\n  next: %s %s    # the same again\n' \
        "$target" "$OUTPUT/$host/release/$target" "${input:-of $log}" >&2
done
[ "${#failed[@]}" -eq 0 ] || { printf 'error: failed: %s\n' "${failed[@]}" >&2; exit 1; }
