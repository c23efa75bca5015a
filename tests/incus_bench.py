"""What tests/incus-bench.sh measures, beside the server whose socket is in INCUS_SOCKET."""

import concurrent.futures
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

keel, rounds = sys.argv[1], int(sys.argv[2])
server = os.environ["INCUS_SOCKET"]
INSTANCES = 50
# How many creations at once are tried: the quickest is the peer.
AT_ONCE = (2, 4, 8)
LISTS = ["instances?recursion=1&all-projects=true", "networks?recursion=1&all-projects=true", "storage-pools?recursion=1",
         "images?recursion=1&all-projects=true"]
HOST = """apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: bench }
spec: { driver: dir }
lifecycle: { prune: delete }
---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: bench0 }
spec: { ipv4: { address: 10.99.0.1/24, nat: true }, ipv6: { address: none } }
---
apiVersion: evenkeel/v1
kind: Image
metadata: { name: bench }
spec: { source: { builtin: busybox } }
"""
INSTANCE = """---
apiVersion: evenkeel/v1
kind: Instance
metadata: {{ name: bench-{number} }}
spec:
  image: bench
  state: Running
  limits: {{ memory: 64MiB }}
  devices:
    root: {{ type: disk, path: /, pool: bench }}
    eth0: {{ type: nic, network: bench0 }}
"""


class Unix(http.client.HTTPConnection):
    def __init__(self):
        super().__init__("incus")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(server)


def ask(connection, method, path, body=None):
    connection.request(method, f"/1.0/{path}", body and json.dumps(body))
    answer = json.loads(connection.getresponse().read())
    if answer["type"] == "error":
        sys.exit(f"{method} {path}: {answer['error']}")
    if answer["type"] == "async":
        connection.request("GET", f"{answer['operation']}/wait?timeout=60")
        answer = json.loads(connection.getresponse().read())
        if answer["metadata"]["status_code"] != 200:
            sys.exit(f"{method} {path}: {answer['metadata']['err']}")
    return answer


def timed(deed):
    began = time.monotonic()
    deed()
    return (time.monotonic() - began) * 1000


def main():
    work = Path(tempfile.mkdtemp())
    manifests = work / "manifests"
    manifests.mkdir()
    environment = dict(os.environ, KEEL_ENGINE=f"incus:unix:{server}", KEEL_STATE_DIR=str(work / "state"), HOME=str(work))
    (manifests / "keel.yaml").write_text("apiVersion: evenkeel/v1\nkind: Source\nname: bench\nbudget: { data: 100, percent: 100 }\n")

    def run(*words):
        done = subprocess.run([keel, *words], cwd=manifests, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"keel {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    (manifests / "host.yaml").write_text(HOST)
    run("apply", "--yes")
    body = {
        "type": "container", "profiles": [], "config": {"limits.memory": "64MiB"},
        "source": {"type": "image", "alias": "bench"},
        "devices": {"root": {"type": "disk", "path": "/", "pool": "bench"},
                    "eth0": {"type": "nic", "network": "bench0", "name": "eth0"}},
    }

    def make(number):
        ask(Unix(), "POST", "instances", dict(body, name=f"bench-{number}", start=True))

    def by_hand(at_once):
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            list(pool.map(make, range(INSTANCES)))

    def remove(number):
        own = Unix()
        ask(own, "PUT", f"instances/bench-{number}/state", {"action": "stop", "force": True, "timeout": 30})
        ask(own, "DELETE", f"instances/bench-{number}")

    def clear():
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(remove, range(INSTANCES)))

    best = {}
    for at_once in AT_ONCE:
        best[at_once] = timed(lambda: by_hand(at_once))
        clear()
    at_once = min(best, key=best.get)
    instances = "".join(INSTANCE.format(number=number) for number in range(INSTANCES))
    hands, ours = [], []
    for turn in range(3):
        hands.append(timed(lambda: by_hand(at_once)))
        clear()
        (manifests / "instances.yaml").write_text(instances)
        ours.append(timed(lambda: run("apply", "--yes")))
        if turn < 2:
            (manifests / "instances.yaml").unlink()
            run("apply", "--yes")
            run("trash", "empty", "--yes")
    run("plan", "--detailed-exitcode")
    plans, lists = [], []
    for _ in range(rounds):
        plans.append(timed(lambda: run("plan")))
        lists.append(timed(lambda: [
            subprocess.run(["curl", "-s", "-o", "/dev/null", "--unix-socket", server, f"http://incus/1.0/{one}"], check=True)
            for one in LISTS
        ]))
    asked = run("-vv", "plan").stderr.count("asks the server")
    pools, networks = (len(ask(Unix(), "GET", what)["metadata"]) for what in ("storage-pools", "networks"))
    median = statistics.median
    plan, four, own, hand = median(plans), median(lists), median(ours), median(hands)

    def row(what, limit, value, holds):
        print(f"| {what:72} | {limit:26} | {value:28} | {'yes' if holds else 'NO':3} |")

    row("plan without changes, 50 instances", f"1.3 x {four:.1f} ms (4 x curl)", f"{plan:.1f} ms, {plan / four:.2f} x", plan <= 1.3 * four)
    row("50 instances from nothing, all running", f"1.05 x {hand:.0f} ms ({at_once} at once)", f"{own:.0f} ms, {own / hand:.2f} x", own <= 1.05 * hand)
    row("requests of a plan without changes", f"10 + {pools} + {networks}", str(asked), 0 < asked <= 10 + pools + networks)
    run("destroy", "--no-trash", "--yes")


main()
