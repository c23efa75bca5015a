#!/usr/bin/env bash
# Builds the tiny guests into FOLDER/done, with FOLDER as its room to work; see tests/machine.sh.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
. ./modules.sh
work=$1 tree=$1/tree
# Unpacked alone, not configured; busybox, the kernels and the agent are of one Debian, whatever the host is.
mmdebstrap --quiet --variant=extract \
  --include=linux-image-cloud-amd64,linux-image-amd64,busybox-static,kmod,qemu-guest-agent,initramfs-tools- bookworm "$tree"

mapfile -t modules < <(grep -v '^#' tiny/modules)
for kernel in "$tree"/lib/modules/*; do
  kernel=$(basename "$kernel")
  case $kernel in *-cloud-*) suffix= ;; *) suffix=-usb ;; esac
  root=$work/root$suffix
  cp -a tiny/root "$root"
  mkdir -p "$root"/{bin,sbin,proc,sys,dev}
  cp "$tree/bin/busybox" "$root/bin/busybox"
  copy_modules "$tree" "$kernel" "$root/modules" "${modules[@]}"
  pack "$root" >"$work/done/initrd$suffix"
  cp "$tree/boot/vmlinuz-$kernel" "$work/done/kernel$suffix"
done

# The agent with its libraries, as a second archive behind the first.
agent=$work/agent
for file in /usr/sbin/qemu-ga $(chroot "$tree" /lib64/ld-linux-x86-64.so.2 --list /usr/sbin/qemu-ga | grep -o '/[^ ]*'); do
  mkdir -p "$agent$(dirname "$file")"
  cp -L "$tree$file" "$agent$file"
done
pack "$agent" | cat "$work/done/initrd" - >"$work/done/initrd-agent"
