"""The peer of machines: the same QEMU with the same command line, without keel: sockets and files by their names."""

import json
import os
import re
import socket
import subprocess
import tempfile
import time

from measure import Failed


class Bare:
    """One start of a command line that a machine of keel has."""

    def __init__(self, machine):
        words, files, mounts = machine
        self.folder = tempfile.mkdtemp(prefix="keel-bare-")
        self.monitor = os.path.join(self.folder, "control")
        self.words = [self.by_name(word, files, mounts) for word in without_pairs(words)]

    def by_name(self, word, files, mounts):
        if match := re.fullmatch(r"socket,id=(\w+),fd=\d+,server=on,wait=off", word):
            return f"socket,id={match[1]},path={self.folder}/{match[1]},server=on,wait=off"
        if match := re.search(r"/dev/fdset/(\d+)", word):
            # The machine has one disk; it is gone with its machine: a copy as empty.
            disk = next(file for file in files if file.endswith("/disk.qcow2"))
            return word.replace(match[0], empty_like(disk, self.folder))
        if word in ("/kernel", "/initrd"):
            return from_mount(mounts[word])
        return word

    def start(self):
        """Milliseconds from spawn until the monitor has answered."""
        began = time.time()
        qemu = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            return (answered(self.monitor, qemu) - began) * 1000
        finally:
            qemu.kill()
            qemu.wait()


def answered(monitor, process):
    """The time at which a monitor has answered, while a process runs."""
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(monitor)
                lines = client.makefile("rw", encoding="utf-8")
                lines.readline()
                lines.write(json.dumps({"execute": "qmp_capabilities"}) + "\n")
                lines.flush()
                if "return" in lines.readline():
                    return time.time()
        except OSError:
            pass
        if process.poll():
            raise Failed("it ended before its monitor answered")
        time.sleep(0.0005)


# What keel asks each machine of which its companion was told everything else.
QUESTIONS = [
    {"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}},
    {"execute": "query-block"},
    {"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}},
    {"execute": "qom-list", "arguments": {"path": "/machine/peripheral-anon"}},
    {"execute": "qom-get", "arguments": {"path": "/objects/disk-root.l", "property": "limits"}},
]


def conversed(monitors):
    """Milliseconds of the same conversation with each of several monitors, one after another, and of nothing else."""
    text = "".join(json.dumps(question, separators=(",", ":")) for question in QUESTIONS).encode()
    begun = time.monotonic()
    for monitor in monitors:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(monitor)
            client.sendall(text)
            lines = client.makefile("rb")
            said = [lines.readline() for _ in range(1 + len(QUESTIONS))]
        if not all(b'"return"' in line for line in said[1:]):
            raise Failed(f"a monitor did not answer: {said}")
    return (time.monotonic() - begun) * 1000


def without_pairs(words):
    """Without what only keel has: descriptors that are handed over, and the monitor of the companion."""
    kept, skip = [], False
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else ""
        if skip:
            skip = False
        elif word == "-add-fd" or "id=watched" in following or "chardev=watched" in following:
            skip = True
        else:
            kept.append(word)
    return kept


def empty_like(path, folder):
    copy = os.path.join(folder, os.path.basename(path).removesuffix(" (deleted)"))
    if not os.path.exists(copy):
        with open(path, "rb") as source, open(copy, "wb") as target:
            target.write(source.read())
    return copy


def from_mount(root):
    """The path of a file from that in its file system; all that is measured lies on one."""
    return next(prefix + root for prefix in ("", "/var/tmp", "/var") if os.path.exists(prefix + root))
