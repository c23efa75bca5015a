# Sourced by the scripts that build images of machines.
# shellcheck shell=bash

# copy_modules TREE KERNEL FOLDER NAME … : copies modules of a kernel, out of an unpacked Debian, with all that they depend
# on, and writes the order in which they are loaded to FOLDER/order. What the kernel has built in or lacks is left out.
copy_modules() {
  local tree=$1 kernel=$2 folder=$3 name file
  shift 3
  mkdir -p "$folder"
  [ -s "$tree/lib/modules/$kernel/modules.dep" ] || chroot "$tree" depmod "$kernel"
  for name in "$@"; do
    chroot "$tree" modprobe -S "$kernel" --show-depends "$name" 2>/dev/null </dev/null | awk '$1 == "insmod" {print $2}' || true
  done | awk '!seen[$0]++' | while read -r file; do
    cp "$tree$file" "$folder/"
    basename "$file"
  done >"$folder/order"
  [ -s "$folder/order" ]
}

# pack FOLDER : an archive of a folder for a kernel's initramfs. Not compressed: unpacking takes an emulated processor longer.
pack() { (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0); }
