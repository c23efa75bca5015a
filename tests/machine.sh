#!/usr/bin/env bash
# Builds the images with which virtual machines are tested into .cache/machine, once, and again when what they are built
# from changes. Prints the folder.
#
#   tests/machine.sh [tiny | debian] …     all when none is named
#
# tiny    kernel, initrd            Debian's cloud kernel and a busybox that answers on the serial port (machine/tiny.sh)
#         initrd-agent              the same with qemu-guest-agent
#         kernel-usb, initrd-usb    the same with Debian's generic kernel, which knows USB and AHCI
# debian  debian.qcow2              a whole Debian with systemd, cloud-init and qemu-guest-agent, for UEFI with or without
#                                   secure boot and for BIOS (machine/debian.sh)
#
# Needs root (mmdebstrap, chroot) and Debian's mirror; no loop device, nothing mounted on the host.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
cache=$PWD/.cache/machine
mkdir -p "$cache"
[ $# -gt 0 ] || set -- tiny debian
for image in "$@"; do
  case $image in
    tiny | debian) ;;
    *) echo "usage: tests/machine.sh [tiny | debian] …" >&2; exit 64 ;;
  esac
  recipe=$(find "tests/machine/$image.sh" tests/machine/modules.sh "tests/machine/$image" \( -type f -o -type l \) -print0 |
    LC_ALL=C sort -z | while IFS= read -r -d '' file; do
      printf '%s %s\n' "$file" "$(readlink "$file")"
      [ -L "$file" ] || cat "$file"
    done | sha256sum)
  # Tests may ask for it at the same time.
  exec 9>"$cache/$image.lock"
  flock 9
  if [ "$(cat "$cache/$image.recipe" 2>/dev/null)" != "$recipe" ]; then
    echo "building the $image images of machines" >&2
    (. tests/needs.sh && needs_packages mmdebstrap cpio e2fsprogs fdisk dosfstools mtools qemu-utils) >&2
    # Files appear under their names when they are whole.
    part=$(mktemp -d "$cache/$image.part.XXXXXX")
    trap 'rm -rf "$part"' EXIT
    mkdir "$part/done"
    "tests/machine/$image.sh" "$part" >&2
    chmod 0444 "$part"/done/*
    mv "$part"/done/* "$cache/"
    rm -rf "$part"
    echo "$recipe" >"$cache/$image.recipe"
  fi
  exec 9>&-
done
echo "$cache"
