#!/usr/bin/env bash
# Prints the path of a tarball with a small Debian 12 that has systemd as its init; builds it once (under a minute, from
# Debian's mirror) into .cache.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
tar=$PWD/.cache/debian.tar
mkdir -p .cache
# Tests may ask for it at the same time.
exec 9>.cache/debian.lock
flock 9
if [ ! -s "$tar" ]; then
  command -v mmdebstrap >/dev/null || { . tests/needs.sh && needs_packages mmdebstrap; } >&2
  mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2,iputils-ping,procps,netbase \
    --customize-hook='chroot "$1" systemctl enable --quiet systemd-networkd' bookworm "${tar%.tar}.part.tar" >&2
  mv "${tar%.tar}.part.tar" "$tar"
fi
echo "$tar"
