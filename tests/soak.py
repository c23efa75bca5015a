"""What tests/soak.sh does in namespaces of its own: python3 tests/soak.py PROGRAMS WORK MINUTES SEED"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

programs, work = Path(sys.argv[1]), Path(sys.argv[2])
minutes, seed = float(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
keel = programs / "keel"
state, bare, tree = work / "state", work / "edge.git", work / "tree"
environment = {
    "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": str(work),
    "KEEL_STATE_DIR": str(state),
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}
NAMES = [f"i{number}" for number in range(8)]
# How long it may take until all is as git says, when nobody disturbs any more.
PATIENCE = 90
# A controller of this many threads and instances has no reason for more; what it takes at first is no leak.
MEMORY = 24 << 20


def run(*command, check=True, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, **more)
    if check and done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def git(*words):
    return run("git", "-C", tree, "-c", "user.name=s", "-c", "user.email=s@example.org", *words).stdout.strip()


class Manifests:
    """What git says, and what was pushed before."""

    def __init__(self):
        self.instances = {name: 48 for name in NAMES[:4]}
        self.stopped = set()
        self.networks = {"net0"}
        self.number = 0

    def write(self):
        for old in tree.glob("*.yaml"):
            old.unlink()
        put = lambda name, text: (tree / name).write_text(text)
        head = "apiVersion: evenkeel/v1\n"
        put("keel.yaml", f"{head}kind: Source\nname: soak\nbudget: {{ data: 100, percent: 100 }}\n")
        put("pool.yaml", f"{head}kind: StoragePool\nmetadata: {{ name: fast }}\nspec: {{ driver: dir }}\nlifecycle: {{ prune: delete }}\n")
        put("image.yaml", f"{head}kind: Image\nmetadata: {{ name: busybox }}\nspec: {{ source: {{ builtin: busybox }} }}\n")
        for name in self.networks:
            third = 40 + int(name[3:])
            put(f"{name}.yaml", f"{head}kind: Network\nmetadata: {{ name: {name} }}\nspec: {{ type: bridge, ipv4: {{ address: 10.87.{third}.1/24, nat: true }} }}\n")
        for name, memory in self.instances.items():
            network = sorted(self.networks)[int(name[1:]) % len(self.networks)]
            power = "Stopped" if name in self.stopped else "Running"
            put(
                f"{name}.yaml",
                f"{head}kind: Instance\nmetadata: {{ name: {name} }}\nlifecycle: {{ prune: delete }}\nspec:\n  image: busybox\n  state: {power}\n"
                f"  limits: {{ memory: {memory}MiB, processes: 50 }}\n  devices:\n"
                f"    root: {{ type: disk, path: /, pool: fast }}\n    eth0: {{ type: nic, network: {network} }}\n",
            )

    def push(self, force=False):
        self.number += 1
        self.write()
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", f"change {self.number}")
        git("push", "-q", *(["--force"] if force else []), bare, "HEAD:main")


class Controller:
    def __init__(self):
        self.log = (work / "run.log").open("a")
        self.process = None
        self.begin()

    def begin(self):
        self.process = subprocess.Popen(
            [keel, "run", "--config", work / "controller.yaml", "--log-format", "json"],
            stdout=self.log, stderr=self.log, env=environment,
        )

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.begin()

    def leave(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        need(code == 0, f"it left with {code}")

    def measure(self):
        folder = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        return {
            "memory": int(status["VmRSS"].split()[0]) << 10,
            "threads": int(status["Threads"]),
            "descriptors": len(list((folder / "fd").iterdir())),
        }


def need(holds, what):
    if not holds:
        log = (work / "run.log").read_text().splitlines()[-40:]
        sys.exit(f"FAILED (seed {seed}): {what}\n" + "\n".join(log))


def objects():
    got = run(keel, "get", "instances", "-o", "json", check=False)
    try:
        return {one["metadata"]["name"]: one for one in json.loads(got.stdout)["items"]}
    except (ValueError, KeyError, TypeError):
        return {}


def settled(manifests):
    """Whether all is as git says, and the controller says so; else what is not."""
    live = objects()
    if set(live) != set(manifests.instances):
        return f"there are {sorted(live)}, wanted {sorted(manifests.instances)}"
    for name, one in live.items():
        wanted = "Stopped" if name in manifests.stopped else "Running"
        if one["status"].get("state") != wanted:
            return f"{name} is {one['status'].get('state')}, wanted {wanted}"
    said = run(keel, "plan", "--detailed-exitcode", tree, check=False)
    return None if said.returncode == 0 else said.stdout + said.stderr


def end_fights():
    """Who did this drift knows that it was no fight, and says so as a person does."""
    told = run(keel, "status", "-o", "json", check=False).stdout
    try:
        sources = json.loads(told)["controller"]["sources"]
    except (ValueError, KeyError, TypeError):
        return  # There is no controller right now.
    for fight in [fight for source in sources for fight in source.get("fights", [])]:
        run(keel, "resume", fight["object"], check=False)


def until_settled(manifests, why):
    began = time.monotonic()
    while True:
        end_fights()
        wrong = settled(manifests)
        if wrong is None:
            return time.monotonic() - began
        need(time.monotonic() - began < PATIENCE, f"{why}: not within {PATIENCE} s: {wrong}")
        time.sleep(0.5)


# --- what happens to it ---------------------------------------------------------------------------------------------


def pids(pattern):
    got = run("pgrep", "-f", pattern, check=False).stdout.split()
    return [int(pid) for pid in got if int(pid) != os.getpid()]


def change_memory(manifests, _):
    name = chance.choice(sorted(manifests.instances))
    manifests.instances[name] = chance.choice([40, 48, 64, 80])
    manifests.push()


def add_or_remove(manifests, _):
    name = chance.choice(NAMES)
    if name in manifests.instances and len(manifests.instances) > 2:
        del manifests.instances[name]
        manifests.stopped.discard(name)
    else:
        manifests.instances.setdefault(name, 48)
    manifests.push()


def stop_or_start(manifests, _):
    manifests.stopped ^= {chance.choice(sorted(manifests.instances))}
    manifests.push()


def add_network(manifests, _):
    manifests.networks ^= {"net1"}
    manifests.push()


def broken(manifests, _):
    git("commit", "-q", "--allow-empty", "-m", "nothing")
    (tree / "broken.yaml").write_text("kind: [\n")
    git("add", "-A")
    git("commit", "-q", "-m", "broken")
    git("push", "-q", bare, "HEAD:main")
    time.sleep(chance.random() * 2)
    (tree / "broken.yaml").unlink()
    git("add", "-A")
    git("commit", "-q", "-m", "mended")
    git("push", "-q", bare, "HEAD:main")


def rewound(manifests, _):
    """History is written anew, which is refused, and then set right."""
    before = git("rev-parse", "HEAD")
    git("checkout", "-q", "--orphan", "other")
    git("commit", "-q", "-m", "another history")
    git("push", "-q", "--force", bare, "HEAD:main")
    time.sleep(chance.random() * 2)
    git("checkout", "-q", "-f", "-B", "main", before)
    git("push", "-q", "--force", bare, "HEAD:main")
    git("branch", "-q", "-D", "other")


def drift_of_a_limit(manifests, _):
    name = (state / "id").read_text().strip()
    search = ["find", "/sys/fs/cgroup", "-path", f"*keel-{name}*", "(", "-name", "memory.limit_in_bytes", "-o", "-name", "memory.max", ")"]
    ours = [Path(path) for path in run(*search, check=False).stdout.splitlines()]
    if ours:
        try:
            chance.choice(ours).write_text(str(chance.choice([90, 100, 120]) << 20))
        except OSError:
            pass  # It is gone, or uses more.


def drift_of_a_table(manifests, _):
    tables = run("nft", "list", "tables", check=False).stdout.splitlines()
    if tables:
        run("nft", "delete", *chance.choice(tables).split(), check=False)


def drift_of_a_link(manifests, _):
    links = json.loads(run("ip", "-j", "link").stdout)
    names = [one["ifname"] for one in links if one["ifname"] != "lo"]
    if names:
        run("ip", "link", *chance.choice([["set", chance.choice(names), "down"], ["delete", chance.choice(names)]]), check=False)


def kill_the_controller(_, controller):
    controller.kill()


def kill_a_companion(*_):
    found = pids("keel-shim")
    if found:
        os.kill(chance.choice(found), signal.SIGKILL)


def kill_dnsmasq(*_):
    found = pids("dnsmasq")
    if found:
        os.kill(chance.choice(found), signal.SIGKILL)


def kill_an_init(manifests, _):
    live = objects()
    running = [one["status"].get("pid") or one["status"].get("init") for one in live.values()]
    running = [pid for pid in running if isinstance(pid, int) and pid > 1]
    if running:
        try:
            os.kill(chance.choice(running), signal.SIGKILL)
        except ProcessLookupError:
            pass


DEEDS = [
    change_memory, change_memory, add_or_remove, add_or_remove, stop_or_start, add_network, broken, rewound,
    drift_of_a_limit, drift_of_a_limit, drift_of_a_table, drift_of_a_link,
    kill_the_controller, kill_a_companion, kill_dnsmasq, kill_an_init,
]


def footprint():
    """What is there besides the controller: processes, mounts and links."""
    name = (state / "id").read_text().strip()
    listed = [line.split()[1] for line in run("ps", "-eo", "stat=,comm=").stdout.splitlines() if not line.startswith("Z")]
    return {
        "processes": sorted(name for name in listed if name.startswith(("keel", "dnsmasq"))),
        "mounts": sum(str(work) in line or "keel" in line for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "links": len(json.loads(run("ip", "-j", "link").stdout)),
        "cgroups": len(run("find", "/sys/fs/cgroup", "-type", "d", "-path", f"*keel-{name}*", check=False).stdout.splitlines()),
    }


def reset(manifests):
    manifests.__init__()
    manifests.push()
    until_settled(manifests, "as at first")


def main():
    run("ip", "link", "set", "lo", "up")
    os.makedirs("/run/keel", exist_ok=True)
    run("mount", "-t", "tmpfs", "keel-soak", "/run/keel")
    tree.mkdir()
    run("git", "init", "-q", "--bare", "-b", "main", bare)
    git("init", "-q", "-b", "main")
    (work / "controller.yaml").write_text(
        f"apiVersion: evenkeel/v1\nkind: Controller\nsources:\n- name: soak\n  git: {{ url: {bare}, branch: main, interval: 30s }}\n"
    )
    manifests = Manifests()
    manifests.push()
    controller = Controller()
    took = until_settled(manifests, "at first")
    print(f"seed {seed}: settled after {took:.1f} s", flush=True)
    # Once there and back, so that what is kept for ever is there.
    for deed in DEEDS:
        deed(manifests, controller)
    reset(manifests)
    controller.kill()
    until_settled(manifests, "before")
    time.sleep(5)
    before, at_first = footprint(), controller.measure()
    since = controller.process.pid
    print(f"before: {at_first} {before}", flush=True)
    ends = time.monotonic() + minutes * 60
    done, longest, checks = 0, 0.0, 0
    peak = 0
    while time.monotonic() < ends:
        for _ in range(chance.randrange(1, 6)):
            deed = chance.choice(DEEDS)
            print(f"  {deed.__name__}", file=sys.stderr, flush=True)
            deed(manifests, controller)
            need(controller.process.poll() is None, f"the controller ended by itself after {deed.__name__}")
            done += 1
            time.sleep(chance.random() * 1.5)
        if chance.random() < 0.5:
            longest = max(longest, until_settled(manifests, "in between"))
            checks += 1
        peak = max(peak, controller.measure()["memory"])
    longest = max(longest, until_settled(manifests, "at the end"))
    reset(manifests)
    time.sleep(5)
    after, at_last = footprint(), controller.measure()
    print(f"after: {at_last} {after}", flush=True)
    # Of a companion that was killed nothing is left, and its instance goes on without one: before as well, so that each
    # instance may have one now.
    allowed = Counter(before.pop("processes"))
    allowed["keel-shim"] = len(manifests.instances)
    more = Counter(after.pop("processes")) - allowed
    need(not more, f"processes leak: {dict(more)}")
    for what in before:
        need(after[what] == before[what], f"{what} leak: {before[what]} before, {after[what]} after")
    need(at_last["descriptors"] <= at_first["descriptors"] + 4, f"descriptors leak: {at_first} {at_last}")
    need(at_last["threads"] <= at_first["threads"] + 4, f"threads leak: {at_first} {at_last}")
    need(at_last["memory"] < at_first["memory"] + MEMORY, f"memory leaks: {at_first} {at_last}")
    same = "the same process" if since == controller.process.pid else "others in between"
    controller.leave()
    run(keel, "destroy", "--source", "soak", "--no-trash", "--yes")
    need(not objects(), "something is left after destroy")
    print(f"{done} deeds, settled {checks + 2} times within {longest:.1f} s, peak {peak >> 20} MiB ({same}): no leak")
    shutil.rmtree(state, ignore_errors=True)


main()
