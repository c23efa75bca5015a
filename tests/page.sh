#!/usr/bin/env bash
# Looks at the page of a controller with Debian's Chromium, as a person does: after a push, after drift, after an apply that
# failed, on a telephone, with the keyboard alone; and measures it with a thousand objects. It runs in mount, network and
# process namespaces of its own, as root, on a folder that is removed at the end. What is missing is installed, Playwright
# below .cache.
#
#   tests/page.sh [FOLDER]    where pictures go; absent: target/page
#
# KEEL_PROGRAMS is the folder with keel and keel-shim; absent: target/debug, built where it is not there. How long the page
# may take is what is promised times KEEL_SLACK (8; 1 is for a calm machine and programs of a release).
set -euo pipefail
here=$(readlink -f "$0")
cd "$(dirname "$here")/.."
if [ "$(id -u)" != 0 ]; then
  exec sudo --preserve-env=PATH,HOME,KEEL_PROGRAMS,KEEL_SLACK "$here" "$@"
fi
. tests/needs.sh
needs_packages chromium git busybox-static dnsmasq-base nftables iproute2
to=.cache/page
needs_node tests/page $to
programs=${KEEL_PROGRAMS:-target/debug}
[ -n "${KEEL_PROGRAMS:-}" ] || [ -x $programs/keel ] || cargo build --locked --workspace --bins
pictures=$(realpath -m "${1:-target/page}")
mkdir -p "$pictures"
world=$(mktemp -d)
trap 'rm -rf --one-file-system "$world"' EXIT
env KEEL_PROGRAMS="$(readlink -f "$programs")" PLAYWRIGHT="$PWD/$to/" WORLD="$world" PICTURES="$pictures" \
  unshare -m -n -p --fork --kill-child --mount-proc --propagation private bash -c '
    mkdir -p /run/keel && mount -t tmpfs tmpfs /run/keel && ip link set lo up && exec node tests/page/page.mjs'
echo "pictures are in $pictures"
