#!/usr/bin/env bash
# Generates a client from schemas/openapi.json (openapi-typescript), checks with the compiler of TypeScript that a program
# fits it, and lets it speak with a real controller, in mount, network and process namespaces of its own, as root.
#
#   tests/client.sh
#
# KEEL_PROGRAMS is the folder with keel and keel-shim; absent: target/debug, built where it is not there.
set -euo pipefail
here=$(readlink -f "$0")
cd "$(dirname "$here")/.."
if [ "$(id -u)" != 0 ]; then exec sudo --preserve-env=PATH,HOME,KEEL_PROGRAMS "$here" "$@"; fi
. tests/needs.sh
needs_packages git busybox-static dnsmasq-base nftables iproute2
needs_node tests/client .cache/client
programs=${KEEL_PROGRAMS:-target/debug}
[ -n "${KEEL_PROGRAMS:-}" ] || [ -x $programs/keel ] || cargo build --locked --workspace --bins
made=.cache/client/made
rm -rf $made && mkdir -p $made
.cache/client/node_modules/.bin/openapi-typescript schemas/openapi.json -o $made/api.ts >/dev/null
cp tests/client/client.ts $made/
echo '{ "type": "module" }' >$made/package.json
.cache/client/node_modules/.bin/tsc --strict --noUncheckedIndexedAccess --target es2022 --module nodenext \
  --moduleResolution nodenext --skipLibCheck --typeRoots .cache/client/node_modules/@types $made/client.ts
world=$(mktemp -d)
trap 'rm -rf --one-file-system "$world"' EXIT
env KEEL_PROGRAMS="$(readlink -f "$programs")" CLIENT="$(readlink -f $made)" WORLD="$world" \
  unshare -m -n -p --fork --kill-child --mount-proc --propagation private bash -c '
    mkdir -p /run/keel && mount -t tmpfs tmpfs /run/keel && ip link set lo up && exec node tests/client/client.mjs'
echo "the generated client is understood"
