#!/usr/bin/env bash
# All figures of docs/guides/benchmarks.md, one after the other, on servers of their own.
#
#   scripts/bench.sh [drain|copy|sink|latency|idle|log]...   none named: all
#
# RUNS=3 measurements of each, of which the median is told; THOUSANDS=1000 rows. The servers are started
# by scripts/services.sh in folders of this run, on ports that are free by default, and stopped in the end.
set -euo pipefail
cd "$(dirname "$0")/.."

RUNS="${RUNS:-3}"
THOUSANDS="${THOUSANDS:-1000}"
KAFKA_PORT="${DRIFTLESS_KAFKA_PORT:-22592}"
SOURCE_PORT="${DRIFTLESS_PG15_PORT:-22515}"
DESTINATION_PORT=$((SOURCE_PORT + 1))
PLACE=$(mktemp -d "${TMPDIR:-/tmp}/driftless-bench-servers-XXXXXX")
chmod 755 "$PLACE"

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/driftless/target}"
export DRIFTLESS_KAFKA_PORT="$KAFKA_PORT"
DRIFTLESS_PG_SETTINGS="shared_buffers = 1GB
max_wal_size = 16GB
autovacuum = off
jit = off"
export DRIFTLESS_PG_SETTINGS

services() { # folder port command...
    local folder=$1 port=$2
    shift 2
    DRIFTLESS_SERVICES="$PLACE/$folder" DRIFTLESS_PG15_PORT="$port" scripts/services.sh "$@"
}

end() {
    services one "$SOURCE_PORT" down kafka postgres15 || true
    services two "$DESTINATION_PORT" down postgres15 || true
    rm -rf "$PLACE"
}
trap end EXIT

cargo build --release
services one "$SOURCE_PORT" up kafka postgres15
services two "$DESTINATION_PORT" up postgres15

source="postgres://postgres@127.0.0.1:$SOURCE_PORT/postgres"
destination="postgres://postgres@127.0.0.1:$DESTINATION_PORT/postgres"

bench() { # figure arguments...
    local figure=$1
    shift
    echo "== driftless bench $figure $*"
    "$CARGO_TARGET_DIR/release/driftless" bench "$figure" --source "$source" --destination "$destination" \
        --runs "$RUNS" --thousands "$THOUSANDS" "$@"
}

on_both_logs() {
    bench "$@" --kafka "127.0.0.1:$KAFKA_PORT"
    bench "$@"
}

for figure in ${*:-drain copy sink latency idle log}; do
    case "$figure" in
    drain | copy | idle) on_both_logs "$figure" ;;
    sink)
        bench sink --guarantee exact --kafka "127.0.0.1:$KAFKA_PORT"
        bench sink --guarantee exclusive --kafka "127.0.0.1:$KAFKA_PORT"
        ;;
    latency)
        on_both_logs latency --writers 1
        on_both_logs latency --writers 2
        ;;
    log) cargo bench --bench log ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
