"""Runs programs and measures them; prints the table."""

import ctypes
import os
import statistics
import time


class Failed(Exception):
    """A measured program did not do what it should."""


def run(words, env=None, quiet=True):
    """Runs a program to its end: (milliseconds, peak resident KiB). Its output goes to a file that failures show."""
    null = os.open("/dev/null", os.O_RDONLY)
    out = os.memfd_create("out")
    began = time.perf_counter_ns()
    pid = os.posix_spawnp(
        words[0],
        words,
        env or os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, out, 2),
        ],
    )
    _, status, usage = os.wait4(pid, 0)
    took = (time.perf_counter_ns() - began) / 1e6
    said = os.pread(out, 1 << 20, 0).decode(errors="replace")
    os.close(null)
    os.close(out)
    if status != 0:
        raise Failed(f"{' '.join(words)}: status {status:#x}\n{said}")
    return took, usage.ru_maxrss, said


class Opened:
    """Tells when a program is executed: the kernel opens its file then, and whoever watches that hears of it."""

    IN_OPEN = 0x20

    def __init__(self, program):
        libc = ctypes.CDLL(None, use_errno=True)
        self.watch = libc.inotify_init1(os.O_CLOEXEC)
        if self.watch < 0 or libc.inotify_add_watch(self.watch, program.encode(), self.IN_OPEN) < 0:
            raise Failed(f"{program} cannot be watched: {os.strerror(ctypes.get_errno())}")

    def wait(self):
        """When it was opened next, in seconds of the clock."""
        os.read(self.watch, 4096)
        return time.time()

    def end(self):
        os.close(self.watch)


class Sample:
    """Values of one quantity over many rounds."""

    def __init__(self, unit="ms"):
        self.values = []
        self.unit = unit

    def add(self, value):
        self.values.append(value)

    def median(self):
        return statistics.median(self.values)

    def cell(self):
        if not self.values:
            return "-", "-", "-"
        return tuple(f"{v:.1f}" for v in (self.median(), min(self.values), max(self.values)))


class Row:
    """One line of the table: what, its target, what was measured, the peer of the same run."""

    def __init__(self, name, target, sample, peer_name="", peer=None, most=None, ratio=None):
        self.name, self.target, self.sample = name, target, sample
        self.peer_name, self.peer, self.most, self.most_ratio = peer_name, peer, most, ratio

    def met(self):
        if self.most is not None and self.sample.median() > self.most:
            return False
        if self.most_ratio is not None and self.peer:
            return self.sample.median() / self.peer.median() <= self.most_ratio
        return True

    def cells(self):
        median, low, high = self.sample.cell()
        peer = ratio = ""
        if self.peer:
            peer = f"{self.peer_name} {self.peer.median():.1f}"
            ratio = f"{self.sample.median() / self.peer.median():.2f}"
        met = "yes" if self.met() else "NO"
        if self.most is None and self.most_ratio is None:
            met = ""
        return [self.name, self.target, f"{median} {self.sample.unit}", low, high, peer, ratio, met]


HEAD = ["what", "target", "median", "min", "max", "peer median", "ratio", "met"]


def table(rows):
    """The rows as a Markdown table with columns of equal width."""
    lines = [HEAD] + [row.cells() for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    text = []
    for index, line in enumerate(lines):
        text.append("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |")
        if index == 0:
            text.append("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)
