#!/usr/bin/env bash
# Licences, bans and sources of every crate (deny.toml). Not part of `make test`: the tool takes
# minutes to install, and its database of advisories cannot be reached from everywhere.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="${XDG_CACHE_HOME:-$HOME/.cache}/driftless/tools"
PATH="$tools/bin:$PATH"
command -v cargo-deny >/dev/null || cargo install --locked --root "$tools" cargo-deny
cargo deny --all-features check bans licenses sources
