#!/usr/bin/env bash
# Installs what is missing on a Debian-like machine and nothing else; safe to run again.
#
#   scripts/setup.sh build      what `cargo build` needs: a C compiler, make, OpenSSL and zlib (for librdkafka)
#   scripts/setup.sh services   in addition what the servers of scripts/services.sh need
#   scripts/setup.sh            both, and what `make test` needs besides
set -euo pipefail

RUST_MIN="1.95"
what=${1:-all}
packages=()

say() { printf '%s\n' "setup: $*" >&2; }
want() { command -v "$1" >/dev/null 2>&1 || packages+=("$2"); }       # command package
want_file() { compgen -G "$1" >/dev/null || packages+=("$2"); }       # file package

rust() {
    local have
    if ! command -v cargo >/dev/null 2>&1; then
        say "no Rust toolchain found: install Rust $RUST_MIN or newer from https://rustup.rs, then open a new shell"
        exit 3
    fi
    have=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n' "$RUST_MIN" "${have%%-*}" | sort -V | head -n 1)" != "$RUST_MIN" ]; then
        say "Rust $have is too old, $RUST_MIN is needed: run 'rustup update stable'"
        exit 3
    fi
}

build() {
    want cc build-essential
    want make build-essential
    want pkg-config pkg-config
    want_file '/usr/include/openssl/ssl.h' libssl-dev
    want_file '/usr/include/zlib.h' zlib1g-dev
}

services() {
    want java default-jre-headless
    want mvn maven
    want curl curl
    want unzip unzip
    want xz xz-utils
    want psql postgresql-client
    want_file '/usr/lib/postgresql/15/bin/initdb' postgresql-15
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || packages+=(python3-venv)
}

testing() {
    want git git
    if ! docker compose version >/dev/null 2>&1; then want docker-compose docker-compose; fi
}

install() {
    [ ${#packages[@]} -gt 0 ] || return 0
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    local as=()
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            say "missing: ${packages[*]}. Not root and no sudo without a password: please run"
            say "    sudo apt-get install -y --no-install-recommends ${packages[*]}"
            exit 3
        fi
        as=(sudo -n)
    fi
    if ! command -v apt-get >/dev/null; then
        say "missing (Debian's names): ${packages[*]}. There is no apt-get here: please install them by hand"
        exit 3
    fi
    say "installing ${packages[*]}"
    # postgresql-common would make and start a cluster of its own; the servers here are ours.
    if [[ " ${packages[*]} " == *" postgresql-15 "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
        "${as[@]}" mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' | "${as[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    "${as[@]}" apt-get update -qq
    "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

case "$what" in
build) rust && build ;;
services) services ;;
all) rust && build && services && testing ;;
*) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
install
