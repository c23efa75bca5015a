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

# needs_node FROM TO : what the lock file of npm in FROM names, installed into TO.
needs_node() {
  local from=$1 to=$2
  # Not by package: that of other sources has npm in it.
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    needs_packages nodejs npm || return 1
  fi
  mkdir -p "$to"
  if ! cmp -s "$from/package-lock.json" "$to/package-lock.installed"; then
    echo "installing what $from/package.json names into $to"
    cp "$from/package.json" "$from/package-lock.json" "$to/"
    (cd "$to" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --cache "$PWD/npm") || return 1
    cp "$from/package-lock.json" "$to/package-lock.installed"
  fi
}

# needs_editors: the language servers and the checker with which schemas are tested, of fixed versions, below
# .cache/editors of the project.
needs_editors() {
  needs_packages python3 python3-venv || return 1
  local from=tests/editors to=.cache/editors
  needs_node "$from" "$to" || return 1
  if ! cmp -s "$from/requirements.txt" "$to/requirements.installed"; then
    echo "installing check-jsonschema into $to"
    python3 -m venv --clear "$to/python" &&
      "$to/python/bin/pip" install --quiet --disable-pip-version-check --cache-dir "$PWD/$to/pip" \
        --only-binary :all: --require-hashes -r "$from/requirements.txt" || return 1
    cp "$from/requirements.txt" "$to/requirements.installed"
  fi
}
