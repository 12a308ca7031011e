#!/usr/bin/env bash
# Copies the example connector and adds the two lines a connector costs outside its folder.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:-}
[[ "$name" =~ ^[a-z][a-z0-9_]{1,30}$ ]] || { echo "usage: make new-connector NAME=x  (lower case letters, digits, _)" >&2; exit 2; }
example=src/connectors/filesystem
[ -e "$example/mod.rs" ] || { echo "$example, the example to copy, is missing" >&2; exit 1; }
[ ! -e "src/connectors/$name" ] || { echo "src/connectors/$name exists already" >&2; exit 1; }

cp -r "$example" "src/connectors/$name"
find "src/connectors/$name" -type f -name '*.rs' -exec sed -i "s/\"filesystem\"/\"$name\"/g; s/connectors::filesystem/connectors::$name/g" {} +
printf '# %s\n\nSet-up, rights, where the ledger lies, types, limits, and what is *not verified*.\n' "$name" >"src/connectors/$name/README.md"
# Every group of lines in the list that names the example is repeated for the new one.
list=$(mktemp)
awk -v name="$name" '
    function flush() { copy = group; gsub(/filesystem/, name, copy); printf "%s%s", group, copy; group = "" }
    /filesystem/ { group = group $0 "\n"; next }
    { flush(); print }
    END { flush() }' src/connectors/mod.rs >"$list"
cat "$list" >src/connectors/mod.rs
rm "$list"
sed -i "0,/^filesystem *=/{/^filesystem *=/{p;s/^filesystem/$name/}}" Cargo.toml
echo "src/connectors/$name is a copy of $example: change it file by file, then 'make quick'"
