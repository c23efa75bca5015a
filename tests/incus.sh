#!/usr/bin/env bash
# Runs a command beside a real Incus: lxcfs and incusd in mount, network, UTS and process namespaces of their own, from
# nothing, on a folder that is removed at the end. Nothing of the host's mounts, network or processes is touched; what is
# missing is installed (Incus 6.0 from Debian's backports, without starting it).
#
#   tests/incus.sh COMMAND [ARGUMENT …]
#
#   tests/incus.sh --cluster COMMAND …     three of them as a cluster, on a bridge between their namespaces
#
# The command finds the socket in INCUS_SOCKET, and in KEEL_TEST_INCUS the word that says that there is a server. Of a cluster
# that is the first member; KEEL_TEST_CLUSTER is a folder with the process of each (`n2/incusd.pid`) and `begin`, which starts
# the member of a number (again, or as the fourth, which joins).
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

# Makes the namespaces that it is in those of a server that keeps its things in a folder.
furnish() {
  local folder=$1 name=$2 dir
  mount --make-rprivate /
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
  hostname "$name"
  lxcfs -f -p /run/lxcfs.pid /var/lib/lxcfs </dev/null >"$folder/lxcfs.log" 2>&1 &
}

# Starts the server of these namespaces, and waits until it answers.
serve() {
  local folder=$1
  (
    ulimit -n 1048576 2>/dev/null || true
    ulimit -l unlimited 2>/dev/null || true
    PATH=/usr/libexec/incus:/usr/sbin:/usr/bin:/sbin:/bin exec $daemon --group root --logfile=/var/log/incus/incus.log
  ) </dev/null >>"$folder/incusd.log" 2>&1 &
  echo $! >"$folder/incusd.pid"
  if ! $daemon waitready --timeout=60; then
    cat "$folder/incusd.log" >&2
    exit 1
  fi
}

# Whatever still runs would leave its cgroups behind.
delete_all() {
  local one
  for one in $(incus list --all-projects -f csv -c en 2>/dev/null || true); do
    timeout 30 incus delete -f --project "${one%%,*}" "${one##*,}" >/dev/null 2>&1 || true
  done
}

# Inside the namespaces, as their first process: what it started ends with it.
inside() {
  local folder=$1 code=0
  shift
  mount --make-rprivate /
  mount -t proc proc /proc
  furnish "$folder" keel-incus
  serve "$folder"
  INCUS_SOCKET=/var/lib/incus/unix.socket KEEL_TEST_INCUS=yes "$@" || code=$?
  delete_all
  exit $code
}

# A member of a cluster, in namespaces of its own; where it has a folder already, it is the member of before.
member() {
  local folder=$1 number=$2 token
  local own=$folder/n$number
  local enter
  enter="nsenter -t $(cat "$own/holder.pid" 2>/dev/null || echo 0) -m -n -u -- env -u INCUS_SOCKET"
  if [ ! -d "$own" ]; then
    mkdir "$own"
    setsid unshare -m -n -u --propagation private "$here" --hold "$own" "n$number" </dev/null >"$own/holder.log" 2>&1 &
    echo $! >"$own/holder.pid"
    until [ -e "$own/ready" ]; do sleep 0.05; done
    enter="nsenter -t $(cat "$own/holder.pid") -m -n -u -- env -u INCUS_SOCKET"
    ip link add "sw$number" type veth peer name eth0 netns "$(cat "$own/holder.pid")"
    ip link set "sw$number" master clbr0 up
    $enter ip addr add "10.10.10.1$number/24" dev eth0
    $enter ip link set eth0 up
    $enter ip route add default via 10.10.10.1
  fi
  $enter "$here" --serve "$own"
  if [ -e "$own/joined" ]; then
    return
  elif [ "$number" = 1 ]; then
    $enter incus admin init --preseed <<PRESEED
config: { core.https_address: "10.10.10.11:8443" }
cluster: { enabled: true, server_name: n1 }
PRESEED
    # As soon as it may be, a member that is silent counts as gone.
    $enter incus config set cluster.offline_threshold 11
  else
    token=$(INCUS_SOCKET=$folder/n1/fs/var/lib/incus/unix.socket incus cluster add "n$number" -q | tail -n 1)
    $enter incus admin init --preseed <<PRESEED
cluster: { enabled: true, server_name: n$number, server_address: "10.10.10.1$number:8443", cluster_token: "$token" }
PRESEED
  fi
  touch "$own/joined"
}

# Three members on a bridge between them.
cluster() {
  local folder=$1 code=0 number
  shift
  mount --make-rprivate /
  mount -t proc proc /proc
  ip link set lo up
  ip link add clbr0 type bridge
  ip link set clbr0 up
  ip addr add 10.10.10.1/24 dev clbr0
  printf '#!/bin/sh\nexec "%s" --member "%s" "$1"\n' "$here" "$folder" >"$folder/begin"
  chmod 755 "$folder/begin"
  for number in 1 2 3; do
    member "$folder" $number
  done
  export INCUS_SOCKET=$folder/n1/fs/var/lib/incus/unix.socket
  KEEL_TEST_CLUSTER=$folder KEEL_TEST_INCUS=yes "$@" || code=$?
  delete_all
  exit $code
}

case ${1:-} in
  --inside) shift && inside "$@" ;;
  --inside-cluster) shift && cluster "$@" ;;
  --member) shift && member "$@" && exit ;;
  --hold)
    furnish "$2" "$3"
    touch "$2/ready"
    exec sleep infinity
    ;;
  --serve) serve "$2" && exit ;;
esac
how=--inside
if [ "${1:-}" = --cluster ]; then
  how=--inside-cluster
  shift
fi
[ $# -gt 0 ] || { echo "usage: tests/incus.sh COMMAND [ARGUMENT …]" >&2; exit 64; }
[ "$(id -u)" = 0 ] || { echo "tests/incus.sh needs root" >&2; exit 1; }
install
folder=${KEEL_INCUS_FOLDER:-}
[ -n "$folder" ] || folder=$(mktemp -d /var/tmp/keel-incus-XXXXXX)
code=0
unshare -m -n -u -p -f --kill-child --propagation private "$here" $how "$folder" "$@" || code=$?
# Of containers of which the server was killed; what somebody uses is not empty.
rmdir /sys/fs/cgroup/{*/,}lxc.{payload,monitor,pivot}* 2>/dev/null || true
[ -n "${KEEL_INCUS_FOLDER:-}" ] || rm -rf --one-file-system "$folder"
exit $code
