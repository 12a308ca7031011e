#!/usr/bin/env bash
# Everything that CI gates, in order, with the seconds each step took. Fails if any step fails, but
# runs all of them first, so that one run shows all that is wrong.
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/driftless/target}"

steps=()
failed=0

step() { # name command...
    local name=$1 start=$SECONDS result=passed
    shift
    printf '\n== %s\n' "$name"
    "$@" </dev/null || { result=FAILED && failed=$((failed + 1)); }
    steps+=("$(printf '%6d s  %-6s  %s' $((SECONDS - start)) "$result" "$name")")
}

compose() { # the compose file says what it should; the servers themselves run as processes here
    if docker compose version >/dev/null 2>&1; then docker compose config --quiet
    elif command -v docker-compose >/dev/null; then docker-compose config --quiet
    else echo "neither 'docker compose' nor docker-compose is here: run scripts/setup.sh" && return 1; fi
}

scripts_parse() { for script in scripts/*.sh .ci/run; do bash -n "$script" || return 1; done; }

scripts/setup.sh || exit 3
step "formatting" cargo fmt --check
step "shell scripts parse" scripts_parse
step "docker-compose.yml is valid" compose
step "lints" cargo clippy --all-targets -- -D warnings
step "tests, with the simulation and its mutants" cargo test --no-fail-fast

printf '\n== summary\n'
printf '%s\n' "${steps[@]}"
[ "$failed" -eq 0 ] || { echo "$failed step(s) failed"; exit 1; }
