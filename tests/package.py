"""What tests/package.sh does in namespaces of its own: python3 tests/package.py PACKAGE ROOT.TAR WORK

Installs the package in the root, lets systemd look at its units, removes and purges it again, and then does what
systemd would do with keel.service: the quickstart is followed until its two containers run.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

package, tar, work = (Path(argument).resolve() for argument in sys.argv[1:4])
root = work / "root"
examples = Path(__file__).resolve().parent.parent / "examples"
UNITS = "usr/lib/systemd/system"


def run(*command, check=True, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if check and done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def need(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")


def unpack():
    root.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=3G,mode=755", "keel-package", root)
    run("tar", "-xpf", tar, "-C", root)
    for name in ("proc", "sys", "dev"):
        run("mount", "--rbind", f"/{name}", root / name)
    run("mount", "-t", "proc", "proc", root / "proc")
    run("mount", "-t", "tmpfs", "run", root / "run")
    shutil.copy(package, root / "evenkeel.deb")
    shutil.copytree(examples / "quickstart", root / "quickstart")
    # From here on that is the root, as it is for a unit: who is in a chroot may make no user namespaces.
    (root / "old").mkdir()
    run("pivot_root", root, root / "old")
    os.chdir("/")
    run("umount", "-l", "/old")


def installs():
    said = run("dpkg", "-i", "/evenkeel.deb")
    need("error" not in said.stderr.lower(), said.stderr)
    units = sorted(path.name for path in (Path("/") / UNITS).glob("keel*"))
    need("keel.service" in units and len(units) == 8, units)
    said = run("systemd-analyze", "verify", "--man=no", *(f"/{UNITS}/{unit}" for unit in units), check=False)
    about = [line for line in said.stderr.splitlines() if "keel" in line]
    need(said.returncode == 0 and not about, f"systemd-analyze verify: {said.stderr}")
    enabled = [path for path in Path("/etc/systemd").rglob("keel*")]
    need(not enabled, f"enabled: {enabled}")
    need(not list(Path("/var/lib").glob("keel*")), "it was started")
    need("keel" in run("keel", "version").stdout, "it does not run")
    pages = run("sh", "-c", "ls /usr/share/man/man1 | grep -c ^keel").stdout
    need(int(pages) > 20, f"{pages} pages")
    print(f"installed: {len(units)} units, none enabled; systemd has nothing to say of them")


def follows():
    """As systemd would begin keel.service: its ExecStart, told by sd_notify that it is ready."""
    unit = (Path("/") / UNITS / "keel.service").read_text()
    command = re.search(r"^ExecStart=(.*)$", unit, re.M).group(1).split()
    need("Type=notify" in unit and "WatchdogSec=2min" in unit, unit)
    manifests = Path("/etc/keel/manifests")
    shutil.copytree("/quickstart", manifests)
    Path("/srv/keel-quickstart").mkdir(parents=True)
    Path("/etc/keel/controller.yaml").write_text(
        "apiVersion: evenkeel/v1\nkind: Controller\nsources:\n"
        "- name: quickstart\n  directory: { path: /etc/keel/manifests }\n"
    )
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind("/run/notify")
    heard_so_far = []

    def listen():
        # As systemd: always.
        while True:
            heard_so_far.append(told.recv(4096).decode())

    threading.Thread(target=listen, daemon=True).start()
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "2000000",
    }
    log = Path("/log").open("w+")
    began = time.monotonic()
    controller = subprocess.Popen(command, env=environment, stderr=log)

    def said():
        log.seek(0)
        return log.read()

    def heard(word):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if any(word in message for message in heard_so_far):
                return
            time.sleep(0.02)
        sys.exit(f"FAILED: no {word}\n{said()}")

    heard("READY=1")
    ready = time.monotonic() - began
    while True:
        got = run("keel", "get", "instances", "-o", "json", check=False).stdout
        try:
            states = [one["status"]["state"] for one in json.loads(got)["items"]]
        except (ValueError, KeyError, TypeError):
            states = []
        if states == ["Running", "Running"]:
            break
        need(controller.poll() is None, f"it left\n{said()}")
        need(time.monotonic() - began < 60, f"{states} {got}\n{said()}")
        time.sleep(0.05)
    print(f"ready after {ready:.2f} s, two containers run after {time.monotonic() - began:.2f} s")
    heard("WATCHDOG=1")
    ping = run("keel", "exec", "client", "--", "ping", "-c", "1", "-W", "2", "10.87.0.10", check=False)
    need(ping.returncode == 0, f"they do not reach each other: {ping.stdout}{ping.stderr}")
    status = run("keel", "status").stdout
    need("The controller" in status, status)
    lines = said().splitlines()
    need(lines and all(re.match(r"<[3-7]>", line) for line in lines), said())
    controller.send_signal(signal.SIGTERM)
    need(controller.wait(30) == 0, f"it leaves with {controller.returncode}\n{said()}")
    heard("STOPPING=1")
    states = [one["status"]["state"] for one in json.loads(run("keel", "get", "instances", "-o", "json").stdout)["items"]]
    need(states == ["Running", "Running"], f"without a controller: {states}")
    run("keel", "-C", "/etc/keel/manifests", "destroy", "--no-trash", "--yes")
    print("it left, they went on, and all of it was taken away")


def leaves():
    run("dpkg", "--purge", "evenkeel")
    left = [path for path in Path("/usr").rglob("*keel*")]
    need(not left, f"left behind: {left}")
    need(Path("/var/lib/keel").is_dir(), "data of instances is gone with the package")
    print("purged: only /var/lib/keel is left")


unpack()
installs()
follows()
leaves()
