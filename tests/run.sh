#!/usr/bin/env bash
# Installs what is missing and runs all checks and tests; the last line says how it went.
#
#   tests/run.sh          formatting, lints, tests (host tests as root), tests with a server of Incus, pools of LVM in a guest,
#                         documentation tests, dependencies
#   tests/run.sh --all    also what is slow: the slow tests, and the host tests in a guest with cgroup 2 alone
#
# Host tests run in mount, network and UTS namespaces of their own and need root: started by somebody else, the script
# goes on under sudo.
set -euo pipefail
here=$(readlink -f "$0")
cd "$(dirname "$here")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} INSTA_UPDATE=no
if [ "$(id -u)" != 0 ]; then
  exec sudo --preserve-env=PATH,HOME,CI,CARGO_HOME,RUSTUP_HOME,CARGO_TARGET_DIR "$here" "$@"
fi
all=
case "${1:-}" in
  --all) all=yes ;;
  '') ;;
  *) echo "usage: tests/run.sh [--all]" >&2; exit 64 ;;
esac

began=$SECONDS
failed=()
step() {
  local name=$1 at=$SECONDS
  shift
  printf '== %s\n' "$name"
  if "$@" </dev/null; then
    printf '== %s: passed in %d s\n' "$name" $((SECONDS - at))
  else
    printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - at))
    failed+=("$name")
  fi
}

# Begins something that goes on beside what follows, until `ended NAME` waits for it, tells what it said and has its code.
declare -A begun
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
beside() {
  local name=$1
  shift
  "$@" >"$logs/$name" 2>&1 </dev/null &
  begun[$name]=$!
}
ended() {
  local code=0
  wait "${begun[$1]}" || code=$?
  cat "$logs/$1"
  return $code
}

. tests/needs.sh
needs_packages gcc libc6-dev pkg-config libseccomp-dev busybox-static dnsmasq-base nftables iproute2 iputils-ping \
  util-linux squashfs-tools e2fsprogs btrfs-progs tzdata xz-utils zstd git procps python3 mmdebstrap cpio ca-certificates curl jq unzip \
  qemu-system-x86 qemu-utils qemu-guest-agent ovmf swtpm binutils openssh-client gpg gpg-agent gpgv
needs_cargo
if ! command -v cargo-nextest >/dev/null; then
  echo "installing cargo-nextest (this takes some minutes)"
  cargo install --locked --quiet cargo-nextest
fi

step "what editors need" needs_editors
# What is built once goes beside what is compiled.
images() { tests/machine.sh && tests/guest.sh --disk; }
beside images nice -n 5 bash -c "$(declare -f images); images"
step formatting cargo fmt --all --check
# Most of what host tests do is to wait: for a guest, a timeout, a process that ends.
threads=$(($(nproc) * 3 / 2))
step lints cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
# This kernel may have no device mapper; the guest's has. The rest of what every driver does is for --all.
pools_of_lvm() {
  local binary out=
  binary=$(cargo nextest list --workspace --locked --list-type binaries-only --message-format json 2>/dev/null |
    jq -r '."rust-binaries".runtime."binary-path"') &&
    out=$(KEEL_GUEST_TIMEOUT=1500 KEEL_TEST_DRIVER=lvm tests/guest.sh --program "$binary" \
      conformance_lvm::snapshots conformance_lvm::what_a_crash conformance_lvm::a_mount conformance_lvm::of_a_group \
      conformance::the_trash conformance::sizes_hold 2>&1)
  local code=$?
  printf '%s\n' "$out" | grep -E '^test .* (ok|FAILED|ignored)$|panicked|^(left|right)|^test result: (FAILED|ok)' || true
  [ $code = 0 ] && [ "$(printf '%s\n' "$out" | grep -c '^test result: ok. 6 passed')" = 1 ]
}
step "images of machines" ended images
step "building tests" cargo nextest run --workspace --locked --no-run --cargo-quiet
# The guest has one emulated processor for itself: it goes beside the other tests, and after them where both want one.
beside lvm nice -n 10 bash -c "$(declare -f pools_of_lvm); pools_of_lvm"
if [ -n "$all" ]; then
  # Host tests kill at every point, not only at some.
  export KEEL_TEST_ALL=yes
  step tests cargo nextest run --workspace --locked --no-fail-fast --test-threads $threads --ignore-default-filter \
    -E 'not (binary(incus) + binary(server))'
else
  step tests cargo nextest run --workspace --locked --no-fail-fast --test-threads $threads
fi
# One at a time: they share its pools, and one that looks while another deletes sees them half gone.
step "tests with a server of Incus" tests/incus.sh cargo nextest run --workspace --locked --no-fail-fast --test-threads 1 \
  --ignore-default-filter -E '(binary(incus) - test(/^cluster::/)) + binary(server)'
step "tests with a cluster of Incus" tests/incus.sh --cluster cargo nextest run --workspace --locked \
  --ignore-default-filter -E 'binary(incus) & test(/^cluster::/)'
step "pools of LVM in a guest" ended lvm
step "documentation tests" cargo test --workspace --doc --locked --quiet
if command -v cargo-deny >/dev/null; then
  step dependencies cargo deny --locked check bans licenses sources
else
  echo "== dependencies: not checked, cargo-deny is not installed"
fi
guest() {
  local archive
  archive=$(mktemp -d)
  cargo nextest archive --workspace --locked --archive-file "$archive/tests.tar.zst" &&
    tests/guest.sh "$archive/tests.tar.zst" --no-fail-fast
  local code=$?
  rm -r "$archive"
  return $code
}
[ -n "$all" ] && step "host tests in a guest with cgroup 2 alone" guest

if [ ${#failed[@]} = 0 ]; then
  echo "ALL PASSED in $((SECONDS - began)) s"
else
  echo "FAILED: ${failed[*]} ($((SECONDS - began)) s)"
  exit 1
fi
