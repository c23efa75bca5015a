//! What keel and its companion say to each other while an instance starts, and while something is executed in it.
//!
//! Both are installed together, so a version that differs is refused. The control socket of a *running* companion
//! speaks the protocol of [`super::control`], which older and newer builds share.

use super::wire::{choice, message};

/// Rises with every change to this file.
pub const VERSION: u32 = 5;

/// The number under which a virtual machine finds the monitor that its companion watches.
pub const WATCHED: i32 = 10;
/// The number of the first descriptor of [`Machine::kept`]; the others follow.
pub const KEPT: i32 = 11;
/// The number under which a helper finds its socket.
pub const SERVED: i32 = 10;

message! {
    /// The place of a descriptor among those that came with the message.
    pub struct Fd {
        /// Counts from 0.
        pub index: u32,
    }

    /// `length` ids from `inside` on are the host's ids from `outside` on.
    pub struct IdRange {
        /// First id in the container.
        pub inside: u32,
        /// First id on the host.
        pub outside: u32,
        /// How many.
        pub length: u32,
    }

    /// A file or folder of the host, opened by keel, and its name for error texts.
    pub struct Opened {
        /// O_PATH descriptor, or an open file of a cgroup.
        pub fd: Fd,
        /// As keel opened it.
        pub path: String,
    }

    /// A mount of the instance, made in the order of the list.
    pub struct Mount {
        /// Path in the container, absolute.
        pub target: String,
        /// What is mounted.
        pub what: Mounted,
        /// `MOUNT_ATTR_…` bits.
        pub attributes: u64,
    }

    /// A device node bound into the container's `/dev`.
    pub struct Device {
        /// The node on the host; its owner and mode are those the container sees.
        pub node: Opened,
        /// Path in the container, absolute.
        pub target: String,
        /// `S_IFCHR` or `S_IFBLK`, checked before the bind.
        pub kind: u32,
        /// Checked before the bind.
        pub major: u32,
        /// Checked before the bind.
        pub minor: u32,
    }

    /// A file written into the root before the first program runs.
    pub struct File {
        /// Path in the container, absolute.
        pub target: String,
        /// All of it.
        pub content: Vec<u8>,
        /// Permission bits.
        pub mode: u32,
        /// Owner in the container.
        pub uid: u32,
        /// Group in the container.
        pub gid: u32,
        /// Make missing parent folders (0755, root).
        pub create_parents: bool,
        /// Leave an existing file alone, unless it begins with `ours`.
        pub only_if_absent: bool,
        /// How a file begins that may be replaced in any case; empty: none.
        pub ours: Vec<u8>,
    }

    /// A kernel parameter.
    pub struct Sysctl {
        /// With dots or slashes: `net.ipv4.ip_forward`.
        pub name: String,
        /// Written as it is.
        pub value: String,
    }

    /// A resource limit of the first program; `u64::MAX` is unlimited.
    pub struct ResourceLimit {
        /// `RLIMIT_…`.
        pub resource: u32,
        /// For people: `nofile`.
        pub name: String,
        /// In the unit of the resource.
        pub soft: u64,
        /// In the unit of the resource.
        pub hard: u64,
    }

    /// What holds the first program and everything executed later.
    pub struct Confinement {
        /// Bit n: capability n stays in the bounding set.
        pub capabilities: u64,
        /// `struct sock_filter`s, or nothing for no filter.
        pub seccomp: Vec<u8>,
        /// Applied to each program.
        pub limits: Vec<ResourceLimit>,
    }

    /// A program and how it begins.
    pub struct Program {
        /// Argument vector; the first is looked up in the environment's `PATH` where it has no slash.
        pub arguments: Vec<Vec<u8>>,
        /// `NAME=value` each.
        pub environment: Vec<Vec<u8>>,
        /// Absolute path in the container.
        pub directory: Vec<u8>,
        /// Id in the container.
        pub uid: u32,
        /// Id in the container.
        pub gid: u32,
        /// Supplementary groups, ids in the container.
        pub groups: Vec<u32>,
    }

    /// When and how the companion starts the instance again by itself.
    pub struct Restart {
        /// Also after an end that was not asked for from inside (a reboot always restarts).
        pub always: bool,
        /// First pause; doubles with every end within `calm` seconds.
        pub first_pause_ms: u64,
        /// Longest pause.
        pub longest_pause_ms: u64,
        /// A run this long resets the pause.
        pub calm_ms: u64,
    }

    /// Offsets of a time namespace.
    pub struct TimeOffsets {
        /// Added to CLOCK_MONOTONIC.
        pub monotonic_seconds: i64,
        /// Added to CLOCK_BOOTTIME.
        pub boottime_seconds: i64,
    }

    /// Start an instance.
    pub struct Start {
        /// For people and error texts.
        pub name: String,
        /// Number of this start of the instance, given back in its exit record.
        pub generation: u64,
        /// `/proc/sys/kernel/random/boot_id`.
        pub boot_id: String,
        /// The instance's run folder (0700): control socket, exit record, console.
        pub run_dir: Fd,
        /// No user namespace.
        pub privileged: bool,
        /// Empty when privileged.
        pub uid_map: Vec<IdRange>,
        /// Empty when privileged.
        pub gid_map: Vec<IdRange>,
        /// A time namespace of its own.
        pub time: Option<TimeOffsets>,
        /// The cgroup 2 directory that the container is born in.
        pub cgroup2: Option<Opened>,
        /// Open `tasks` of cgroup 1 that init joins.
        pub joins: Vec<Opened>,
        /// Open `tasks` of cgroup 1 that the companion joins.
        pub monitors: Vec<Opened>,
        /// The cgroup 2 directory that the companion is born in.
        pub monitor: Option<Opened>,
        /// What becomes `/`.
        pub root: Root,
        /// After the engine's own mounts, in this order.
        pub mounts: Vec<Mount>,
        /// After the mounts.
        pub devices: Vec<Device>,
        /// After the devices.
        pub files: Vec<File>,
        /// How `/proc/sys` can be written.
        pub proc: Access,
        /// How `/sys` can be written.
        pub sys: Access,
        /// How the delegated `/sys/fs/cgroup` can be written.
        pub cgroup: Access,
        /// `sethostname`.
        pub hostname: String,
        /// Written after keel has plugged the network.
        pub sysctls: Vec<Sysctl>,
        /// Capabilities, seccomp, limits.
        pub confinement: Confinement,
        /// The container's PID 1.
        pub init: Program,
        /// Absent: the companion ends with the instance.
        pub restart: Option<Restart>,
    }

    /// A file or folder of the host in the root of a machine's process.
    pub struct Visible {
        /// Opened by keel.
        pub source: Opened,
        /// Where it is seen, absolute.
        pub target: String,
    }

    /// A symbolic link in the root of a machine's process.
    pub struct Link {
        /// Absolute; its folder is `/`.
        pub path: String,
        /// What it says.
        pub target: String,
    }

    /// Start a virtual machine.
    pub struct Machine {
        /// For people and error texts.
        pub name: String,
        /// Number of this start of the instance, given back in its exit record.
        pub generation: u64,
        /// `/proc/sys/kernel/random/boot_id`.
        pub boot_id: String,
        /// The instance's run folder (0700): control socket, exit record, console.
        pub run_dir: Fd,
        /// The cgroup 2 directory that the process is born in.
        pub cgroup2: Option<Opened>,
        /// Open `tasks` of cgroup 1 that it joins.
        pub joins: Vec<Opened>,
        /// Open `tasks` of cgroup 1 that the companion joins.
        pub monitors: Vec<Opened>,
        /// The cgroup 2 directory that the companion is born in.
        pub monitor: Option<Opened>,
        /// What the process sees of the host, read-only. There is nothing else in its root.
        pub visible: Vec<Visible>,
        /// Beside that.
        pub links: Vec<Link>,
        /// Device nodes.
        pub devices: Vec<Device>,
        /// Limits of the process.
        pub limits: Vec<ResourceLimit>,
        /// The emulator; its ids are the host's.
        pub program: Program,
        /// The descriptors that it is given, beside its standard ones: numbers from [`KEPT`] on.
        pub kept: Vec<Kept>,
        /// Processes beside it, which run before it does.
        pub helpers: Vec<Helper>,
        /// Absent: the companion ends with the instance.
        pub restart: Option<Restart>,
    }

    /// A process that serves a part of a machine over a socket, in namespaces and a root of its own.
    pub struct Helper {
        /// For people and error texts: `virtiofsd`.
        pub name: String,
        /// The device that it serves.
        pub device: String,
        /// How it gets to its socket, under the number [`SERVED`].
        pub meets: Meets,
        /// Its ids are mapped to those of the host in a user namespace of its own; empty: it has none.
        pub ids: Vec<IdRange>,
        /// What it sees of the host, read-only.
        pub visible: Vec<Visible>,
        /// Beside that.
        pub links: Vec<Link>,
        /// Device nodes.
        pub devices: Vec<Device>,
        /// What it works on.
        pub folder: Worked,
        /// Whether it has a `/proc` of its own processes.
        pub proc: bool,
        /// Bit n: capability n stays in its bounding set.
        pub capabilities: u64,
        /// Limits of the process.
        pub limits: Vec<ResourceLimit>,
        /// What it runs; ids are those of its user namespace, where it has one.
        pub program: Program,
    }

    /// The folder that a helper works on.
    pub struct Worked {
        /// Opened by keel.
        pub source: Opened,
        /// Where the helper finds it, absolute.
        pub target: String,
        /// `MOUNT_ATTR_…` bits.
        pub attributes: u64,
        /// With what is mounted below it.
        pub recursive: bool,
        /// Owners shifted by the ids of the helper.
        pub shift: bool,
    }

    /// Do something in a running instance.
    pub struct Enter {
        /// pidfd of the instance's init.
        pub init: Fd,
        /// Whether there is a user namespace to enter.
        pub privileged: bool,
        /// Whether there is a time namespace to enter.
        pub time: bool,
        /// The cgroup 2 directory to be born in.
        pub cgroup2: Option<Opened>,
        /// Open `tasks` of cgroup 1 to be joined.
        pub joins: Vec<Opened>,
        /// Capabilities, seccomp, limits: as init has them.
        pub confinement: Confinement,
        /// What is done there.
        pub work: Work,
    }
}

choice! {
    /// A descriptor that a machine is given.
    pub enum Kept {
        /// One that came with the message.
        0 => Given {
            /// Which.
            fd: Fd,
        },
        /// The end of the socket of a helper.
        1 => Helper {
            /// Its place among the helpers.
            index: u32,
        },
    }

    /// How a helper and its machine meet.
    pub enum Meets {
        /// It accepts one connection, which waits already.
        0 => Listening,
        /// It is connected.
        1 => Connected,
    }

    /// What a new process in a running instance does.
    pub enum Work {
        /// It becomes a program.
        0 => Program {
            /// What to run.
            program: Program,
            /// Where it reads and writes.
            streams: Streams,
        },
        /// It writes files as the container's root and ends; nothing of the image is executed.
        1 => Files {
            /// In this order.
            files: Vec<File>,
        },
    }
}

choice! {
    /// What becomes `/`.
    pub enum Root {
        /// An overlay, mounted inside the user namespace.
        0 => Overlay {
            /// Read-only layers, the uppermost first.
            layers: Vec<Opened>,
            /// Folder with `upper` and `work`.
            writable: Opened,
        },
        /// One tree, for instance a subvolume.
        1 => Tree {
            /// Its top.
            tree: Opened,
        },
    }

    /// What is mounted at a target.
    pub enum Mounted {
        /// A file or folder of the host.
        0 => Bind {
            /// Opened by keel.
            source: Opened,
            /// Owners shifted by the container's map; otherwise the host's ids show as nobody.
            shift: bool,
            /// With what is mounted below it.
            recursive: bool,
            /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`.
            propagation: u64,
        },
        /// A tmpfs of the container's own.
        1 => Tmpfs {
            /// `size=64m`, `mode=1777`, … as `tmpfs(5)`, each a key and a value.
            options: Vec<Sysctl>,
        },
    }

    /// How much of a kernel file system can be written.
    pub enum Access {
        /// What concerns the container alone can.
        0 => Mixed,
        /// Nothing can.
        1 => ReadOnly,
        /// What the kernel lets the container's root write.
        2 => ReadWrite,
    }

    /// Standard input, output and error of an executed program.
    pub enum Streams {
        /// A new terminal of the container's own devpts.
        0 => Terminal {
            /// Height in characters.
            rows: u16,
            /// Width in characters.
            columns: u16,
        },
        /// Pipes or sockets made by keel; never a file or terminal of the host.
        1 => Pipes {
            /// Read end.
            input: Fd,
            /// Write end.
            output: Fd,
            /// Write end.
            errors: Fd,
        },
    }

    /// From keel, first.
    pub enum Order {
        /// Start an instance and supervise it.
        0 => Start {
            /// All that is needed, also for a restart.
            start: Box<Start>,
        },
        /// Run a program in an instance and report its end.
        1 => Enter {
            /// All that is needed.
            enter: Box<Enter>,
        },
        /// Start a virtual machine and supervise it.
        2 => Machine {
            /// All that is needed, also for a restart.
            machine: Box<Machine>,
        },
    }

    /// From the companion while an instance starts.
    pub enum Event {
        /// Init exists, in its namespaces, and waits; keel may plug its network and must then say [`Answer::Go`].
        /// With the pidfd of init.
        0 => Cloned {
            /// In the host's view.
            init: i32,
            /// Pid of the companion.
            shim: i32,
        },
        /// The first program runs.
        1 => Started {
            /// What the host did not grant, for people.
            warnings: Vec<String>,
        },
        /// It could not be started; nothing of it is left.
        2 => Failed {
            /// The call and what it was made on.
            doing: String,
            /// The kernel's answer.
            errno: i32,
        },
        /// An executed program runs. With its pidfd, and the pty master where it has a terminal.
        3 => Entered {
            /// In the host's view.
            pid: i32,
        },
        /// An executed program has ended.
        4 => Ended {
            /// Exit code, or 128 plus the signal.
            status: i32,
        },
    }

    /// From keel, later.
    pub enum Answer {
        /// The network is plugged and the start is written down: run the first program.
        0 => Go,
    }

    /// From the companion to the new init.
    pub enum Step {
        /// The id maps are written; with the descriptors of all trees.
        0 => Prepared,
        /// Keel said go.
        1 => Go,
    }

    /// From the new init (or the program to be executed) to the companion.
    pub enum Progress {
        /// All is mounted; with the pty master.
        0 => Ready {
            /// What the host did not grant, for people.
            warnings: Vec<String>,
        },
        /// It goes no further.
        1 => Failed {
            /// The call and what it was made on.
            doing: String,
            /// The kernel's answer.
            errno: i32,
        },
    }
}

impl Restart {
    /// Half a second to a minute between starts; ten seconds are a run that lasted.
    pub fn usual(always: bool) -> Self {
        Self {
            always,
            first_pause_ms: 500,
            longest_pause_ms: 60_000,
            calm_ms: 10_000,
        }
    }
}

impl<T: super::wire::Wire> super::wire::Wire for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn take(from: &mut &[u8]) -> Result<Self, super::wire::WireError> {
        T::take(from).map(Self::new)
    }
}
