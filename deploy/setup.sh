#!/usr/bin/env bash
# Makes a fresh Debian 12 ready to build and try this project: checks Rust,
# installs missing packages, and starts a Docker daemon if none answers. It may
# run at any time: it keeps what is already there, and each line says what it
# found or did. `make setup` calls it.
set -euo pipefail

readonly RUST_MINIMUM="1.94"
readonly DOCKER_WAIT_SECONDS=60
readonly CHECKERS="deploy/checkers.txt"
readonly CHECKERS_FOLDER="target/tools/checkers"
export DEBIAN_FRONTEND=noninteractive
# A user's PATH on Debian lacks the folders of dockerd, nginx and iptables.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

changes=0

there() { printf 'there    %s\n' "$*"; }
did() {
    changes=$((changes + 1))
    printf 'did      %s\n' "$*"
}
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -- "$@"; fi
}

check_rights() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null || fail "this needs root or sudo" \
        "why: it installs packages and starts the Docker daemon" \
        "next: run it as root"
}

check_rust() {
    local tool version oldest
    for tool in cargo rustc; do
        command -v "$tool" >/dev/null || fail "$tool is not in PATH" \
            "why: Debian's own Rust is too old for this project, so it is not installed from there" \
            "next: install rustup from https://rustup.rs, then \`rustup update stable\`"
    done
    version="$(rustc --version | cut -d ' ' -f 2)"
    oldest="$(printf '%s\n%s\n' "$RUST_MINIMUM" "$version" | sort -V | head -n 1)"
    [ "$oldest" = "$RUST_MINIMUM" ] || fail "rustc is $version, and $RUST_MINIMUM or newer is needed" \
        "next: \`rustup update stable\` (without rustup: install it from https://rustup.rs first)"
    there "rustc $version"
}

# Looks for the program or file of a package, not for the package: a Docker or
# nginx from elsewhere is good enough, and Debian's would conflict with it.
is_there() {
    case "$1" in
        build-essential) command -v cc >/dev/null && command -v make >/dev/null ;;
        ca-certificates) [ -s /etc/ssl/certs/ca-certificates.crt ] ;;
        docker.io) command -v dockerd >/dev/null && command -v docker >/dev/null ;;
        curl | git | iptables | nginx | haproxy | docker-registry | debootstrap) command -v "$1" >/dev/null ;;
        # The example application is linked statically.
        libc6-dev) [ -n "$(cc -print-file-name=libc.a 2>/dev/null | grep /)" ] ;;
        postgresql) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
        # The client of etcd compiles etcd's interface when it is built.
        protobuf-compiler) command -v protoc >/dev/null ;;
        libprotobuf-dev) [ -s /usr/include/google/protobuf/descriptor.proto ] ;;
        etcd-server) command -v etcd >/dev/null ;;
        etcd-client) command -v etcdctl >/dev/null ;;
        postgresql-client) command -v psql >/dev/null ;;
        # The registry of the tests has users.
        apache2-utils) command -v htpasswd >/dev/null ;;
        # What judges the dependencies comes as wheels.
        python3-pip) command -v pip3 >/dev/null ;;
        *) return 1 ;;
    esac
}

has_systemd() { [ -d /run/systemd/system ]; }

install() {
    # Under systemd Debian's services start as Debian means them to. Elsewhere
    # invoke-rc.d starts nothing when it is told that this is single-user mode.
    local quiet=(RUNLEVEL=1)
    if has_systemd; then quiet=(); fi
    as_root apt-get update -qq
    as_root env "${quiet[@]}" DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

install_packages() {
    local package missing=()
    for package in build-essential libc6-dev protobuf-compiler libprotobuf-dev ca-certificates curl git \
        docker.io iptables nginx haproxy postgresql postgresql-client etcd-server etcd-client docker-registry \
        apache2-utils debootstrap python3-pip; do
        if is_there "$package"; then there "$package"; else missing+=("$package"); fi
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "missing: ${missing[*]}" \
        "why: this machine has no apt-get, so they cannot be installed from here" \
        "next: install these packages, or what replaces them, and run this again"
    install "${missing[@]}"
    for package in "${missing[@]}"; do
        is_there "$package" || fail "$package was installed, but its program or file is still missing"
        did "installed $package"
    done
}

# As `cargo-deny@0.20.2`.
checkers() { sed -n 's/^astral-dev-toolchain-\([a-z-]*\)==\([0-9.]*\).*/\1@\2/p' "$CHECKERS"; }

checkers_answer() {
    local checker version
    for checker in $(checkers); do
        # Read whole: a program whose reader leaves early ends with an error.
        version="$("$CHECKERS_FOLDER/bin/${checker%@*}" --version 2>/dev/null)" || return 1
        grep --quiet --fixed-strings --word-regexp "${checker#*@}" <<<"$version" || return 1
    done
}

# `make check` asks them. As wheels they take seconds, compiled here they take minutes.
ensure_checkers() {
    local all
    all="$(checkers | paste -s -d ' ')"
    if checkers_answer; then
        there "$all"
        return
    fi
    rm -rf "$CHECKERS_FOLDER"
    pip3 install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes \
        --target "$CHECKERS_FOLDER" --requirement "$CHECKERS" ||
        fail "$all cannot be installed from $CHECKERS" \
            "why: see the output of pip above" \
            "next: cargo install --locked --root $CHECKERS_FOLDER $all"
    checkers_answer || fail "$all were installed in $CHECKERS_FOLDER, but do not run"
    did "installed $all in $CHECKERS_FOLDER"
}

docker_answers() { as_root docker info >/dev/null 2>&1; }

# Prints a process's name if it is alive, and adds "dead" where its parent has
# only not fetched it yet (as process 1 of some containers never does).
living() {
    sed -n -e 's/^Name:[[:space:]]*//p' -e '/^State:[[:space:]]*[ZX]/s/.*/dead/p' \
        "/proc/$1/status" 2>/dev/null | paste -s -d ' '
}

# After a crash or a reboot the number in the file may belong to anything or to
# a dead process, and dockerd then refuses to start or waits for it in vain.
remove_stale_pid_file() {
    local file="$1" program="$2" pid
    pid="$(as_root cat "$file" 2>/dev/null || true)"
    [ -n "$pid" ] || return 0
    if [ "$(living "$pid")" != "$program" ]; then
        as_root rm -f "$file"
        did "removed $file: process $pid is not a running $program"
    fi
}

start_dockerd() {
    local log="$1"
    remove_stale_pid_file /run/docker.pid dockerd
    remove_stale_pid_file /run/docker/containerd/containerd.pid containerd
    if [ -e /run/docker.pid ]; then
        there "a dockerd, process $(cat /run/docker.pid), that does not answer yet"
        return
    fi
    # shellcheck disable=SC2016 # $1 belongs to the inner shell
    as_root setsid --fork sh -c 'exec dockerd >>"$1" 2>&1 </dev/null' dockerd "$log"
    did "started dockerd, log in $log"
}

docker_log() {
    local log=/var/log/dockerd.log
    if as_root sh -c "touch $log" 2>/dev/null; then echo "$log"; else mktemp -t dockerd.XXXXXX.log; fi
}

show_docker_log() {
    if has_systemd; then
        as_root journalctl --unit docker --lines 30 --no-pager >&2 || true
    else
        as_root tail -n 30 "$1" >&2 || true
    fi
}

ensure_docker() {
    local log="" waited=0
    if docker_answers; then
        there "docker daemon $(as_root docker version --format '{{.Server.Version}}')"
        return
    fi
    if has_systemd; then
        as_root systemctl start docker || { show_docker_log ""; fail "systemctl start docker failed"; }
        did "started the docker service"
    else
        log="$(docker_log)"
        start_dockerd "$log"
    fi
    until docker_answers; do
        waited=$((waited + 1))
        if [ "$waited" -gt "$DOCKER_WAIT_SECONDS" ]; then
            show_docker_log "$log"
            fail "the Docker daemon does not answer after $DOCKER_WAIT_SECONDS s" \
                "next: read the end of its log above; \`docker info\` shows its answer"
        fi
        sleep 1
    done
    there "docker daemon $(as_root docker version --format '{{.Server.Version}}') answers"
}

cd "$(dirname "$0")/.."
check_rights
check_rust
install_packages
ensure_checkers
ensure_docker
if [ "$changes" -eq 0 ]; then
    echo "Everything was there; nothing was changed."
else
    echo "Ready; changes made: $changes."
fi
