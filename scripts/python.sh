#!/usr/bin/env bash
# Runs a Python program with the packages it needs, which are installed once into the user's cache.
#
#   scripts/python.sh requirements.txt program.py [argument]...
#
# Set to change: DRIFTLESS_CACHE, and pip's own settings (PIP_INDEX_URL).
set -euo pipefail

die() { printf '%s\n' "python: $*" >&2; exit 3; }
[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
requirements=$1
shift

command -v python3 >/dev/null || die "python3 is missing: run scripts/setup.sh, or install Python 3.10 or newer"
python3 -c 'import ensurepip, venv' 2>/dev/null || die "Python's venv is missing: run scripts/setup.sh, or install python3-venv"

# Another Python or other packages are another environment; one that is there is complete.
name=$({ python3 -VV && cat "$requirements"; } | sha256sum | cut -c1-16)
cache="${DRIFTLESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftless}/python"
mkdir -p "$cache"
exec 9>"$cache/$name.lock"
flock 9
if [ ! -e "$cache/$name/complete" ]; then
    rm -rf "${cache:?}/$name"
    python3 -m venv "$cache/$name" >&2 || die "python3 -m venv failed"
    "$cache/$name/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2 ||
        die "pip could not install $(paste -sd' ' "$requirements"): it needs a package index once; set PIP_INDEX_URL to one that can be reached"
    touch "$cache/$name/complete"
fi
exec 9>&-
exec "$cache/$name/bin/python" "$@"
