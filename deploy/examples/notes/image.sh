#!/usr/bin/env bash
# Builds the service and its image, without a registry and without a network:
#
#   image.sh TAG [--schema N] [--env KEY=VALUE]... [--label KEY=VALUE]...
#
# TAG       repository:version; the version is what X-Version will say
# --schema  only the migrations 1 to N go into the image; all of them without it
# --env     built into the image, as NOTES_HEALTH=unhealthy for a release that is bad
# --label   on the image; org.opencontainers.image.revision is also NOTES_COMMIT
#
# The last line, and the only one on standard output, is the image's id.
set -euo pipefail

usage() {
    echo "usage: image.sh TAG [--schema N] [--env KEY=VALUE]... [--label KEY=VALUE]..." >&2
    echo "  why: $1" >&2
    exit 2
}

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly here
readonly target="$here/../../../target/notes"
readonly platform=x86_64-unknown-linux-gnu

tag=""
schema=""
environment=()
labels=()
commit=""
while [ "$#" -gt 0 ]; do
    case "$1" in
        --schema | --env | --label) [ "$#" -ge 2 ] || usage "$1 needs a value" ;;&
        --schema) schema="$2"; shift 2 ;;
        --env) environment+=("$2"); shift 2 ;;
        --label)
            case "$2" in org.opencontainers.image.revision=*) commit="${2#*=}" ;; *) labels+=(--label "$2") ;; esac
            shift 2
            ;;
        -*) usage "$1 is not known" ;;
        *) [ -z "$tag" ] || usage "there is more than one TAG"; tag="$1"; shift ;;
    esac
done
[[ "$tag" == ?*:?* ]] || usage "TAG is repository:version, and not '$tag'"
[[ "$schema" =~ ^[0-9]*$ ]] || usage "--schema is a number, and not '$schema'"
[ -n "$commit" ] || commit="$(git -C "$here" rev-parse HEAD 2>/dev/null || echo unknown)"

RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR="$target" \
    cargo build --quiet --locked --release --target "$platform" --manifest-path "$here/Cargo.toml" >&2

context="$(mktemp -d "$target/context.XXXXXX")"
trap 'rm -rf "$context"' EXIT
mkdir "$context/migrations"
cp "$target/$platform/release/notes" "$context/notes"
for file in "$here"/migrations/*.sql; do
    number="$(basename "$file" | sed -e 's/^0*//' -e 's/_.*//')"
    if [ -z "$schema" ] || [ "$number" -le "$schema" ]; then cp "$file" "$context/migrations/"; fi
done
cp "$here/Dockerfile" "$context/Dockerfile"
for pair in ${environment[@]+"${environment[@]}"}; do
    [[ "$pair" =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || usage "--env is KEY=VALUE, and not '$pair'"
    value="$(printf '%s' "${pair#*=}" | sed -e 's/[\\"$]/\\&/g')"
    printf 'ENV %s="%s"\n' "${pair%%=*}" "$value" >>"$context/Dockerfile"
done
# Without this a private umask would leave the user of the image nothing to read.
chmod -R a+rX "$context"

# The builder that Debian's Docker has; a newer client only warns of its age.
DOCKER_BUILDKIT=0 docker build --network none --tag "$tag" \
    --build-arg VERSION="${tag##*:}" --build-arg COMMIT="$commit" \
    --build-arg CREATED="$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
    ${labels[@]+"${labels[@]}"} "$context" >"$context.log" 2>&1 || {
    cat "$context.log" >&2
    rm -f "$context.log"
    exit 1
}
rm -f "$context.log"
docker image inspect --format '{{.Id}}' "$tag"
