"""crun, made comparable: the same namespaces, id range, overlay, mounts, limits, capabilities and seccomp rules.

What differs, all of it in crun's favour: its layer is on disk with shifted owners, so that no id-mapped mount has to be
made; no /sys/fs/cgroup; no terminal, so that no console has to be kept; no supervisor, no record of how a container
ended, nothing that survives a power cut; no network.

crun refuses hosts where cgroup 2 holds some controllers and version 1 the others. Its threads have a mount namespace
without cgroup 2 then: limits and the device list are what they are for keel, in version 1.
"""

import ctypes
import json
import os
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from measure import Failed, run

BASE = 1_500_000_000
LIBC = ctypes.CDLL(None, use_errno=True)

ENOSYS, EPERM, EACCES, EAFNOSUPPORT = 38, 1, 13, 97
NEW_USER = 0x10000000

# runtime/src/native/container/seccomp.rs has the same list.
RULES = [
    (ENOSYS, "kexec_load kexec_file_load init_module finit_module delete_module create_module query_module"),
    (ENOSYS, "get_kernel_syms open_by_handle_at io_uring_setup io_uring_enter io_uring_register nfsservctl uselib vm86"),
    (EPERM, "bpf perf_event_open userfaultfd swapon swapoff acct lookup_dcookie iopl ioperm"),
    (ENOSYS, "clone3"),
]
MASKED = [
    (EPERM, "ioctl", 1, 0xFFFFFFFF, 0x5412),
    (EPERM, "ioctl", 1, 0xFFFFFFFF, 0x541C),
    (EAFNOSUPPORT, "socket", 0, 0xFFFFFFFF, 40),
    (EACCES, "umount2", 1, 1, 1),
    (EPERM, "clone", 0, NEW_USER, NEW_USER),
    (EPERM, "unshare", 0, NEW_USER, NEW_USER),
]
# runtime/src/native/container/capabilities.rs drops the rest.
CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_BOOT SYS_NICE
SYS_TTY_CONFIG LEASE AUDIT_WRITE SETFCAP""".split()


def seccomp():
    calls = [{"names": names.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": errno} for errno, names in RULES]
    for errno, name, index, mask, value in MASKED:
        when = {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
        calls.append({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": [when]})
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": calls}


def config(root):
    capabilities = ["CAP_" + name for name in CAPABILITIES]
    sets = {kind: capabilities for kind in ("bounding", "effective", "permitted", "inheritable")}

    def mount(at, kind, *options):
        return {"destination": at, "type": kind, "source": kind, "options": list(options)}

    span = [{"containerID": 0, "hostID": BASE, "size": 65536}]
    return {
        "ociVersion": "1.0.0",
        "hostname": "peer",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/sbin/init"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=crun"],
            "cwd": "/",
            "capabilities": sets,
            "noNewPrivileges": False,
        },
        "root": {"path": root, "readonly": False},
        "mounts": [
            mount("/proc", "proc", "nosuid", "noexec", "nodev"),
            mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            mount("/dev", "tmpfs", "nosuid", "mode=755", "size=500k"),
            mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            mount("/dev/shm", "tmpfs", "nosuid", "nodev", "mode=1777"),
            mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            mount("/run", "tmpfs", "nosuid", "nodev", "mode=755"),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "user", "cgroup")],
            "uidMappings": span,
            "gidMappings": span,
            "resources": {
                "memory": {"limit": 64 << 20},
                "pids": {"limit": 100},
                "devices": [{"allow": False, "access": "rwm"}],
            },
            "seccomp": seccomp(),
        },
    }


def mount(source, target, kind, options):
    check(LIBC.mount(source.encode(), target.encode(), kind.encode(), 0, options.encode()), f"mount {kind} at {target}")


class Namespace:
    """The mount namespace of the threads that call crun."""

    NEWNS, FS = 0x00020000, 0x00000200

    def __init__(self):
        self.lock = threading.Lock()
        self.file = None

    def enter(self):
        """Called by each thread when it begins."""
        with self.lock:
            if self.file is None:
                check(LIBC.unshare(self.NEWNS), "make a mount namespace")
                if os.path.ismount("/sys/fs/cgroup/unified"):
                    check(LIBC.umount2(b"/sys/fs/cgroup/unified", 2), "hide cgroup 2")
                self.file = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
            else:
                check(LIBC.unshare(self.FS), "leave the other threads")
                check(LIBC.setns(self.file, self.NEWNS), "enter the mount namespace")


def check(result, doing):
    if result:
        raise Failed(f"{doing}: {os.strerror(ctypes.get_errno())}")


def shift(folder):
    """Gives a tree to the container's ids."""
    for at, folders, files in os.walk(folder):
        for path in [at] + [os.path.join(at, name) for name in folders + files]:
            about = os.lstat(path)
            os.lchown(path, BASE + about.st_uid, BASE + about.st_gid)
            if not os.path.islink(path):
                os.chmod(path, about.st_mode & 0o7777)


class Crun:
    """Starts and deletes containers by crun."""

    def __init__(self, scratch, rootfs):
        self.folder = os.path.join(scratch, "crun")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.lower = os.path.join(self.folder, "lower")
        subprocess.run(["cp", "-a", rootfs, self.lower], check=True)
        shift(self.lower)
        self.root = "/run/crun-bench"
        self.namespace = Namespace()
        self.threads = ThreadPoolExecutor(max_workers=4, initializer=self.namespace.enter)

    def bundle(self, name):
        """What an engine has prepared before it calls crun; not timed."""
        bundle = os.path.join(self.folder, name)
        for part in ("upper", "work", "rootfs"):
            os.makedirs(os.path.join(bundle, part), exist_ok=True)
            os.chown(os.path.join(bundle, part), BASE, BASE)
        with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as out:
            json.dump(dict(config("rootfs"), linux=dict(config("")["linux"], cgroupsPath=f"/bench-{name}")), out)
        return bundle

    def start(self, name, bundle):
        """Starts one container: milliseconds."""
        return self.threads.submit(self.start_here, name, bundle).result()

    def delete(self, name, bundle):
        """Deletes one container: milliseconds."""
        return self.threads.submit(self.delete_here, name, bundle).result()

    def start_all(self, containers):
        """Starts many, four at once: milliseconds."""
        began = time.perf_counter_ns()
        list(self.threads.map(lambda one: self.start_here(*one), containers))
        return (time.perf_counter_ns() - began) / 1e6

    def delete_all(self, containers):
        """Deletes many, four at once."""
        list(self.threads.map(lambda one: self.delete_here(*one), containers))

    def start_here(self, name, bundle):
        """The overlay and `crun run -d`: milliseconds of both."""
        began = time.perf_counter_ns()
        options = f"lowerdir={self.lower},upperdir={bundle}/upper,workdir={bundle}/work"
        mount("overlay", f"{bundle}/rootfs", "overlay", options)
        mounted = (time.perf_counter_ns() - began) / 1e6
        return mounted + run(self.words("run", "-d", "--bundle", bundle, name))[0]

    def delete_here(self, name, bundle):
        """`crun delete -f`, the overlay and the folder: milliseconds."""
        took = run(self.words("delete", "-f", name))[0]
        began = time.perf_counter_ns()
        check(LIBC.umount2(f"{bundle}/rootfs".encode(), 2), f"unmount {bundle}")
        shutil.rmtree(bundle)
        return took + (time.perf_counter_ns() - began) / 1e6

    def words(self, *words):
        return ["crun", "--root", self.root, "--cgroup-manager", "cgroupfs", *words]

    def end(self):
        self.threads.shutdown()
        shutil.rmtree(self.folder)
