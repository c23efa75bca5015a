#!/usr/bin/env bash
# Builds the Debian package and tries it in a clean root: what is in it, what systemd says of its units, that nothing is
# enabled or started; and then, from an empty host to a running controller, the two containers of the quickstart, by what
# the installed unit says, in namespaces of their own. Prints where the package is.
#
#   tests/package.sh            of a release build (some minutes)
#   tests/package.sh --debug    of what is compiled for tests
set -euo pipefail
here=$(readlink -f "$0")
cd "$(dirname "$here")/.."
if [ "$(id -u)" != 0 ]; then
  exec sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,CARGO_TARGET_DIR "$here" "$@"
fi
target=$(readlink -f "${CARGO_TARGET_DIR:-target}")
profile=release kind=(--release) packed=(--profile release)
case "${1:-}" in
  --debug) profile=debug kind=() packed=(--profile dev --no-strip --fast) ;;
  '') ;;
  *) echo "usage: tests/package.sh [--debug]" >&2; exit 64 ;;
esac

. tests/needs.sh
needs_packages gcc libc6-dev pkg-config libseccomp-dev mmdebstrap dpkg-dev python3 curl
needs_cargo
if ! command -v cargo-deb >/dev/null; then
  echo "installing cargo-deb (this takes some minutes)"
  cargo install --locked --quiet cargo-deb
fi

echo "== build"
cargo build --locked "${kind[@]}" --workspace --bins
keel=$target/$profile/keel
mkdir -p target/package/man
"$keel" man target/package/man >/dev/null
"$keel" completion bash >target/package/keel.bash
"$keel" completion zsh >target/package/_keel
"$keel" completion fish >target/package/keel.fish

echo "== package"
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
mkdir -p "$target/debian"
cargo deb --locked --quiet --no-build "${packed[@]}" --manifest-path reconciler/Cargo.toml --output "$work/evenkeel.deb"
package=$target/debian/$(dpkg-deb -f "$work/evenkeel.deb" Package)_$(dpkg-deb -f "$work/evenkeel.deb" Version)_$(dpkg-deb -f "$work/evenkeel.deb" Architecture).deb
cp "$work/evenkeel.deb" "$package"
dpkg-deb -c "$package" >"$work/list"
for wanted in usr/bin/keel usr/bin/keel-shim usr/lib/systemd/system/keel.service usr/lib/systemd/system/keel-boot.service \
  usr/share/man/man1/keel-run.1.gz usr/share/bash-completion/completions/keel usr/share/doc/evenkeel/copyright \
  usr/share/doc/evenkeel/examples/controller/controller.yaml usr/share/evenkeel/schemas/v1/all.json; do
  grep -q " \./$wanted\$" "$work/list" || { echo "$wanted is not in the package" >&2; exit 1; }
done

# The root has what the package depends on, and systemd to look at the units. It is built once.
echo "== clean root"
depends=$(dpkg-deb -f "$package" Depends | sed 's/([^)]*)//g; s/|[^,]*//g; s/ //g')
root=.cache/package-root-$(echo "$depends" | sha256sum | cut -c1-12).tar
mkdir -p .cache
if [ ! -s "$root" ]; then
  mmdebstrap --quiet --variant=minbase --include="systemd,busybox-static,e2fsprogs,iproute2,$depends" bookworm "$root.part.tar"
  mv "$root.part.tar" "$root"
fi

echo "== install, and from nothing to two containers"
unshare --mount --net --uts --pid --fork --kill-child --propagation private \
  python3 tests/package.py "$package" "$root" "$work"
echo "== $package: $(stat -c %s "$package") bytes"
