"""The rows of the table. Started by tests/bench.sh, in namespaces of its own."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid

import controller
import pools
from measure import Failed, Opened, Row, Sample, run, table
from bare import Bare, answered, conversed
from peer import Crun
from world import HOST, NETWORK, World, instance

WARM = 3


def each(rounds):
    """Numbers of rounds; the first ones warm up and are not kept."""
    return [(number, number >= WARM) for number in range(rounds + WARM)]


class Bench:
    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.rounds = options.rounds
        self.rows = []
        self.worlds = []

    def world(self, name):
        self.worlds.append(World(self.options.programs, self.scratch, name))
        return self.worlds[-1]

    def end(self):
        """Takes down what a row has left that failed: its instances would outlive the benchmark."""
        for world in self.worlds:
            if os.path.exists(world.folder):
                world.end()

    def crun(self, world):
        images = os.path.join(world.state, "images")
        found = [at for at, folders, _ in os.walk(images) if "bin" in folders and "sbin" in folders]
        return Crun(self.scratch, found[0])

    def wanted(self, name):
        return not self.options.row or any(word in name for word in self.options.row)

    def add(self, *args, **words):
        self.rows.append(Row(*args, **words))
        print("  " + "  ".join(self.rows[-1].cells()), file=sys.stderr, flush=True)

    def start_and_delete(self):
        """One container comes and goes, in turns with crun's."""
        world = self.world("single")
        world.want(HOST + NETWORK)
        world.apply()
        crun = self.crun(world)
        step, whole, step_nic, whole_nic, peer = (Sample() for _ in range(5))
        gone, gone_whole, gone_nic, gone_nic_whole, peer_gone = (Sample() for _ in range(5))
        for number, kept in each(self.rounds):
            name = f"c{number}"

            def keel(address, started, started_whole, deleted, deleted_whole):
                world.want(HOST + NETWORK + instance(name, address))
                took = world.apply()
                journal = world.step("create", name)
                world.want(HOST + NETWORK)
                gone_took = world.apply()
                if kept:
                    started_whole.add(took)
                    started.add(journal)
                    deleted_whole.add(gone_took)
                    deleted.add(world.step("delete", name))

            def other():
                bundle = crun.bundle(name)
                took = crun.start(name, bundle)
                gone_took = crun.delete(name, bundle)
                if kept:
                    peer.add(took)
                    peer_gone.add(gone_took)

            turns = [
                other,
                lambda: keel(None, step, whole, gone, gone_whole),
                lambda: keel("10.99.0.7", step_nic, whole_nic, gone_nic, gone_nic_whole),
            ]
            for turn in turns[number % 3 :] + turns[: number % 3]:
                turn()
        crun.end()
        world.end()
        run_d, delete_f = "crun run -d", "crun delete -f"
        self.add("create and start, no NIC: step", "8 ms, 1.2 x", step, run_d, peer, most=8, ratio=1.2)
        self.add("create and start, no NIC: whole apply", "1.3 x", whole, run_d, peer, ratio=1.3)
        self.add("create and start, NIC and reservation: step", "14 ms", step_nic, run_d, peer, most=14)
        self.add("create and start, NIC and reservation: whole apply", "", whole_nic, run_d, peer)
        self.add("forced stop and delete, no NIC: step", "15 ms", gone, delete_f, peer_gone, most=15)
        self.add("forced stop and delete, no NIC: whole apply", "", gone_whole, delete_f, peer_gone)
        self.add("forced stop and delete, NIC: step", "15 ms", gone_nic, delete_f, peer_gone, most=15)
        self.add("forced stop and delete, NIC: whole apply", "", gone_nic_whole, delete_f, peer_gone)

    def fifty(self):
        """Fifty containers with NICs by one apply, from nothing at all and on a host with the image; then at rest."""
        everything = HOST + NETWORK + "".join(instance(f"c{n}", f"10.99.0.{n + 10}") for n in range(50))
        nothing, present, peer = Sample(), Sample(), Sample()
        plan, pss = Sample(), Sample("KiB")
        destroyed = Sample()
        rounds = max(3, self.rounds // 6)
        for number in range(rounds + 1):
            kept = number > 0
            world = self.world("fifty")
            world.want(everything)
            took = world.apply()
            if kept:
                nothing.add(took)
            if number == rounds:
                for index in range(self.rounds + WARM):
                    took, _, said = world.call("plan", world.source)
                    if "Nothing to do" not in said:
                        raise SystemExit(f"the plan is not empty:\n{said}")
                    if index >= WARM:
                        plan.add(took)
                for pid in world.pids():
                    pss.add(pss_of(pid))
            crun = self.crun(world)
            took = world.call("destroy", "--yes", "--no-trash", world.source)[0]
            if kept:
                destroyed.add(took)
            world.want(HOST + NETWORK)
            world.apply()
            world.want(everything)
            took = world.apply()
            if kept:
                present.add(took)
            world.end()
            bundles = [(f"p{n}", crun.bundle(f"p{n}")) for n in range(50)]
            took = crun.start_all(bundles)
            if kept:
                peer.add(took)
            crun.delete_all(bundles)
            crun.end()
        crun_50 = "50 x crun run -d, four at once, no NICs"
        self.add("50 containers with NICs from nothing, image too", "1000 ms", nothing, crun_50, peer, most=1000)
        self.add("50 containers with NICs, image and bridge there", "1000 ms", present, crun_50, peer, most=1000)
        self.add("destroy of those 50, network and image", "", destroyed)
        self.add("companion's memory (PSS) of 50 instances", "300 KiB", pss, most=300)
        self.add("plan with nothing to do, 50 running", "25 ms", plan, most=25)

    def version(self):
        took = Sample()
        keel = os.path.join(self.options.programs, "keel")
        true = Sample()
        for _, kept in each(self.rounds * 3):
            a, b = run([keel, "version"])[0], run(["/bin/busybox", "true"])[0]
            if kept:
                took.add(a)
                true.add(b)
        self.add("keel version", "5 ms", took, "busybox true", true, most=5)

    def against(self):
        """A plan with nothing to do against a saved live state: no host, no root, no state folder."""
        for count, most, size, rounds in ((1000, 150, 60, self.rounds), (10000, 1000, None, max(5, self.rounds // 3))):
            world = self.world(f"live{count}")
            world.instances(count)
            live = os.path.join(world.folder, "live.json")
            with open(live, "w", encoding="utf-8") as out:
                json.dump(live_state(world, count), out)
            took, memory = Sample(), Sample("MiB")
            for _, kept in each(rounds):
                spent, peak, said = world.call("plan", "--against", live, "--approve", "G107", world.source)
                if "Nothing to do" not in said:
                    raise SystemExit(f"the plan is not empty:\n{said[:2000]}")
                if kept:
                    took.add(spent)
                    memory.add(peak / 1024)
            self.add(f"plan against a live state, {count} instances", f"{most} ms", took, most=most)
            target = f"{size} MiB" if size else ""
            self.add(f"plan against a live state, {count} instances: peak memory", target, memory, most=size)

    def language(self):
        for count, most, rounds in ((1000, 60, self.rounds), (10000, 500, max(5, self.rounds // 3))):
            world = self.world(f"n{count}")
            world.instances(count)
            took, memory = Sample(), Sample("MiB")
            for _, kept in each(rounds):
                spent, peak, _ = world.call("validate", world.source)
                if kept:
                    took.add(spent)
                    memory.add(peak / 1024)
            self.add(f"validate {count} instances", f"{most} ms", took, most=most)
            if count == 10000:
                self.add(f"validate {count} instances: peak memory", "150 MiB", memory, most=150)


    def editors(self):
        """What a person waits for in an editor: a file of 500 lines opened first, then a key completed in its middle."""
        here = os.path.dirname(os.path.abspath(__file__))
        root = os.path.dirname(os.path.dirname(here))
        installed = os.path.join(root, ".cache/editors/node_modules")
        one = "spec:\n  image: busybox\n  limits:\n    memory: 64MiB\n"
        documents = [f"apiVersion: evenkeel/v1\nkind: Instance\nmetadata:\n  name: c{n}\n{one}" for n in range(56)]
        # With a slip at its end: it is open when that is marked.
        text = "---\n".join([*documents, "kind: Instnace\n"])
        lines = text.count("\n")
        middle = text.splitlines().index("    memory: 64MiB", lines // 2)
        asked = {
            "folder": self.scratch,
            "settings": {"yaml.schemas": {f"file://{root}/schemas/v1/all.json": ["*.yaml"]}},
            "cases": [{"name": "many.yaml", "text": text, "at": [middle + 1, 7]}],
        }
        for server in ("old", "new"):
            package = os.path.join(installed, f"yaml-language-server-{server}")
            with open(os.path.join(package, "package.json"), encoding="utf-8") as about:
                version = json.load(about)["version"]
            first, complete = Sample(), Sample()
            for _ in range(max(5, self.rounds // 3)):
                asked["server"] = package
                seen = subprocess.run(
                    [sys.executable, "-B", os.path.join(root, "tests/editors/ask.py")],
                    input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True,
                )
                (case,) = json.loads(seen.stdout)["cases"]
                if not case["marked"] or "memorySwap" not in [offer["label"] for offer in case["offered"]]:
                    raise Failed(f"yaml-language-server {version} marks no slip or offers no keys")
                first.add(case["took"]["open"])
                complete.add(case["took"]["complete"])
            name = f"yaml-language-server {version}, {lines} lines"
            self.add(f"{name}: first open", "500 ms", first, most=500)
            self.add(f"{name}: completion", "50 ms", complete, most=50)


    def machines(self):
        """Machines start until their monitor answers, in turns with a bare QEMU of the same command line; twenty of them,
        frozen so that their emulation takes nobody's time, are observed."""
        images = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.cache/machine")
        image = MACHINE_IMAGE.format(kernel=os.path.realpath(f"{images}/kernel"), initrd=os.path.realpath(f"{images}/initrd"))
        world = self.world("machines")
        big = os.path.join(world.folder, "big.raw")
        with open(big, "wb") as out:
            out.write(b"\xeb" + b"x" * 509 + b"\x55\xaa")
            out.truncate(2 << 30)
        base = HOST + NETWORK + image + BIG_IMAGE.format(file=big)
        world.want(base)
        world.apply()
        ready, bare, clone, executed = Sample(), Sample(), Sample(), Sample()
        rounds = max(10, self.rounds // 2)
        world.want(base + machine("vm", "tiny", "Running"))
        world.apply()
        peer = Bare(world.machine())
        monitor = os.path.join(json.loads(world.call("get", "instance", "vm", "-o", "json")[2])["status"]["runFolder"], "qmp-rescue")
        for number, kept in each(rounds):
            world.call("stop", "vm", "--force", "--hold", "1h", "--reason", "bench")
            program = Opened(peer.words[0])
            keel = world.begin("start", "vm")
            opened = program.wait()
            program.end()
            answer = answered(monitor, keel)
            if keel.wait() != 0:
                raise Failed("a machine did not start")
            begun = world.begun("start", "vm")
            took = (answer - begun) * 1000
            alone = peer.start()
            if kept:
                executed.add((opened - begun) * 1000)
                ready.add(took)
                bare.add(alone)
        plain, memory = self.snapshots(world, base)
        world.want(base)
        world.apply()
        for number, kept in each(rounds):
            world.want(base + machine("copy", "big", "Stopped"))
            world.apply()
            if kept:
                clone.add(world.step("create", "copy"))
            world.want(base)
            world.apply()
        world.want(base + "".join(machine(f"m{n}", "tiny", "Frozen") for n in range(20)))
        world.apply()
        folders = [one["status"]["runFolder"] for one in json.loads(world.call("get", "instance", "-o", "json")[2])["items"]]
        monitors = [os.path.join(folder, "qmp-rescue") for folder in folders]
        observed, plan, asked, pss = Sample(), Sample(), Sample(), Sample("KiB")
        for _, kept in each(self.rounds):
            talk = conversed(monitors)
            took, _, said = world.call("plan", "--verbose", world.source)
            if "Nothing to do" not in said:
                raise SystemExit(f"the plan is not empty:\n{said}")
            if kept:
                plan.add(took)
                observed.add(spent(said, "observe"))
                asked.add(talk)
        for pid in world.pids():
            pss.add(pss_of(pid))
        world.end()
        name = "bare QEMU until QMP answers"
        self.add("machine: start until QEMU is executed", "15 ms", executed, most=15)
        self.add("machine: start until QMP answers", "1.2 x", ready, name, bare, ratio=1.2)
        self.add("machine: snapshot while it runs: whole command", "250 ms", plain, most=250)
        self.add("machine: snapshot with 192 MiB of memory: whole command", "1000 ms", memory, most=1000)
        self.add("machine: made from an image of 2 GiB: step", "20 ms", clone, most=20)
        name = "bare client, the same questions one by one"
        self.add("machines: 20 observed", "40 ms", observed, name, asked, most=40)
        self.add("machines: plan with nothing to do, 20 running: whole command", "", plan)
        self.add("machines: companion's memory (PSS)", "400 KiB", pss, most=400)

    def snapshots(self, world, base):
        """Snapshots of a machine whose guest has come up: without its memory, and with it. In 128 MiB it does not."""
        world.want(base + machine("kept", "tiny", "Running").replace("256MiB", "192MiB"))
        world.apply()
        folder = json.loads(world.call("get", "instance", "kept", "-o", "json")[2])["status"]["runFolder"]
        deadline = time.monotonic() + 300
        while b"keel-guest ready" not in open(f"{folder}/console.log", "rb").read():
            if time.monotonic() > deadline:
                raise Failed("the guest did not come up")
            time.sleep(0.1)
        samples = Sample(), Sample()
        for number, kept in each(max(5, self.rounds // 3)):
            for sample, more in zip(samples, ([], ["--stateful"])):
                took = world.call("snapshot", "create", "kept", f"s{number}", *more)[0]
                world.call("snapshot", "delete", "kept", f"s{number}", "--yes")
                if kept:
                    sample.add(took)
        return samples

    def backups(self):
        """A volume of 1 GiB goes into a file, in turns with `tar | zstd` of the same tree, which is synced as well."""
        world = self.world("backups")
        volume = "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: { name: big }\nspec: { pool: bench }\nlifecycle: { prune: delete }\n"
        world.want(f"{HOST}---\n{volume}")
        world.apply()
        folder = json.loads(world.call("get", "volume", "bench/big", "-o", "json")[2])["status"]["path"]
        tree = os.path.join(folder, "disk", "data")
        fill(tree)
        mine, other = (os.path.join(world.folder, name) for name in ("mine.keel", "other.tar.zst"))
        line = f"tar -C {tree} -cf - . | zstd -q -3 -c >{other} && sync {other}"
        took, peer = Sample(), Sample()
        for number, kept in each(max(3, self.rounds // 6)):

            def keel():
                spent = world.call("backup", "export", "volume/bench/big", "-o", mine)[0]
                if kept:
                    took.add(spent)

            def tar():
                spent = run(["/bin/sh", "-c", line])[0]
                if kept:
                    peer.add(spent)

            for turn in (keel, tar) if number % 2 else (tar, keel):
                turn()
            for file in (mine, other):
                os.remove(file)
        world.end()
        self.add("backup: export of 1 GiB", "1.25 x", took, "tar | zstd -3", peer, ratio=1.25)
        self.streams()

    def streams(self):
        """The same on a pool of btrfs, as a stream, in turns with `btrfs send` of a snapshot into a file, which is synced."""
        world = self.world("streams")
        pool = HOST.replace("driver: dir", "driver: btrfs, size: 4GiB")
        volume = "apiVersion: evenkeel/v1\nkind: Volume\nmetadata: { name: big }\nspec: { pool: bench }\nlifecycle: { prune: delete }\n"
        world.want(f"{pool}---\n{volume}")
        world.apply()
        folder = json.loads(world.call("get", "volume", "bench/big", "-o", "json")[2])["status"]["path"]
        tree = os.path.join(folder, "disk")
        fill(os.path.join(tree, "data"))
        mine, other = (os.path.join(world.folder, name) for name in ("mine.keel", "other.btrfs"))
        kept = os.path.join(folder, "sent")
        line = (
            f"btrfs -q subvolume snapshot -r {tree} {kept} && btrfs -q send {kept} -f {other} && sync {other} && "
            f"btrfs -q subvolume delete {kept}"
        )
        took, peer = Sample(), Sample()
        for number, counts in each(max(3, self.rounds // 6)):

            def keel():
                spent = world.call("backup", "export", "volume/bench/big", "--optimized", "-o", mine)[0]
                if counts:
                    took.add(spent)

            def send():
                spent = run(["/bin/sh", "-c", line])[0]
                if counts:
                    peer.add(spent)

            for turn in (keel, send) if number % 2 else (send, keel):
                turn()
            for file in (mine, other):
                os.remove(file)
        world.end()
        self.add("backup: export of 1 GiB, optimized", "1.11 x", took, "btrfs send", peer, ratio=1.11)


def spent(said, part):
    """Milliseconds of a part of a command, as its log has them."""
    found = re.search(part + r": .*time\.busy=([0-9.]+)(ns|µs|ms|s)\b", said)
    if not found:
        raise Failed(f"the log does not say how long {part} took:\n{said}")
    return float(found[1]) * {"ns": 1e-6, "µs": 1e-3, "ms": 1, "s": 1e3}[found[2]]


def fill(tree):
    """1 GiB as systems have it: many small files of words, and some big ones that do not pack."""
    words = " ".join(f"{number:x} the quick brown fox {number * 7919 % 10007}" for number in range(30_000)).encode()
    for part in range(64):
        below = os.path.join(tree, f"part{part}")
        os.mkdir(below)
        with open(os.path.join(below, "noise"), "wb") as out:
            out.write(os.urandom(8 << 20))
        left = 8 << 20
        for number in range(200):
            size = min(left, 20_000 + number * 220)
            start = (part * 7919 + number * 104_729) % (len(words) - size)
            with open(os.path.join(below, f"words{number}"), "wb") as out:
                out.write(words[start:start + size])
            left -= size


MACHINE_IMAGE = """---
apiVersion: evenkeel/v1
kind: Image
metadata: {{ name: tiny }}
spec: {{ type: virtual-machine, kernel: {kernel}, initrd: {initrd}, cmdline: console=ttyS0 quiet panic=-1 no_timer_check }}
lifecycle: {{ prune: delete }}
"""

BIG_IMAGE = """---
apiVersion: evenkeel/v1
kind: Image
metadata: {{ name: big }}
spec: {{ type: virtual-machine, source: {{ file: {file} }} }}
lifecycle: {{ prune: delete }}
"""


def machine(name, image, state):
    """The manifest of a machine."""
    return f"""---
apiVersion: evenkeel/v1
kind: Instance
metadata: {{ name: {name} }}
spec:
  type: virtual-machine
  image: {image}
  state: {state}
  limits: {{ memory: 256MiB }}
  devices:
    root: {{ type: disk, path: /, pool: bench, {"size: 64MiB" if image == "tiny" else ""} }}
"""


def live_state(world, count):
    """A host on which all of a source lives as `keel render` says, and was applied so."""
    file = os.path.join(world.folder, "rendered.json")
    world.call("render", "--json-into", file, world.source)
    with open(file, encoding="utf-8") as text:
        rendered = json.load(text)
    items, owned = [], []
    for number, document in enumerate(rendered["items"]):
        kind = {"Instance": "instance", "StoragePool": "storage-pool", "Network": "network", "Image": "image"}
        address = f"{kind[document['kind']]}/{document['metadata']['name']}"
        uid = str(uuid.UUID(int=number + 1))
        mark = {"source": f"live{count}", "uid": uid}
        keeps = {key: document["lifecycle"][key] for key in ("prune", "protect")}
        spec = document["spec"]
        items.append({
            "address": address, "mark": mark, "complete": True, "spec": spec, "remembered": keeps,
            "holds": {"bytes": 1, "snapshots": 0}, "status": {"state": spec.get("state"), "uid": uid},
        })
        owned.append({
            "uid": uid, "source": mark["source"], "address": address, "spec": json.dumps(spec), "origin": None,
            "needs": [], "remembered": keeps, "restartPending": [], "drift": [],
        })
    return {
        "formatVersion": "1.0", "tool": {"name": "keel", "version": "0"}, "takenAt": "2026-07-05T12:00:00Z",
        "host": {
            "engine": "native", "host": "bench", "machineId": None, "stateId": "0badcafe", "architecture": "x86_64",
            "memory": 1 << 34, "processors": 2, "ceilings": {}, "missing": [],
        },
        "generation": 1, "sources": [], "owned": owned, "holds": [], "items": items, "unclear": [], "trash": [],
    }


def pss_of(pid):
    """KiB of a process, shared pages divided among those that share them."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))


def main():
    parser = argparse.ArgumentParser(prog="tests/bench.sh")
    parser.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--row", action="append", choices=["start", "fifty", "version", "language", "against", "editors", "machines", "backups", "pools", "controller"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="keel-bench-") as scratch:
        bench = Bench(options, scratch)
        try:
            for word, measure in (
                ("version", bench.version),
                ("language", bench.language),
                ("against", bench.against),
                ("editors", bench.editors),
                ("start", bench.start_and_delete),
                ("fifty", bench.fifty),
                ("machines", bench.machines),
                ("backups", bench.backups),
                ("pools", lambda: (pools.quick(bench, each), pools.many(bench, each))),
                ("controller", lambda: (controller.commits(bench, each), controller.drifts(bench, each), controller.rest(bench))),
            ):
                if bench.wanted(word):
                    measure()
        finally:
            bench.end()
    print(table(bench.rows))


if __name__ == "__main__":
    main()
