#!/usr/bin/env bash
# Runs the host tests in a Debian 12 guest with its own kernel (6.1) and cgroup 2 alone, under QEMU.
# Without KVM unless KEEL_GUEST_ACCEL says otherwise: a /dev/kvm that is there may not work.
#
#   tests/guest.sh [--zfs] ARCHIVE [NEXTEST-ARGUMENT …]
#   tests/guest.sh [--zfs] --program TEST-BINARY [ARGUMENT …]
#   tests/guest.sh [--zfs] --disk       only builds the disk
#
# With --program one test binary runs by itself, without a nextest: what it tries may need this kernel (pools of LVM). Host
# tests have the `keel` and `keel-shim` that lie above it, or in KEEL_GUEST_PROGRAMS.
# With --zfs it is a guest with ZFS (tests/guest-zfs.sh), where without arguments all runs that is about storage.
# ARCHIVE is what `cargo nextest archive` wrote. Without arguments everything runs that meets the kernel; what is only
# computed (the manifests, decisions, words of commands, the architecture) is the same everywhere and is left out.
# The guest's disk is built once (about two minutes) into .cache/guest, never mounted on the host, and changes are thrown
# away after each run. Prints the guest's output; exits with its code.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
name=guest packages='' suites=() modules='' finish=true
if [ "$1" = --zfs ]; then
  shift
  . tests/guest-zfs.sh
fi
program=
[ "$1" != --program ] || { program=yes; shift; }
archive=$(readlink -f -- "$1")
shift
cache=$PWD/.cache/$name
mkdir -p "$cache"

need() { command -v "$1" >/dev/null || { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null; }; }
need qemu-system-x86_64 qemu-system-x86
need mmdebstrap mmdebstrap
need cpio cpio
need busybox busybox-static
tests/debian.sh >/dev/null

build() {
  local tree=$cache/tree
  rm -rf "$tree" "$cache/disk.tar"
  mmdebstrap --quiet --variant=apt --include=linux-image-amd64,mount,busybox-static,iproute2,iputils-ping,nftables,dnsmasq-base,e2fsprogs,btrfs-progs,xfsprogs,lvm2,thin-provisioning-tools,qemu-utils,squashfs-tools,procps,kmod,util-linux,libseccomp2,tzdata,attr,netbase,git,conntrack,python3,curl,jq,unzip,ca-certificates,xz-utils,zstd,initramfs-tools-$packages \
    bookworm "$cache/disk.tar" "${suites[@]}"
  mkdir "$tree"
  tar -xpf "$cache/disk.tar" -C "$tree" --numeric-owner
  rm "$cache/disk.tar"
  "$finish" "$tree"

  cat >"$tree/usr/local/sbin/guest-init" <<'INIT'
#!/bin/bash
# PID 1 of the guest: a cgroup-2-only host that runs what is shared at /mnt/share/run and powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm /mnt/share
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs -o size=70% tmpfs /tmp
ln -sf /proc/self/fd /dev/fd
ip link set lo up
modprobe -a loop btrfs xfs dm_mod dm_thin_pool overlay veth bridge tun nf_tables 9p MODULES 2>/dev/null
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /mnt/share
bash /mnt/share/run >/mnt/share/output 2>&1 </dev/null
echo $? >/mnt/share/code
sync
echo o >/proc/sysrq-trigger
sleep 10
INIT
  sed -i "s/ MODULES / $modules /" "$tree/usr/local/sbin/guest-init"
  chmod 755 "$tree/usr/local/sbin/guest-init"

  local kernel early=$cache/early module
  kernel=$(basename "$tree"/usr/lib/modules/*)
  rm -rf "$early"
  mkdir -p "$early"/{bin,modules,proc,sys,dev,root}
  cp "$(command -v busybox)" "$early/bin/busybox"
  : >"$early/modules/order"
  for module in virtio_pci virtio_blk ext4 crc32c_generic; do
    chroot "$tree" modprobe -S "$kernel" --show-depends "$module" | awk '$1 == "insmod" {print $2}' | while read -r file; do
      [ -e "$early/modules/$(basename "$file")" ] || { cp "$tree$file" "$early/modules/" && basename "$file" >>"$early/modules/order"; }
    done
  done
  cat >"$early/init" <<'EARLY'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module 2>/dev/null; done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
mount -t ext4 /dev/vda /root
umount /proc /sys
mount -o move /dev /root/dev
exec switch_root /root /usr/local/sbin/guest-init
EARLY
  chmod 755 "$early/init"
  (cd "$early" && find . | cpio --quiet -o -H newc | gzip -1) >"$cache/early.gz"
  cp "$tree"/boot/vmlinuz-* "$cache/kernel"
  mke2fs -q -t ext4 -d "$tree" "$cache/disk.part" 6G >/dev/null
  rm -rf "$tree" "$early"
  mv "$cache/disk.part" "$cache/disk"
}
# The disk is built again when what it is built from changes.
recipe=$({ sed -n '/^build() {/,/^}/p' tests/guest.sh; [ "$name" = guest ] || cat "tests/$name.sh"; } | sha256sum)
[ "$(cat "$cache/recipe" 2>/dev/null)" = "$recipe" ] || rm -f "$cache/disk"
[ -e "$cache/disk" ] || build
echo "$recipe" >"$cache/recipe"
# Others that run something in it only want its disk.
case $archive in */--disk) exit ;; esac

share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
if [ -n "$program" ]; then
  strip --strip-debug -o "$share/program" "$archive"
  # The programs that host tests start, which lie above test binaries.
  for other in keel keel-shim; do
    at=${KEEL_GUEST_PROGRAMS:-$(dirname "$archive")/..}/$other
    [ ! -e "$at" ] || strip --strip-debug -o "$share/$other" "$at"
  done
else
  cp "$archive" "$share/archive.tar.zst"
  cp "$(command -v cargo-nextest)" "$share/cargo-nextest"
  cp .cache/debian.tar "$share/debian.tar"
fi
# What starts QEMU, its tools or its guest agent is left out: the guest has none of them but qemu-img and qemu-io.
kernel_tests='(package(runtime) - binary(machine) - test(/a_real_(qemu|guest_agent)|qemu_tests/)) | (package(reconciler) & binary(hosts) - test(/machine|cloud_init|schedules_make_snapshots|what_runs_is_stopped/))'
[ "$name" = guest ] || kernel_tests=$only
# The workspace's own files that tests read (examples, goldens); never the target folder.
git ls-files -z | tar --null -T - -cf "$share/workspace.tar"
{
  echo 'mkdir -p /var/tmp/workspace && cd /var/tmp/workspace && tar -xf /mnt/share/workspace.tar'
  echo 'mkdir -p .cache && ln -s /mnt/share/debian.tar .cache/debian.tar'
  # What systemd and udev make on a whole host; nft reads /dev/stdin.
  echo 'for n in 0:stdin 1:stdout 2:stderr; do ln -sfn /proc/self/fd/${n%:*} /dev/${n#*:}; done'
  echo 'echo "127.0.0.1 localhost" >/etc/hosts'
  # This kernel cannot shift the owners of a tmpfs (6.3), so the folders of tests are on the disk; a socket in one of them has
  # a path of 107 letters at the most.
  echo 'mkdir -p /t'
  echo 'export NEXTEST_NO_TESTS=fail KEEL_TEST_GUEST=1 TMPDIR=/t'
  [ -z "${KEEL_TEST_DRIVER:-}" ] || printf 'export KEEL_TEST_DRIVER=%q\n' "$KEEL_TEST_DRIVER"
  if [ -n "$program" ]; then
    echo 'cp /mnt/share/program /mnt/share/keel* /var/tmp 2>/dev/null; export NEXTEST_BIN_EXE_keel=/var/tmp/keel'
    printf '/var/tmp/program --test-threads=1'
  else
    printf '/mnt/share/cargo-nextest nextest run --profile guest --archive-file /mnt/share/archive.tar.zst --workspace-remap /var/tmp/workspace --extract-to /var/tmp --extract-overwrite --color never'
    case " $* " in *' -E '*) ;; *) set -- "$@" -E "$kernel_tests" ;; esac
  fi
  printf ' %q' "$@"
  echo
} >"$share/run"

# Emulated by several threads the guest's processors lock up now and then ("soft lockup" on its console): they take turns.
timeout "${KEEL_GUEST_TIMEOUT:-3600}" qemu-system-x86_64 -nodefaults -no-user-config -machine q35 -accel "${KEEL_GUEST_ACCEL:-tcg,thread=single,tb-size=512}" -cpu max \
  -m 3072 -smp 2 -kernel "$cache/kernel" -initrd "$cache/early.gz" \
  -append 'console=ttyS0 quiet no_timer_check panic=-1' \
  -drive if=none,id=disk,file="$cache/disk",format=raw,cache=unsafe,snapshot=on -device virtio-blk-pci,drive=disk \
  -virtfs local,path="$share",mount_tag=share,security_model=none \
  -display none -serial file:"$cache/console" -no-reboot || true
[ -e "$share/output" ] && cat "$share/output"
[ -e "$share/code" ] || { echo "the guest did not finish; its console:" >&2; tail -20 "$cache/console" >&2; exit 1; }
exit "$(cat "$share/code")"
