#!/usr/bin/env bash
# Measures the engine of Incus on a real server: a plan that has nothing to do beside the four lists by curl, fifty instances
# from nothing beside the best use of the REST API itself, and how many requests a plan takes.
#
#   tests/incus-bench.sh [ROUNDS]     20 rounds where nobody says; builds release
#
# KEEL_BENCH_PROGRAMS names a folder with `keel` and `keel-shim` that are built already.
set -euo pipefail
here=$(readlink -f "$0")
cd "$(dirname "$here")/.."
if [ "$(id -u)" != 0 ]; then
  exec sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,CARGO_TARGET_DIR,KEEL_BENCH_PROGRAMS "$here" "$@"
fi
. tests/needs.sh
needs_packages curl python3
programs=${KEEL_BENCH_PROGRAMS:-}
if [ -z "$programs" ]; then
  needs_cargo
  cargo build --release --locked --quiet --bin keel --bin keel-shim
  programs=$(readlink -m "${CARGO_TARGET_DIR:-target}")/release
fi
exec tests/incus.sh python3 tests/incus_bench.py "$(readlink -f "$programs")/keel" "${1:-20}"
