"""Pools: instances made, snapshots made, gone back to and counted. Beside them stand bare calls of the kernel."""

import fcntl
import json
import os
import struct
import time

from measure import Failed, Sample, run
from world import HOST

# linux/btrfs.h
SNAP_CREATE_V2, SNAP_DESTROY, READ_ONLY = 0x50009417, 0x5000940F, 2

POOL = """apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: fast }
spec: { driver: btrfs, size: 4GiB }
lifecycle: { prune: delete }
"""

SCHEDULE = """---
apiVersion: evenkeel/v1
kind: SnapshotSchedule
metadata: { name: nightly }
spec: { schedule: "@daily", selector: { kinds: [Volume] }, pattern: "nightly-%d", retention: { keepLast: 20 } }
lifecycle: { prune: delete }
"""


def container(name, pool, state):
    return f"""---
apiVersion: evenkeel/v1
kind: Instance
metadata: {{ name: {name} }}
spec:
  image: busybox
  state: {state}
  devices:
    root: {{ type: disk, path: /, pool: {pool} }}
"""


def volume(number):
    return f"""---
apiVersion: evenkeel/v1
kind: Volume
metadata: {{ name: v{number} }}
spec: {{ pool: fast }}
lifecycle: {{ prune: delete }}
"""


def keep(tree, folder, name):
    """Makes a read-only snapshot of a subvolume; tells the milliseconds of the call."""
    source, into = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (tree, folder))
    # Of what cannot be changed Python takes a kilobyte at the most.
    asked = bytearray(struct.pack("qQQ32s4040s", source, 0, READ_ONLY, b"", name.encode()))
    began = time.perf_counter_ns()
    fcntl.ioctl(into, SNAP_CREATE_V2, asked)
    took = (time.perf_counter_ns() - began) / 1e6
    os.close(source)
    os.close(into)
    return took


def drop(folder, name):
    into = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.ioctl(into, SNAP_DESTROY, bytearray(struct.pack("q4088s", 0, name.encode())))
    os.close(into)


def path_of(world, kind, name):
    return json.loads(world.call("get", kind, name, "-o", "json")[2])["status"]["path"]


def root_of(world, name):
    uid = json.loads(world.call("get", "instance", name, "-o", "json")[2])["status"]["uid"]
    return os.path.join(world.state, "pools/fast/instances", uid)


def quick(bench, each):
    """One instance comes and goes; snapshots of one that runs, in turns with the bare call; going back to one."""
    world = bench.world("quick")
    base = f"{HOST}---\n{POOL}"
    world.want(base)
    world.apply()
    made = {"bench": Sample(), "fast": Sample()}
    for _, kept in each(bench.rounds):
        for pool, sample in made.items():
            world.want(base + container("new", pool, "Stopped"))
            world.apply()
            if kept:
                sample.add(world.step("create", "new"))
            world.want(base)
            world.apply()
    bench.add("pools: create from a present image, dir: step", "5 ms", made["bench"], most=5)
    bench.add("pools: create from a present image, btrfs: step", "5 ms", made["fast"], most=5)
    world.want(base + container("kept", "fast", "Running"))
    world.apply()
    folder = root_of(world, "kept")
    step, whole, bare = Sample(), Sample(), Sample()
    for number, kept in each(bench.rounds):
        name = f"s{number}"

        def keel():
            took = world.call("snapshot", "create", "kept", name)[0]
            if kept:
                whole.add(took)
                step.add(world.step("snapshot", "kept"))

        def other():
            took = keep(f"{folder}/disk", folder, f"bare{number}")
            drop(folder, f"bare{number}")
            if kept:
                bare.add(took)

        for turn in (keel, other) if number % 2 else (other, keel):
            turn()
        world.call("snapshot", "delete", "kept", name, "--yes")
    bench.add("pools: snapshot while it runs, btrfs: step", "4 ms, 1.5 x", step, "the ioctl", bare, most=4, ratio=1.5)
    bench.add("pools: snapshot while it runs, btrfs: whole command", "", whole)
    world.call("snapshot", "create", "kept", "before")
    world.call("stop", "kept", "--force", "--hold", "1h", "--reason", "bench")
    back, back_whole = Sample(), Sample()
    for _, kept in each(bench.rounds):
        took = world.call("snapshot", "restore", "kept", "before", "--yes")[0]
        if kept:
            back_whole.add(took)
            back.add(world.step("restore snapshot", "kept"))
    bench.add("pools: restore of a stopped instance, btrfs: step", "10 ms", back, most=10)
    bench.add("pools: restore of a stopped instance, btrfs: whole command", "", back_whole)
    world.end()


def many(bench, each):
    """A thousand volumes: all are due at once; then with ten snapshots each, of which nine were made beside keel."""
    world = bench.world("many")
    count = 1000
    world.want(f"{HOST}---\n{POOL}{SCHEDULE}" + "".join(volume(number) for number in range(count)))
    world.apply()
    due = lambda now: run([world.keel, "snapshot", "run-due"], dict(world.env, KEEL_NOW=now))
    due("2026-01-01T12:00:00Z")
    took, memory = Sample("s"), Sample("MiB")
    spent, peak, _ = due("2026-01-02T12:00:00Z")
    took.add(spent / 1000)
    memory.add(peak / 1024)
    bench.add(f"pools: {count} snapshots by one tick, btrfs", "8 s", took, most=8)
    bench.add(f"pools: {count} snapshots by one tick, btrfs: peak memory", "", memory)
    above = os.path.join(world.state, "pools/fast/volumes")
    for uid in os.listdir(above):
        kept = os.path.join(above, uid, "snapshots")
        (first,) = os.listdir(kept)
        with open(os.path.join(kept, first, "snapshot.json"), encoding="utf-8") as record:
            text = record.read()
        for number in range(9):
            folder = os.path.join(kept, f"by-hand{number}")
            os.mkdir(folder, 0o700)
            with open(os.path.join(folder, "snapshot.json"), "w", encoding="utf-8") as record:
                record.write(text)
            keep(os.path.join(above, uid, "disk"), folder, "tree")
    plan, one = Sample(), Sample()
    for _, kept in each(max(5, bench.rounds // 3)):
        spent, _, said = world.call("plan", world.source)
        if "Nothing to do" not in said:
            raise Failed(f"the plan is not empty:\n{said[:2000]}")
        alone = world.call("get", "storage-pool", "fast", "-o", "json")[0]
        if kept:
            plan.add(spent)
            one.add(alone)
    found = len(json.loads(world.call("snapshot", "list", "volume/fast/v7", "-o", "json")[2]))
    if found != 10:
        raise Failed(f"v7 has {found} snapshots")
    bench.add(f"pools: plan with nothing to do, {count} volumes, {count * 10} snapshots", "200 ms", plan, most=200)
    bench.add("pools: get of that pool alone", "", one)
    world.end()
