#!/usr/bin/env bash
# A controller lives a hard life for some minutes, in namespaces of its own: commits that are good, broken, reverted and
# pushed by force, drift in limits, links, tables and files, kills of itself, of companions, of instances and of dnsmasq.
# At the end all is as git says, and nothing has leaked: no memory, descriptors, processes, mounts or links.
#
#   tests/soak.sh [MINUTES [SEED]]     10 minutes where nobody says; the seed is told, so that a life can be lived again
#
# KEEL_PROGRAMS is a folder with keel and keel-shim; absent, target/debug is built.
set -euo pipefail
here=$(readlink -f "$0")
cd "$(dirname "$here")/.."
if [ "$(id -u)" != 0 ]; then
  exec sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,CARGO_TARGET_DIR,KEEL_PROGRAMS "$here" "$@"
fi
minutes=${1:-10} seed=${2:-$$}
. tests/needs.sh
needs_packages busybox-static dnsmasq-base nftables iproute2 e2fsprogs git python3 util-linux
if [ -z "${KEEL_PROGRAMS:-}" ]; then
  needs_cargo
  cargo build --locked --workspace --bins
  KEEL_PROGRAMS=${CARGO_TARGET_DIR:-target}/debug
fi
programs=$(readlink -f "$KEEL_PROGRAMS")
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
unshare --mount --net --uts --pid --fork --kill-child --mount-proc --propagation private \
  sh -c 'python3 "$@"; exit $?' sh tests/soak.py "$programs" "$work" "$minutes" "$seed"
