#!/usr/bin/env bash
# Runs a command beside a real Incus: lxcfs and incusd in mount, network, UTS and process namespaces of their own, from
# nothing, on a folder that is removed at the end. Nothing of the host's mounts, network or processes is touched; what is
# missing is installed (Incus 6.0 from Debian's backports, without starting it).
#
#   tests/incus.sh COMMAND [ARGUMENT …]
#
# The command finds the socket in INCUS_SOCKET, and in KEEL_TEST_INCUS the word that says that there is a server.
# KEEL_INCUS_FOLDER is where the server keeps its things; absent: a temporary folder.
set -euo pipefail
here=$(readlink -f "$0")
daemon=/usr/libexec/incus/incusd

install() {
  [ -x $daemon ] && command -v incus >/dev/null && command -v lxcfs >/dev/null && return
  . "$(dirname "$here")/needs.sh"
  needs_packages ca-certificates
  local uri sources=/etc/apt/sources.list.d/keel-backports.sources rc=/usr/sbin/policy-rc.d made=
  # The mirror that this host has.
  uri=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | head -n 1)
  [ -n "$uri" ] || { echo "no source of Debian packages is known to apt" >&2; exit 69; }
  cat >$sources <<SOURCES
Types: deb
URIs: $uri
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
  # No daemon of the packages is started on this host.
  [ -e $rc ] || { printf '#!/bin/sh\nexit 101\n' >$rc && chmod 755 $rc && made=yes; }
  echo "installing: incus"
  local code=0
  {
    apt-get update -qq -o Dir::Etc::sourcelist=$sources -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -t bookworm-backports \
        incus-base incus-client lxcfs
  } </dev/null >/dev/null || code=$?
  rm -f $sources
  [ -z "$made" ] || rm -f $rc
  return $code
}

# Inside the namespaces, as their first process: what it started ends with it.
inside() {
  local folder=$1 dir
  shift
  mount --make-rprivate /
  mount -t proc proc /proc
  ip link set lo up
  mkdir -p "$folder/cgroup"
  mount --rbind /sys/fs/cgroup "$folder/cgroup"
  mount -t sysfs sysfs /sys
  mount --move "$folder/cgroup" /sys/fs/cgroup
  mount -t tmpfs tmpfs /run
  mkdir -p /run/lock /run/incus /run/netns
  for dir in /var/lib/incus /var/log/incus /var/cache/incus /var/lib/lxcfs; do
    mkdir -p $dir "$folder/fs$dir"
    mount --bind "$folder/fs$dir" $dir
  done
  # Debian's lxcfs has a hook that only sleeps for half a second at each stop.
  if [ -e /usr/share/lxc/config/common.conf.d/00-lxcfs.conf ]; then
    mkdir -p "$folder/hooks"
    grep -v reboot.hook /usr/share/lxc/config/common.conf.d/00-lxcfs.conf >"$folder/hooks/00-lxcfs.conf"
    mount --bind "$folder/hooks" /usr/share/lxc/config/common.conf.d
  fi
  echo 1 >/proc/sys/net/ipv4/ip_forward 2>/dev/null || true
  hostname keel-incus
  lxcfs -f -p /run/lxcfs.pid /var/lib/lxcfs </dev/null >"$folder/lxcfs.log" 2>&1 &
  (
    ulimit -n 1048576 2>/dev/null || true
    ulimit -l unlimited 2>/dev/null || true
    PATH=/usr/libexec/incus:/usr/sbin:/usr/bin:/sbin:/bin exec $daemon --group root --logfile=/var/log/incus/incus.log
  ) </dev/null >"$folder/incusd.log" 2>&1 &
  if ! $daemon waitready --timeout=60; then
    cat "$folder/incusd.log" >&2
    exit 1
  fi
  local code=0
  INCUS_SOCKET=/var/lib/incus/unix.socket KEEL_TEST_INCUS=yes "$@" || code=$?
  # Whatever still runs would leave its cgroups behind.
  for dir in $(incus list --all-projects -f csv -c en 2>/dev/null || true); do
    incus delete -f --project "${dir%%,*}" "${dir##*,}" >/dev/null 2>&1 || true
  done
  exit $code
}

if [ "${1:-}" = --inside ]; then
  shift
  inside "$@"
fi
[ $# -gt 0 ] || { echo "usage: tests/incus.sh COMMAND [ARGUMENT …]" >&2; exit 64; }
[ "$(id -u)" = 0 ] || { echo "tests/incus.sh needs root" >&2; exit 1; }
install
folder=${KEEL_INCUS_FOLDER:-}
[ -n "$folder" ] || folder=$(mktemp -d /var/tmp/keel-incus-XXXXXX)
code=0
unshare -m -n -u -p -f --kill-child --propagation private "$here" --inside "$folder" "$@" || code=$?
# Of containers of which the server was killed; what somebody uses is not empty.
rmdir /sys/fs/cgroup/{*/,}lxc.{payload,monitor,pivot}* 2>/dev/null || true
[ -n "${KEEL_INCUS_FOLDER:-}" ] || rm -rf --one-file-system "$folder"
exit $code
