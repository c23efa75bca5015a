#!/usr/bin/env bash
# Two containers on one bridge, from nothing: installs what is missing, builds keel, applies examples/quickstart/, and
# shows what happens when somebody changes the world by hand. Leaves it all running and says how to remove it.
#
#   ./examples/quickstart.sh                 as root, or as somebody who may sudo
#   ./examples/quickstart.sh --build-only    only installs and builds
#
# KEEL_STATE_DIR chooses another state folder than /var/lib/keel; KEEL_PROGRAMS is a folder with keel and keel-shim that
# are built already.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() {
  local shown=("$@")
  [ "$1" != as_root ] || shown=("${shown[@]:1}")
  printf '$ %s\n' "${shown[*]}"
  "$@"
}
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo --preserve-env=KEEL_STATE_DIR "$@"; fi; }

if [ -n "${KEEL_PROGRAMS:-}" ]; then
  keel=$(readlink -f "$KEEL_PROGRAMS/keel")
else
  . tests/needs.sh

  step "What is needed"
  needs_packages gcc libc6-dev pkg-config libseccomp-dev busybox-static dnsmasq-base nftables iproute2 e2fsprogs
  needs_cargo

  step "Build"
  cargo build --release --locked --bin keel --bin keel-shim
  target=${CARGO_TARGET_DIR:-target}
  keel=$(readlink -f "$target/release/keel")
fi
"$keel" version
[ "${1:-}" = --build-only ] && exit 0

step "What this host can do"
as_root "$keel" doctor || true

step "Apply examples/quickstart"
as_root mkdir -p /srv/keel-quickstart
echo 'hello from a folder of the host' | as_root tee /srv/keel-quickstart/index.html >/dev/null
run as_root "$keel" plan examples/quickstart
run as_root "$keel" apply --yes examples/quickstart
run as_root "$keel" get

step "They reach each other"
run as_root "$keel" exec client -- ping -c 2 -W 2 10.87.0.10
run as_root "$keel" exec web -- httpd -h /srv/www
run as_root "$keel" exec client -- wget -qO- http://10.87.0.10/

step "Somebody changes a limit behind keel's back"
# Where the limit of the container's memory lives, on cgroup 2 or on the older hierarchy.
limit() {
  local cgroup file
  cgroup=$(as_root "$keel" get instance/web -o json | sed -n 's|^ *"cgroup": "\(/[^"]*\)".*|\1|p' | head -n 1)
  for file in "/sys/fs/cgroup$cgroup/memory.max" "/sys/fs/cgroup/memory$cgroup/memory.limit_in_bytes"; do
    if [ -e "$file" ]; then
      echo "$file"
      return
    fi
  done
  echo "no memory limit found for $cgroup" >&2
  return 1
}
file=$(limit)
echo "\$ echo 128M > $file"
as_root sh -c "echo 134217728 > '$file'"

step "keel drift says what"
code=0
run as_root "$keel" drift --detailed-exitcode examples/quickstart || code=$?
[ "$code" = 2 ] || { echo "expected the exit code 2 of a difference, got $code" >&2; exit 1; }

step "keel apply puts it back"
run as_root "$keel" apply --yes examples/quickstart
run as_root "$keel" plan --detailed-exitcode examples/quickstart
echo "the limit is $(as_root cat "$file") again"

step "Done"
cat <<TEXT
It is all running. Look around:

  sudo $keel get
  sudo $keel exec web -- sh
  sudo $keel describe instance web

Remove it:

  sudo $keel destroy --yes --no-trash examples/quickstart && sudo rm -r /srv/keel-quickstart
TEXT
