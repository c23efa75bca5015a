# Read by tests/guest.sh --zfs: a guest with ZFS, which Debian has in contrib and as source alone. Its modules are built once for
# the guest's kernel, in a folder of their own on this machine (ten minutes on two processors), and kept below .cache/zfs.
# That of Debian 12 is too old for containers
# (runtime/src/native/storage/zfs/module.rs), so it is that of its backports.
# shellcheck shell=bash disable=SC2034
name=guest-zfs
# Whence this machine has its own packages; the archive that has contrib and backports is the one without updates of security.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -1)
[ -n "$mirror" ] || { echo "apt knows no archive of Debian" >&2; exit 1; }
packages=,zfsutils-linux/bookworm-backports,libzfs6linux/bookworm-backports,libzpool6linux/bookworm-backports,libnvpair3linux/bookworm-backports,libuutil3linux/bookworm-backports
suites=("deb $mirror bookworm main contrib" "deb $mirror bookworm-backports main contrib")
modules=zfs
: "${KEEL_TEST_DRIVER:=zfs}"
only='(package(runtime) & test(/storage::/)) | (package(reconciler) & binary(hosts) & test(/zfs/))'

# Puts the modules into the guest's tree.
zfs_modules() {
  local tree=$1 kernel version kept
  kernel=$(basename "$tree"/usr/lib/modules/*)
  version=$(dpkg-query --admindir="$tree/var/lib/dpkg" -W -f '${Version}' zfsutils-linux)
  kept=$PWD/.cache/zfs/$kernel+$version
  [ -e "$kept/zfs.ko" ] || zfs_build "$kernel" "$version" "$kept"
  mkdir "$tree/usr/lib/modules/$kernel/extra"
  cp "$kept"/*.ko "$tree/usr/lib/modules/$kernel/extra/"
  depmod -b "$tree/usr" "$kernel" 2>/dev/null || chroot "$tree" depmod "$kernel"
}

zfs_build() {
  local kernel=$1 version=$2 kept=$3 build=$PWD/.cache/zfs/build
  rm -rf "$build"
  mkdir -p "$kept"
  echo "building zfs $version for $kernel" >&2
  mmdebstrap --quiet --variant=apt --include="ca-certificates,linux-headers-$kernel,dkms,zfs-dkms=$version" \
    bookworm "$build" "${suites[@]}"
  cp "$build/lib/modules/$kernel"/updates/dkms/{spl,zfs}.ko "$kept/"
  rm -rf "$build"
}
finish=zfs_modules
