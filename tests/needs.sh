# Installs what is missing; sourced by tests/run.sh and examples/quickstart.sh.
# shellcheck shell=bash

# needs_packages NAME … : Debian packages; nothing is asked of the network where all are there.
needs_packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return
  if ! command -v apt-get >/dev/null; then
    echo "please install: ${missing[*]}" >&2
    return 1
  fi
  echo "installing: ${missing[*]}"
  local as=()
  [ "$(id -u)" = 0 ] || as=(sudo)
  local install=("${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
  # The lists may be missing or old: then once more after an update.
  "${install[@]}" </dev/null >/dev/null 2>&1 || { "${as[@]}" apt-get update -qq && "${install[@]}" </dev/null >/dev/null; }
}

# needs_cargo: the Rust toolchain, by rustup where there is none; Debian's own is too old.
needs_cargo() {
  [ -e "${CARGO_HOME:-$HOME/.cargo}/env" ] && . "${CARGO_HOME:-$HOME/.cargo}/env"
  if ! command -v cargo >/dev/null; then
    needs_packages curl ca-certificates
    echo "installing the Rust toolchain into $HOME/.cargo"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component clippy,rustfmt
    . "$HOME/.cargo/env"
  fi
  cargo --version
}
