#!/usr/bin/env bash
# Reads the numbers of a real controller with Debian's Prometheus, over TLS and with a token, and checks numbers, rules and
# what the rules say with promtool. It runs in mount, network and process namespaces of its own, as root. Prometheus is
# unpacked below .cache and not installed: no daemon of its package is started.
#
#   tests/observability.sh
#
# KEEL_PROGRAMS is the folder with keel and keel-shim; absent: target/debug, built where it is not there.
set -euo pipefail
here=$(readlink -f "$0")
cd "$(dirname "$here")/.."
if [ "$(id -u)" != 0 ]; then exec sudo --preserve-env=PATH,HOME,KEEL_PROGRAMS "$here" "$@"; fi

# Inside the namespaces.
inside() {
  local world=$1 programs=$2 prometheus=$3
  mkdir -p /run/keel && mount -t tmpfs tmpfs /run/keel && ip link set lo up
  export PATH=$programs:$PATH KEEL_STATE_DIR=$world/state
  cd "$world"
  mkdir manifests
  printf 'apiVersion: evenkeel/v1\nkind: Source\nname: edge\n' >manifests/keel.yaml
  cat >manifests/all.yaml <<'MANIFESTS'
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
spec: { driver: dir }
---
apiVersion: evenkeel/v1
kind: Image
metadata: { name: busybox }
spec: { source: { builtin: busybox } }
---
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: web }
spec: { image: busybox, state: Running, devices: { root: { type: disk, path: /, pool: fast } } }
MANIFESTS
  # Whoever signs certificates, the server's, and one for alice.
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ours -keyout ca.key -out ca.pem 2>/dev/null
  local name
  for name in server alice; do
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name -keyout $name.key -out $name.csr 2>/dev/null
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -days 2 -extfile <(echo subjectAltName=DNS:localhost) -out $name.pem 2>/dev/null
  done
  cat >controller.yaml <<SETTINGS
apiVersion: evenkeel/v1
kind: Controller
api:
  tls:
    listen: 127.0.0.1:8443
    certificate: $world/server.pem
    key: $world/server.key
    authority: $world/ca.pem
    access: [{ subject: alice, role: operator }]
sources:
- name: edge
  directory: { path: $world/manifests }
SETTINGS
  keel run --config controller.yaml 2>log &
  local controller=$! token
  until curl -fsS --cacert ca.pem https://localhost:8443/readyz >/dev/null 2>&1; do
    kill -0 $controller || { cat log; return 1; }
    sleep 0.1
  done
  echo "== curl: who is who"
  # $1: the code that is expected; the rest: how curl asks.
  expect() {
    local code=$1 found
    shift
    found=$(curl -s -o answer -w '%{http_code}' --cacert ca.pem "$@") || true
    [ "$found" = "$code" ] || { echo "$found and not $code: $*"; cat answer log; return 1; }
  }
  expect 401 https://localhost:8443/v1/status
  expect 200 --cert alice.pem --key alice.key https://localhost:8443/v1/status
  grep -q '"name":"alice","role":"operator"' answer
  expect 000 --tls-max 1.2 https://localhost:8443/healthz
  token=$(keel token create prometheus --expires 1h)
  keel token list
  ! grep -q "$token" state/keel.db*
  expect 401 -H "Authorization: Bearer keel_wrong" https://localhost:8443/metrics
  expect 403 -H "Authorization: Bearer $token" -H 'Content-Type: application/json' -d '{}' https://localhost:8443/v1/reconcile
  expect 202 --cert alice.pem --key alice.key -H 'Content-Type: application/json' -d '{}' https://localhost:8443/v1/reconcile
  expect 200 -H "Authorization: Bearer $token" https://localhost:8443/metrics
  echo "== promtool"
  "$prometheus/promtool" check metrics <answer
  echo "== Prometheus"
  cat >prometheus.yaml <<SCRAPE
scrape_configs:
- job_name: keel
  scheme: https
  scrape_interval: 1s
  authorization: { credentials: $token }
  tls_config: { ca_file: $world/ca.pem, server_name: localhost }
  static_configs: [{ targets: ["127.0.0.1:8443"] }]
SCRAPE
  "$prometheus/prometheus" --config.file=prometheus.yaml --storage.tsdb.path=data --web.listen-address=127.0.0.1:9090 2>scrape.log &
  local reader=$! number=
  for _ in $(seq 100); do
    number=$(curl -s 'http://127.0.0.1:9090/api/v1/query' --data-urlencode 'query=keel_objects{kind="instance",state="synced"}' |
      sed -n 's/.*"value":\[[0-9.]*,"\([0-9]*\)"\].*/\1/p') || true
    [ -z "$number" ] || break
    sleep 0.1
  done
  kill $reader
  [ "$number" = 1 ] || { echo "Prometheus sees ${number:-nothing}"; cat scrape.log; return 1; }
  keel token revoke prometheus
  expect 401 -H "Authorization: Bearer $token" https://localhost:8443/metrics
  kill $controller
  wait $controller
  keel destroy --yes manifests
}

case "${1:-}" in
  --inside) shift; inside "$@"; exit ;;
  '') ;;
  *) echo "usage: tests/observability.sh" >&2; exit 64 ;;
esac
. tests/needs.sh
needs_packages curl openssl ca-certificates busybox-static iproute2 dpkg
prometheus=$PWD/.cache/prometheus
if [ ! -x "$prometheus/usr/bin/promtool" ]; then
  echo "unpacking Prometheus into $prometheus"
  mkdir -p "$prometheus"
  (cd "$prometheus" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } 2>/dev/null &&
    dpkg -x prometheus_*.deb . && rm prometheus_*.deb)
fi
echo "== rules"
"$prometheus/usr/bin/promtool" check rules examples/observability/alerts.yaml
"$prometheus/usr/bin/promtool" test rules examples/observability/alerts_test.yaml
python3 -m json.tool examples/observability/dashboard.json >/dev/null
programs=${KEEL_PROGRAMS:-target/debug}
[ -n "${KEEL_PROGRAMS:-}" ] || [ -x $programs/keel ] || cargo build --locked --workspace --bins
world=$(mktemp -d)
trap 'rm -rf --one-file-system "$world"' EXIT
unshare -m -n -p --fork --kill-child --mount-proc --propagation private \
  "$here" --inside "$world" "$(readlink -f "$programs")" "$prometheus/usr/bin"
echo "the numbers are read"
