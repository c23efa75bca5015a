"""A private keel: its state folder, its source of manifests, and what its journal says."""

import datetime
import json
import os
import shutil
import sqlite3
import subprocess

from measure import Failed, run

HOST = """apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: bench }
spec: { driver: dir }
lifecycle: { prune: delete }
---
apiVersion: evenkeel/v1
kind: Image
metadata: { name: busybox }
spec: { source: { builtin: busybox } }
lifecycle: { prune: delete }
"""

NETWORK = """---
apiVersion: evenkeel/v1
kind: Network
metadata: { name: bench0 }
spec:
  type: bridge
  ipv4: { address: 10.99.0.1/24, nat: true }
lifecycle: { prune: delete }
"""


def instance(name, address=None):
    """The manifest of a busybox container, with a NIC and its reservation where an address is given."""
    nic = f"    eth0: {{ type: nic, network: bench0, ipv4: {address} }}\n" if address else ""
    return f"""---
apiVersion: evenkeel/v1
kind: Instance
metadata: {{ name: {name} }}
spec:
  image: busybox
  state: Running
  limits: {{ memory: 64MiB, processes: 100 }}
  devices:
    root: {{ type: disk, path: /, pool: bench }}
{nic}"""


class World:
    """A state folder and a source in a scratch folder."""

    def __init__(self, programs, scratch, name):
        self.keel = os.path.join(programs, "keel")
        self.folder = os.path.join(scratch, name)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.source = os.path.join(self.folder, "source")
        os.makedirs(self.source)
        self.state = os.path.join(self.folder, "state")
        self.env = dict(
            os.environ, KEEL_STATE_DIR=self.state, KEEL_CLAIMS=os.path.join(self.folder, "claims"), NO_COLOR="1"
        )
        self.write("keel.yaml", f"apiVersion: evenkeel/v1\nkind: Source\nname: {name}\n")

    def write(self, file, text):
        with open(os.path.join(self.source, file), "w", encoding="utf-8") as out:
            out.write(text)

    def want(self, text):
        """Replaces the manifests."""
        self.write("world.yaml", text)

    def instances(self, count):
        """Writes manifests of many instances, a hundred a file, with what they need."""
        for first in range(0, count, 100):
            text = "".join(
                instance(f"c{n}", f"10.{64 + n // 60000}.{n // 250 % 250}.{n % 250 + 2}")
                for n in range(first, first + 100)
            )
            self.write(f"m{first:05}.yaml", text.removeprefix("---\n"))
        self.want(HOST + NETWORK.replace("10.99.0.1/24", "10.64.0.1/16"))

    def call(self, *words):
        """Runs keel: (milliseconds, peak resident KiB, output)."""
        return run([self.keel, *words], self.env)

    def apply(self):
        """One apply: milliseconds. Guards against large deletions are answered for: the bench deletes a lot."""
        return self.call("apply", "--yes", "--no-trash", "--approve", "G102", self.source)[0]

    def step(self, word, name):
        """Milliseconds of the newest step of a word on an instance, as the journal has it."""
        return step_of(self.journal(), word, name)

    def journal(self):
        """The newest events of the journal, the newest first."""
        journal = sqlite3.connect(f"file:{self.state}/keel.db?mode=ro", uri=True)
        try:
            rows = journal.execute("SELECT what FROM journal ORDER BY seq DESC LIMIT 400").fetchall()
        finally:
            journal.close()
        events = [json.loads(row[0]) for row in rows]
        for event in events:
            # Nanoseconds are more than Python reads.
            moment = event["at"].removesuffix("Z").partition(".")
            whole = datetime.datetime.fromisoformat(moment[0] + "+00:00").timestamp()
            event["when"] = whole + float("0." + (moment[2] or "0"))
        return events

    def begin(self, *words):
        """Begins a keel that works beside the caller."""
        return subprocess.Popen([self.keel, *words], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def begun(self, word, name):
        """When the newest step of a word on an instance began, as the journal has it, in seconds of the clock."""
        for event in self.journal():
            if event["event"] == "started" and event["word"] == word and event["address"].endswith("/" + name):
                return event["when"]
        raise LookupError(f"no step {word} of {name} in the journal")

    def pids(self):
        """The processes of the companions of all instances."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "keel-shim":
                    if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
                        found.append(int(pid))
            except OSError:
                continue
        return found

    def machine(self):
        """The command line of the only QEMU, and where its disks and its kernel are on the host."""
        for pid in self.pids():
            with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as children:
                for child in children.read().split():
                    with open(f"/proc/{child}/cmdline", encoding="utf-8") as line:
                        words = line.read().split("\0")[:-1]
                    files = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")]
                    mounts = {}
                    with open(f"/proc/{child}/mountinfo", encoding="utf-8") as table:
                        for mount in table:
                            fields = mount.split(" ")
                            mounts[fields[4]] = fields[3]
                    return words, files, mounts
        raise Failed("no machine runs")

    def end(self):
        """Takes everything down."""
        self.call("destroy", "--yes", "--no-trash", self.source)
        shutil.rmtree(self.folder)


def step_of(events, word, name):
    """The newest step of a word on an instance among events, the newest first."""
    of = [event for event in events if event.get("address", "").endswith("/" + name)]
    for begun in of:
        if begun["event"] == "started" and begun["word"] == word:
            for event in of:
                if event["event"] == "ended" and event["plan"] == begun["plan"] and event["step"] == begun["step"]:
                    return event["micros"] / 1000
    raise LookupError(f"no step {word} of {name} in the journal")
