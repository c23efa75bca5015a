#!/usr/bin/env bash
# Measures whole commands against the targets of speed and memory, and against crun in the same run.
#
#   tests/bench.sh                  everything: builds release, some minutes
#   tests/bench.sh --rounds 10      fewer rounds than 30
#   tests/bench.sh --row start      only rows whose name contains a word; may be given more than once
#
# KEEL_BENCH_PROGRAMS names a folder with `keel` and `keel-shim` that are built already.
# Runs as root in mount, network and UTS namespaces of its own; state is on the disk of /var/tmp (KEEL_BENCH_SCRATCH),
# since syncs belong to what is measured; both sides go before other work of the machine (nice -20).
# tests/benches/README.md says what each row does and how the peer is made comparable.
set -euo pipefail
here=$(readlink -f "$0")
cd "$(dirname "$here")/.."
if [ "$(id -u)" != 0 ]; then
  exec sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,CARGO_TARGET_DIR,KEEL_BENCH_PROGRAMS "$here" "$@"
fi
. tests/needs.sh
needs_packages gcc libc6-dev pkg-config libseccomp-dev busybox-static dnsmasq-base nftables iproute2 util-linux \
  python3-minimal python3 crun zstd btrfs-progs
needs_editors
# Rows of machines boot the tiny one; what is there already is not built again.
tests/machine.sh tiny >/dev/null
target=$(readlink -m "${CARGO_TARGET_DIR:-target}")
programs=${KEEL_BENCH_PROGRAMS:-}
if [ -z "$programs" ]; then
  needs_cargo
  cargo build --release --locked --quiet --bin keel --bin keel-shim
  programs=$target/release
fi
scratch=${KEEL_BENCH_SCRATCH:-/var/tmp}
# shellcheck disable=SC2016
exec setsid --wait unshare --mount --net --uts --propagation private sh -c '
set -e
keep=$(mktemp -d)
mount -t tmpfs tmpfs "$keep"
mkdir "$keep/cgroup"
mount --rbind /sys/fs/cgroup "$keep/cgroup"
mount -t sysfs sysfs /sys
mount --move "$keep/cgroup" /sys/fs/cgroup
umount "$keep"
rmdir "$keep"
mount -t tmpfs tmpfs /run
ip link set lo up
echo -20 2>/dev/null >/proc/self/autogroup || true
exec nice -n -20 "$@"' sh python3 -B tests/benches/main.py --programs "$programs" --scratch "$scratch" "$@"
