#!/usr/bin/env bash
# Gives a PCI device of a host to a machine for real: in the Debian guest of tests/guest.sh, with an emulated IOMMU and a
# network card behind it. Few hosts of tests have either. Some five minutes without KVM.
#
#   tests/vfio.sh [FOLDER]      the folder of `keel` and `keel-shim`; target/debug where none is named
#
# Refused while the guest's driver has the card, with commands that are then run as they are told; started after that, as an
# unprivileged user; nothing left to do and no drift; removed. Prints what was done; its code says whether all of it held.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
programs=$(readlink -f "${1:-target/debug}")
tests/guest.sh --disk
cache=$PWD/.cache/guest
share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
for program in keel keel-shim; do strip -g -o "$share/$program" "$programs/$program"; done
mkdir "$share/source"
cat >"$share/source/keel.yaml" <<'YAML'
apiVersion: evenkeel/v1
kind: Source
name: vfio
YAML
cat >"$share/source/vm.yaml" <<'YAML'
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
spec: { driver: dir }
lifecycle: { prune: delete }
---
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: vm }
spec:
  type: virtual-machine
  state: Running
  boot: { mode: bios }
  limits: { memory: 64MiB, memoryHotplug: false }
  devices:
    root: { type: disk, path: /, pool: fast, size: 16MiB }
    net: { type: pci, address: "ADDRESS" }
YAML
cat >"$share/run" <<'GUEST'
set -euxo pipefail
modprobe -a vfio-pci vfio_iommu_type1 e1000e
# Of the modules that the commands load all are there: QEMU and what it needs come from the host's programs.
mkdir /programs && mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,ro,cache=loose programs /programs
mount --bind /programs /usr
ldconfig 2>/dev/null || true
cp -r /mnt/share/source /root/source
mkdir /var/keel && cp /mnt/share/keel /mnt/share/keel-shim /var/keel/
export PATH=/var/keel:$PATH KEEL_STATE_DIR=/var/keel/state NO_COLOR=1
for device in /sys/bus/pci/devices/*; do
  [ "$(cat "$device/device")" != 0x10d3 ] || card=$device
done
sed -i "s/ADDRESS/$(basename "$card")/" /root/source/vm.yaml
code=0
keel plan /root/source >/root/told 2>&1 || code=$?
cat /root/told
[ $code = 3 ]
commands=$(sed -n 's/.*by its driver e1000e: //p' /root/told)
[ -n "$commands" ]
# The module is there already.
bash -ec "${commands#modprobe vfio-pci; }"
keel apply --yes /root/source
qemu=$(pgrep -f qemu-system | head -1)
grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' "/proc/$qemu/status"
grep -q '^CapEff:.0*$' "/proc/$qemu/status"
ls -l "/proc/$qemu/fd" | grep -q 'vfio-device'
keel plan --detailed-exitcode /root/source
keel drift --detailed-exitcode /root/source
keel destroy --yes /root/source
GUEST
timeout "${KEEL_GUEST_TIMEOUT:-1800}" qemu-system-x86_64 -nodefaults -no-user-config -machine q35 \
  -accel tcg,thread=single,tb-size=512 -cpu max -m 1024 -smp 1 -device intel-iommu,intremap=on,caching-mode=on \
  -kernel "$cache/kernel" -initrd "$cache/early.gz" \
  -append 'console=ttyS0 quiet no_timer_check panic=-1 intel_iommu=on' \
  -drive if=none,id=disk,file="$cache/disk",format=raw,cache=unsafe,snapshot=on -device virtio-blk-pci,drive=disk \
  -device e1000e,addr=0x10 \
  -virtfs local,path="$share",mount_tag=share,security_model=none \
  -virtfs local,path=/usr,mount_tag=programs,security_model=none,readonly=on \
  -display none -serial file:"$cache/console-vfio" -no-reboot || true
[ ! -e "$share/output" ] || cat "$share/output"
[ -e "$share/code" ] || { echo "the guest did not finish" >&2; exit 1; }
exit "$(cat "$share/code")"
