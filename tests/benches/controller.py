"""A controller that runs: how soon it does what was pushed, how soon it mends what drifted, and what it takes while
nothing happens."""

import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

from measure import Failed, Sample
from world import HOST, NETWORK, instance

SECRET = "a secret of the benchmark"
PATIENCE = 120
# So often it is looked whether something is done, in seconds: a hundredth of what is promised.
GLANCE = 0.002


def until(what, holds, pause=GLANCE):
    """Waits until something holds and answers it."""
    ends = time.monotonic() + PATIENCE
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > ends:
            raise Failed(f"{what}: not within {PATIENCE} s")
        time.sleep(pause)


class Followed:
    """A world of which a controller follows a bare repository on the same disk."""

    def __init__(self, bench, name, interval="10m"):
        self.world = bench.world(name)
        self.bare = os.path.join(self.world.folder, "bare.git")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = os.path.join(self.world.folder, "secret")
        self.log = os.path.join(self.world.folder, "log")
        self.settings = os.path.join(self.world.folder, "controller.yaml")
        self.name = name
        self.commits = 0
        with open(os.open(secret, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as out:
            out.write(SECRET)
        with open(self.settings, "w", encoding="utf-8") as out:
            out.write(
                "apiVersion: evenkeel/v1\nkind: Controller\nsources:\n"
                f"- name: {name}\n  git: {{ url: {self.bare}, branch: main, interval: {interval} }}\n"
                f"  webhook: {{ forge: generic, secret: {{ file: {secret} }} }}\n"
                f"webhooks: {{ listen: 127.0.0.1:{self.port} }}\n"
            )
        # A bench takes a lot away at once.
        self.world.write(
            "keel.yaml", f"apiVersion: evenkeel/v1\nkind: Source\nname: {name}\nbudget: {{ data: 10000, percent: 100 }}\n"
        )
        self.git("init", "-q", "-b", "main", where=self.world.source)
        self.git("init", "-q", "--bare", "-b", "main", self.bare, where=self.world.folder)
        self.process = None

    def git(self, *words, where=None):
        settings = ["-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", where or self.world.source, *settings, *words], stdout=subprocess.PIPE, check=True, text=True
        )
        return done.stdout.strip()

    def commit(self):
        """Commits what is written and brings its objects into the repository, where nothing tells of them yet."""
        self.commits += 1
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"number {self.commits}")
        self.git("push", "-q", self.bare, "+HEAD:refs/keep/next")
        return self.git("rev-parse", "HEAD")

    def publish(self, commit, webhook=True):
        """The branch names a commit from now on, and the forge tells of it. When that was, in seconds of the clock."""
        branch = os.path.join(self.bare, "refs/heads/main")
        body = json.dumps({"after": commit, "at": time.time_ns()}).encode()
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        forge = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        if webhook:
            forge.connect()
        with open(f"{branch}.lock", "w", encoding="utf-8") as out:
            out.write(f"{commit}\n")
        at = time.time()
        os.rename(f"{branch}.lock", branch)
        if webhook:
            forge.request("POST", f"/v1/webhooks/{self.name}", body, {"X-Signature": f"sha256={signature}"})
            answer = forge.getresponse()
            if answer.status != 202:
                raise Failed(f"a webhook is answered with {answer.status}: {answer.read()[:500]}")
        forge.close()
        return at

    def begin(self):
        """The controller begins; whoever calls waits for what is wanted."""
        with open(self.log, "a", encoding="utf-8") as log:
            words = [self.world.keel, "run", "--config", self.settings]
            self.process = subprocess.Popen(words, env=self.world.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def begin_anew(self):
        """It leaves and another one begins, which has not yet seen anybody fight with it over what drifts."""
        self.leave()
        self.begin()
        self.quiet()

    def leave(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(PATIENCE) != 0:
            raise Failed("the controller did not leave well")

    def heard(self, word, since):
        """The first event of the journal of that word after a moment, if there is one."""
        try:
            events = [event for event in self.world.journal() if event["event"] == word and event["when"] > since]
        except Exception as error:  # There is no journal yet.
            if "unable to open" in str(error) or "no such table" in str(error):
                return None
            raise
        return events[-1] if events else None

    def running(self):
        """How many containers run: those that have a companion."""
        return len(self.world.pids())

    def quiet(self):
        """Waits until it has done what there was to do: it says so by its API, and goes on saying so."""
        calm = 0
        while calm < 3:
            until("it is settled", self.is_settled, 0.05)
            calm = calm + 1 if self.is_settled() else 0
            time.sleep(0.1)

    def is_settled(self):
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8") as log:
                raise Failed("the controller ended: " + log.read()[-3000:])
        said = subprocess.run(
            [self.world.keel, "plan", "--detailed-exitcode", self.world.source],
            env=self.world.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
        )
        return said.returncode == 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.end()
            return
        # What was begun does not outlive the failure.
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.world.call("destroy", "--source", self.name, "--yes", "--no-trash")

    def end(self):
        """It leaves, and all is taken down."""
        self.leave()
        self.world.end()


def many(count, first=0):
    return "".join(instance(f"c{n}", f"10.99.{(n + 10) // 250}.{(n + 10) % 250 + 1}") for n in range(first, first + count))


WIDE = NETWORK.replace("10.99.0.1/24", "10.99.0.1/16")


def commits(bench, each):
    """A commit that changes one limit, told by a webhook, and by the folder of the repository alone; then one that adds a
    hundred containers."""
    with Followed(bench, "followed") as followed:
        world = followed.world
        world.want(HOST + WIDE + instance("one", "10.99.200.7"))
        first = followed.commit()
        followed.begin()
        followed.publish(first, webhook=False)
        until("the first container runs", lambda: followed.running() == 1)
        followed.quiet()
        step, seen = Sample(), Sample()
        for number, kept in each(bench.rounds):
            for sample, webhook in ((step, True), (seen, False)):
                memory = 65 + number * 2 + int(webhook)
                world.want(HOST + WIDE + instance("one", "10.99.200.7").replace("64MiB", f"{memory}MiB"))
                commit = followed.commit()
                time.sleep(0.3)
                at = followed.publish(commit, webhook)
                took = until("a step begins", lambda: followed.heard("started", at), 0.05)["when"] - at
                if kept:
                    sample.add(took * 1000)
                followed.quiet()
        adding = Sample()
        wanted = HOST + WIDE + instance("one", "10.99.200.7")
        for number in range(max(4, bench.rounds // 6)):
            # Others each time: what lies in the trash would only be brought back.
            world.want(wanted + many(100, number * 100))
            commit = followed.commit()
            at = followed.publish(commit)

            def all_done():
                ended = [event["when"] for event in world.journal() if event["event"] == "ended" and event["when"] > at]
                return max(ended) if len(ended) >= 100 else None

            last = until("a hundred are made", all_done, 0.2)
            if followed.running() != 101:
                raise Failed("not all of them run")
            if number > 0:
                adding.add((last - at) * 1000)
            followed.quiet()
            world.want(wanted)
            followed.publish(followed.commit())
            until("they are gone", lambda: followed.running() == 1, 0.5)
            followed.quiet()
    bench.add("controller: webhook of a commit, to first step", "50 ms", step, most=50)
    bench.add("controller: commit into a local repository without webhook, to first step", "", seen)
    bench.add("controller: commit that adds 100 containers with NICs, to all done", "2500 ms", adding, most=2500)


def drifts(bench, each):
    """What drifts is mended by itself."""
    with Followed(bench, "drifts") as followed:
        world = followed.world
        world.want(HOST + WIDE + many(20))
        first = followed.commit()
        followed.begin()
        followed.publish(first, webhook=False)
        until("all run", lambda: followed.running() == 20)
        followed.quiet()
        document = json.loads(world.call("get", "instance", "c7", "-o", "json")[2])
        uid = document["status"]["uid"]
        limit = min(
            (os.path.join(at, name) for at, _, files in os.walk("/sys/fs/cgroup") if uid in at
             for name in files if name in ("memory.max", "memory.limit_in_bytes")),
            key=len,
        )
        samples = {name: Sample() for name in ("cgroup file", "veth", "nft table", "dead init")}
        for _, kept in each(max(10, bench.rounds // 2)):
            for name, drift in (
                ("cgroup file", lambda: of_limit(limit)),
                ("veth", lambda: of_link(world)),
                ("nft table", of_table),
                ("dead init", lambda: of_init(world)),
            ):
                holds = drift()
                at = time.monotonic()
                until(f"the {name} is mended", holds)
                if kept:
                    samples[name].add((time.monotonic() - at) * 1000)
                followed.quiet()
                time.sleep(1)
            followed.begin_anew()
    for name, sample in samples.items():
        bench.add(f"controller: drift of a {name}, to mended", "1000 ms", sample, most=1000)


def of_limit(file):
    def read():
        with open(file, encoding="utf-8") as limit:
            return limit.read()

    wanted = read()
    with open(file, "w", encoding="utf-8") as limit:
        limit.write(str(32 << 20))
    return lambda: read() == wanted


def of_link(world):
    init = json.loads(world.call("get", "instance", "c7", "-o", "json")[2])["status"]["pid"]
    inside = subprocess.run(
        ["nsenter", "-t", str(init), "-n", "ip", "-o", "link", "show", "eth0"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    index = re.search(r"eth0@if([0-9]+):", inside)[1]
    (link,) = (one["ifname"] for one in links() if one["ifindex"] == int(index))
    folder = f"/sys/class/net/{link}"

    def state():
        return os.path.exists(f"{folder}/master")

    wanted = state()
    subprocess.run(["ip", "link", "set", link, "nomaster"], check=True)
    if state() == wanted:
        raise Failed(f"{link} did not drift")
    return lambda: state() == wanted


def links():
    return json.loads(subprocess.run(["ip", "-j", "link"], check=True, stdout=subprocess.PIPE).stdout)


def of_table():
    def tables():
        return subprocess.run(["nft", "list", "tables"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()

    wanted = set(tables())
    subprocess.run(["nft", "delete", *sorted(wanted)[0].split()], check=True)
    return lambda: set(tables()) == wanted


def of_init(world):
    status = json.loads(world.call("get", "instance", "c7", "-o", "json")[2])["status"]
    os.kill(status["pid"], signal.SIGKILL)
    since = time.time()

    def lives():
        return any(
            event["event"] == "ended" and event["when"] > since and event["address"].endswith("/c7")
            for event in world.journal()
        )

    return lives


def rest(bench):
    """A thousand instances are written, a hundred of them run; nothing happens."""
    with Followed(bench, "rest") as followed:
        world = followed.world
        stopped = "".join(instance(f"s{n}").replace("state: Running", "state: Stopped") for n in range(900))
        world.want(HOST + WIDE + many(100) + stopped)
        first = followed.commit()
        followed.begin()
        followed.publish(first, webhook=False)
        until("all run", lambda: followed.running() == 100, 0.1)
        followed.quiet()
        time.sleep(5)
        after_work = memory_of(followed.process.pid)
        # As a controller is after a start of the host, too: what was done at first was done by another one.
        followed.leave()
        followed.begin()
        time.sleep(30)
        followed.quiet()
        time.sleep(10)
        memory, share, first_memory = Sample("MiB"), Sample("%"), Sample("MiB")
        first_memory.add(after_work)
        for _ in range(3):
            before, began = ticks_of(followed.process.pid), time.monotonic()
            time.sleep(30)
            spent = (ticks_of(followed.process.pid) - before) / os.sysconf("SC_CLK_TCK")
            share.add(spent / (time.monotonic() - began) * 100)
            memory.add(memory_of(followed.process.pid))
    what = "1 000 instances' manifests, 100 run"
    bench.add(f"controller: idle, {what}: RSS", "40 MiB", memory, most=40)
    bench.add("controller: at rest after it made all of those: RSS", "40 MiB", first_memory, most=40)
    bench.add(f"controller: idle, {what}: of a core", "1 %", share, most=1)


def memory_of(pid):
    """Resident MiB of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))


def ticks_of(pid):
    """Ticks of the clock that a process has worked, itself and those that it waited for."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])
