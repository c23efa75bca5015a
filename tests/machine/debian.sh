#!/usr/bin/env bash
# Builds a whole Debian into FOLDER/done, with FOLDER as its room to work; see tests/machine.sh.
#
# Its disk has a GPT with a BIOS boot partition, an EFI system partition (label EFI; shim, GRUB, kernel) and, last so that
# it can grow, the root file system (label root). Root has no password.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
. ./modules.sh
work=$1 tree=$1/tree grub=$1/grub disk=$1/disk
without=()
for folder in doc man info locale i18n lintian; do without+=(--dpkgopt="path-exclude=/usr/share/$folder/*"); done
mmdebstrap --quiet --variant=minbase "${without[@]}" \
  --include=linux-image-cloud-amd64,systemd,systemd-sysv,udev,dbus,libpam-systemd,kmod,iproute2,iputils-ping,procps,netbase,e2fsprogs,cloud-init,cloud-guest-utils,qemu-guest-agent,busybox-static \
  bookworm "$tree"
# What boots is unpacked alone: the guest does not change it.
mmdebstrap --quiet --variant=extract --include=shim-signed,grub-efi-amd64-signed,grub-pc-bin,grub-common bookworm "$grub"

# The guest's own files; each copy of the image becomes a machine of its own.
cp -a debian/root/. "$tree/"
chown -R 0:0 "$tree/etc/cloud/cloud.cfg.d" "$tree/etc/systemd/network" "$tree/etc/udev/rules.d" "$tree"/etc/{fstab,hostname,hosts}
: >"$tree/etc/machine-id"
rm -f "$tree/var/lib/dbus/machine-id" "$tree"/boot/initrd.img-* "$tree/etc/resolv.conf"
printf 'nameserver 127.0.0.1\n' >"$tree/etc/resolv.conf"
chroot "$tree" passwd --quiet --delete root
chroot "$tree" systemctl enable --quiet systemd-networkd serial-getty@ttyS0.service
# Slow without a processor of its own, and nothing that tests look at.
chroot "$tree" systemctl mask --quiet systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
  dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pstore.service systemd-binfmt.service \
  proc-sys-fs-binfmt_misc.automount systemd-update-utmp.service systemd-update-utmp-runlevel.service \
  sys-kernel-debug.mount sys-kernel-tracing.mount systemd-repart.service systemd-firstboot.service

kernel=$(basename "$tree"/lib/modules/*)
early=$work/early
cp -a debian/early "$early"
mkdir -p "$early"/{bin,proc,sys,dev,root}
cp "$tree/bin/busybox" "$early/bin/busybox"
copy_modules "$tree" "$kernel" "$early/modules" virtio_pci virtio_blk virtio_scsi sd_mod nvme ext4
pack "$early" >"$work/initrd"

# In sectors of 512 bytes; behind the root file system the table's copy.
bios=2048 efi=4096 efi_size=98304 root=102400 size=$((2 * 1024 * 1024))
root_size=$((size - root - 2048))
truncate -s $((size * 512)) "$disk"
sfdisk --quiet "$disk" <<TABLE
label: gpt
start=$bios, size=$((efi - bios)), type=21686148-6449-6E6F-744E-656564454649
start=$efi, size=$efi_size, type=uefi
start=$root, size=$root_size, type=linux, name=root
TABLE
mke2fs -q -t ext4 -L root -E offset=$((root * 512)) -d "$tree" "$disk" $((root_size / 2))k

truncate -s $((efi_size * 512)) "$work/efi"
mkfs.vfat -n EFI "$work/efi" >/dev/null
to() { mcopy -i "$work/efi" "$1" "::$2"; }
mmd -i "$work/efi" ::EFI ::EFI/BOOT ::EFI/debian
to "$grub/usr/lib/shim/shimx64.efi.signed" EFI/BOOT/BOOTX64.EFI
to "$grub/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" EFI/BOOT/grubx64.efi
to debian/grub.cfg EFI/debian/grub.cfg
to "$tree/boot/vmlinuz-$kernel" vmlinuz
to "$work/initrd" initrd
dd if="$work/efi" of="$disk" bs=512 seek=$efi conv=notrunc,sparse status=none

# For BIOS: GRUB's first sector says where the rest begins, and so does the first sector of the rest.
chroot "$grub" grub-mkimage -O i386-pc -p '(,gpt2)/EFI/debian' -o /core.img biosdisk part_gpt fat normal linux echo
number() { local n=$1 i; for i in 1 2 3 4 5 6 7 8; do printf "\\x$(printf %02x $((n & 255)))"; n=$((n >> 8)); done; }
write() { dd of="$disk" bs=1 seek="$1" conv=notrunc status=none; }
head -c 440 "$grub/usr/lib/grub/i386-pc/boot.img" | write 0
number $bios | write $((0x5c))
dd if="$grub/core.img" of="$disk" bs=512 seek=$bios conv=notrunc status=none
number $((bios + 1)) | write $((bios * 512 + 0x1f4))

qemu-img convert -f raw -O qcow2 "$disk" "$work/done/debian.qcow2"
