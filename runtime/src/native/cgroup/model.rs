//! Properties of all limits against a model of the kernel's files: what the kernel rounds, merges and refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::hierarchies::{V1Hierarchy, V2Hierarchy};
use super::limits::{
    BlockDevice, Change, CpuAllowance, CpuChoice, CpuPlacement, CpuShare, DeviceIo, Enforce, How,
    IoLimits, MemoryLimit, Swap,
};
use super::snapshot::Reading;
use super::*;

const PAGE: u64 = 4096;

fn host() -> Host {
    Host {
        cpus: "0-7".parse().unwrap(),
        nodes: BTreeMap::from([(0, "0-3".parse().unwrap()), (1, "4-7".parse().unwrap())]),
        load: BTreeMap::from([(0, 1)]),
        huge_pages: vec![2 << 20, 1 << 30],
        page: PAGE,
    }
}

fn hierarchies(version: Version) -> Hierarchies {
    match version {
        Version::V1 => Hierarchies {
            v1: Controller::ALL
                .into_iter()
                .map(|controller| V1Hierarchy {
                    controllers: BTreeSet::from([controller]),
                    name: None,
                    base: Path::new("/cg").join(controller.v1_name()),
                })
                .collect(),
            v2: None,
        },
        Version::V2 => Hierarchies {
            v1: Vec::new(),
            v2: Some(V2Hierarchy {
                controllers: Controller::ALL.into_iter().collect(),
                base: "/cg".into(),
                mount: "/cg".into(),
            }),
        },
    }
}

/// The files of one instance as the kernel keeps them.
struct Kernel {
    cgroups: InstanceCgroups,
    snapshot: Snapshot,
    /// Bytes of memory in use.
    usage: u64,
}

impl Kernel {
    fn new(version: Version) -> Self {
        let cgroups = InstanceCgroups::of(&hierarchies(version), "s", "u");
        let unlimited = "9223372036854771712";
        let mut kernel = Self {
            snapshot: Snapshot::default(),
            usage: 0,
            cgroups,
        };
        for path in files(&kernel.cgroups, &host()) {
            let text = match path.file_name().unwrap().to_str().unwrap() {
                "cpuset.cpus" => if version == Version::V1 { "0-7" } else { "" }.to_owned(),
                "cpuset.mems" => if version == Version::V1 { "0-1" } else { "" }.to_owned(),
                "cpu.shares" => "1024".to_owned(),
                "cpu.weight" | "blkio.bfq.weight" => "100".to_owned(),
                "cpu.cfs_quota_us" => "-1".to_owned(),
                "cpu.cfs_period_us" => "100000".to_owned(),
                "cpu.max" => "max 100000".to_owned(),
                "memory.swappiness" => "60".to_owned(),
                "io.weight" => "default 100".to_owned(),
                "blkio.weight" | "io.bfq.weight" => {
                    kernel.snapshot.files.insert(path, Reading::Absent);
                    continue;
                }
                name if name.contains("throttle") || name == "io.max" => String::new(),
                name if name.ends_with("in_bytes") => unlimited.to_owned(),
                _ => "max".to_owned(),
            };
            kernel
                .snapshot
                .files
                .insert(path, Reading::Text(format!("{text}\n")));
        }
        kernel
    }

    fn text(&self, path: &Path) -> String {
        match &self.snapshot.files[path] {
            Reading::Text(text) => text.trim().to_owned(),
            other => panic!("{} is {other:?}", path.display()),
        }
    }

    fn number(&self, path: &Path) -> u64 {
        self.text(path).parse().unwrap_or(u64::MAX)
    }

    /// Writes as the kernel does.
    fn write(&mut self, path: &Path, value: &str) -> Result<(), &'static str> {
        let name = path.file_name().unwrap().to_str().unwrap();
        let page = |value: &str| match value {
            "-1" => 9_223_372_036_854_771_712,
            number => number.parse::<u64>().unwrap() / PAGE * PAGE,
        };
        let sibling = |name: &str| path.with_file_name(name);
        let text = match name {
            "memory.limit_in_bytes" => {
                let new = page(value);
                if new > self.number(&sibling("memory.memsw.limit_in_bytes")) {
                    return Err("EINVAL");
                }
                if self.usage > new {
                    return Err("EBUSY");
                }
                new.to_string()
            }
            "memory.memsw.limit_in_bytes" => {
                let new = page(value);
                if new < self.number(&sibling("memory.limit_in_bytes")) {
                    return Err("EINVAL");
                }
                if self.usage > new {
                    return Err("EBUSY");
                }
                new.to_string()
            }
            "memory.soft_limit_in_bytes" => page(value).to_string(),
            "memory.max" | "memory.high" | "memory.swap.max" if value != "max" => {
                page(value).to_string()
            }
            "cpu.max" if value == "max" => "max 100000".to_owned(),
            "io.weight" => format!("default {value}"),
            name if name.starts_with("hugetlb") && value != "max" && value != "-1" => {
                let size = if name.contains("1GB") {
                    1 << 30
                } else {
                    2 << 20
                };
                (value.parse::<u64>().unwrap() / size * size).to_string()
            }
            name if name.contains("throttle") || name == "io.max" => {
                let device = value.split(' ').next().unwrap().to_owned();
                let mut lines: Vec<String> = self
                    .text(path)
                    .lines()
                    .filter(|line| !line.starts_with(&format!("{device} ")))
                    .map(str::to_owned)
                    .collect();
                let cleared = value == format!("{device} 0")
                    || value == format!("{device} rbps=max wbps=max riops=max wiops=max");
                if !cleared {
                    lines.push(value.to_owned());
                }
                lines.join("\n")
            }
            "hugetlb.2MB.limit_in_bytes" | "hugetlb.1GB.limit_in_bytes" => {
                "9223372036852678656".to_owned()
            }
            _ => value.to_owned(),
        };
        self.snapshot
            .files
            .insert(path.to_path_buf(), Reading::Text(text));
        Ok(())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), String> {
        for change in changes {
            for write in &change.writes {
                match &write.how {
                    How::Attribute(_) => {
                        self.snapshot.meant.insert(change.part, write.value.clone());
                    }
                    How::AfterReclaim { wanted, .. } if self.usage > *wanted => {
                        return Err("held".to_owned());
                    }
                    _ => self.write(&write.path, &write.value).map_err(|error| {
                        format!("{error} for {:?} to {}", write.value, write.path.display())
                    })?,
                }
            }
        }
        Ok(())
    }

    fn changes(&self, wanted: &Limits) -> Result<Vec<Change>, LimitError> {
        changes(wanted, &self.cgroups, &self.snapshot, &host())
            .into_iter()
            .collect()
    }

    fn seen(&self) -> LimitsSeen {
        seen(&self.cgroups, &self.snapshot, &host())
    }
}

fn cpus(within: std::ops::Range<u32>) -> impl Strategy<Value = CpuList> {
    proptest::collection::btree_set(within, 1..4).prop_map(CpuList)
}

fn placement() -> impl Strategy<Value = CpuPlacement> {
    let choice = |range| {
        prop_oneof![
            Just(CpuChoice::All),
            (1u32..=4).prop_map(CpuChoice::Count),
            cpus(range).prop_map(CpuChoice::Set),
        ]
    };
    prop_oneof![
        choice(0..8).prop_map(|cpus| CpuPlacement { cpus, nodes: None }),
        choice(4..8).prop_map(|cpus| CpuPlacement {
            cpus,
            nodes: Some("1".parse().unwrap())
        }),
        choice(0..8).prop_map(|cpus| CpuPlacement {
            cpus,
            nodes: Some("0-1".parse().unwrap())
        }),
    ]
}

fn memory() -> impl Strategy<Value = MemoryLimit> {
    let bytes = proptest::option::of(PAGE..1 << 40);
    let enforce = prop_oneof![Just(Enforce::Hard), Just(Enforce::Soft)];
    let swap = prop_oneof![
        Just(Swap::Allowed),
        Just(Swap::Forbidden),
        (1u64..1 << 40).prop_map(Swap::Bytes)
    ];
    (bytes, enforce, swap).prop_map(|(bytes, enforce, swap)| MemoryLimit {
        bytes,
        enforce,
        swap,
    })
}

fn device_io() -> impl Strategy<Value = DeviceIo> {
    let limit = || proptest::option::of(1u64..1 << 40);
    (limit(), limit(), limit(), limit())
        .prop_map(
            |(read_bytes, write_bytes, read_operations, write_operations)| DeviceIo {
                read_bytes,
                write_bytes,
                read_operations,
                write_operations,
            },
        )
        .prop_filter("a device without a limit is not named", |io| {
            !io.is_unlimited()
        })
}

fn limits() -> impl Strategy<Value = Limits> {
    let allowance = prop_oneof![
        (1u8..=100).prop_map(CpuAllowance::Soft),
        (1000u64..10_000_000, 1000u64..=1_000_000)
            .prop_map(|(quota, period)| CpuAllowance::Hard { quota, period }),
    ];
    let device = (1u32..9, 0u32..3).prop_map(|(major, minor)| BlockDevice { major, minor });
    (
        placement(),
        (allowance, 0u8..=10).prop_map(|(allowance, priority)| CpuShare {
            allowance,
            priority,
        }),
        memory(),
        proptest::collection::btree_map(
            prop_oneof![Just(2u64 << 20), Just(1 << 30)],
            0u64..1 << 36,
            0..2,
        ),
        proptest::option::of(1u64..5000),
        (
            0u8..=10,
            proptest::collection::btree_map(device, device_io(), 0..3),
        )
            .prop_map(|(priority, devices)| IoLimits { priority, devices }),
    )
        .prop_map(|(cpuset, cpu, memory, hugepages, processes, io)| Limits {
            cpuset,
            cpu,
            memory,
            hugepages,
            processes,
            io,
        })
}

fn check_round_trip(version: Version, wishes: &[Limits]) -> Result<(), TestCaseError> {
    let mut kernel = Kernel::new(version);
    for wanted in wishes {
        let Ok(changes) = kernel.changes(wanted) else {
            // Only swap without a hard limit, and only on v1.
            prop_assert!(version == Version::V1);
            prop_assert!(matches!(wanted.memory.swap, Swap::Bytes(_)));
            continue;
        };
        kernel.apply(&changes).map_err(TestCaseError::fail)?;
        prop_assert_eq!(kernel.seen().all_known(), Some(wanted.clone()));
        prop_assert_eq!(kernel.changes(wanted).unwrap(), vec![]);
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_set_is_seen_on_v1(wishes in proptest::collection::vec(limits(), 1..5)) {
        check_round_trip(Version::V1, &wishes)?;
    }

    #[test]
    fn what_is_set_is_seen_on_v2(wishes in proptest::collection::vec(limits(), 1..5)) {
        check_round_trip(Version::V2, &wishes)?;
    }
}

/// A file of an instance's place.
fn file(kernel: &Kernel, name: &str) -> PathBuf {
    kernel
        .snapshot
        .files
        .keys()
        .find(|path| path.ends_with(name))
        .unwrap_or_else(|| panic!("{name}"))
        .clone()
}

#[test]
fn what_somebody_writes_by_hand_is_seen_and_put_back() {
    let wanted = Limits {
        cpuset: CpuPlacement {
            cpus: CpuChoice::Count(2),
            nodes: None,
        },
        cpu: CpuShare {
            allowance: CpuAllowance::Soft(50),
            priority: 10,
        },
        memory: MemoryLimit {
            // No multiple of a page: the kernel's number differs from ours and is the same all the same.
            bytes: Some(256_000_001),
            ..MemoryLimit::default()
        },
        processes: Some(100),
        ..Limits::default()
    };
    type Case = (
        Version,
        &'static str,
        &'static str,
        fn(&LimitsSeen) -> String,
    );
    let cases: [Case; 9] = [
        (Version::V1, "memory.limit_in_bytes", "1073741824", |seen| {
            format!("{:?}", seen.memory.known().unwrap().bytes)
        }),
        (Version::V2, "memory.max", "1073741824", |seen| {
            format!("{:?}", seen.memory.known().unwrap().bytes)
        }),
        (Version::V2, "memory.max", "max", |seen| {
            format!("{:?}", seen.memory.known().unwrap().bytes)
        }),
        (Version::V2, "memory.high", "4096", |seen| {
            format!("{:?}", seen.memory)
        }),
        (Version::V1, "pids.max", "7", |seen| {
            format!("{:?}", seen.processes)
        }),
        (Version::V1, "cpu.shares", "1024", |seen| {
            format!("{:?}", seen.cpu)
        }),
        (Version::V2, "cpu.max", "1000 2000", |seen| {
            format!("{:?}", seen.cpu)
        }),
        (Version::V1, "cpuset.cpus", "0-2", |seen| {
            format!("{:?}", seen.cpuset.known().unwrap().cpus)
        }),
        (Version::V2, "io.weight", "777", |seen| {
            format!("{:?}", seen.io)
        }),
    ];
    let expected = [
        "Some(1073741824)",
        "Some(1073741824)",
        "None",
        "Other(\"256000000 bytes hard and 4096 bytes soft\")",
        "Known(Some(7))",
        "Other(\"weight 1024\")",
        "Other(\"1000us of each 2000us, weight 5000\")",
        "Set(CpuList({0, 1, 2}))",
        "Other(\"disk weight 777\")",
    ];
    for ((version, name, text, shown), expected) in cases.into_iter().zip(expected) {
        let mut kernel = Kernel::new(version);
        let changes = kernel.changes(&wanted).unwrap();
        kernel.apply(&changes).unwrap();
        assert_eq!(kernel.seen().all_known().as_ref(), Some(&wanted));
        let path = file(&kernel, name);
        kernel.write(&path, text).unwrap_or_else(|_| {
            let memsw = file(&kernel, "memory.memsw.limit_in_bytes");
            kernel.write(&memsw, "-1").unwrap();
            kernel.write(&path, text).unwrap();
        });
        assert_eq!(shown(&kernel.seen()), expected, "{name} {text}");
        let changes = kernel.changes(&wanted).unwrap();
        assert_eq!(changes.len(), 1, "only what differs: {changes:?}");
        kernel.apply(&changes).unwrap();
        assert_eq!(kernel.seen().all_known().as_ref(), Some(&wanted));
    }
}

#[test]
fn a_count_moved_to_other_cpus_of_the_same_number_is_still_the_count() {
    let mut kernel = Kernel::new(Version::V2);
    let wanted = Limits {
        cpuset: CpuPlacement {
            cpus: CpuChoice::Count(2),
            nodes: None,
        },
        ..Limits::default()
    };
    kernel.apply(&kernel.changes(&wanted).unwrap()).unwrap();
    let path = file(&kernel, "cpuset.cpus");
    assert_eq!(kernel.text(&path), "1-2", "CPU 0 is in use");
    kernel.write(&path, "6-7").unwrap();
    assert_eq!(kernel.seen().cpuset, Seen::Known(wanted.cpuset));
}

#[test]
fn memory_grows_and_shrinks_in_the_order_the_kernel_takes() {
    const MIB: u64 = 1 << 20;
    let limit = |bytes: Option<u64>, swap| Limits {
        memory: MemoryLimit {
            bytes,
            enforce: Enforce::Hard,
            swap,
        },
        ..Limits::default()
    };
    let memory_writes = |kernel: &Kernel, wanted: &Limits| -> Vec<(String, String)> {
        let changes = kernel.changes(wanted).unwrap();
        changes
            .iter()
            .filter(|change| change.part == LimitPart::Memory)
            .flat_map(|change| &change.writes)
            .filter(|write| !matches!(write.how, How::Attribute(_)))
            .map(|write| {
                let name = write.path.file_name().unwrap().to_str().unwrap();
                (name.to_owned(), write.value.clone())
            })
            .collect()
    };
    let mut kernel = Kernel::new(Version::V1);
    let max = "memory.limit_in_bytes";
    let memsw = "memory.memsw.limit_in_bytes";
    for (wanted, expected) in [
        (
            limit(Some(64 * MIB), Swap::Bytes(MIB)),
            vec![(max, "67108864"), (memsw, "68157440")],
        ),
        (
            limit(Some(128 * MIB), Swap::Bytes(MIB)),
            vec![(memsw, "135266304"), (max, "134217728")],
        ),
        (
            limit(Some(32 * MIB), Swap::Bytes(MIB)),
            vec![(max, "33554432"), (memsw, "34603008")],
        ),
        (limit(None, Swap::Allowed), vec![(memsw, "-1"), (max, "-1")]),
    ] {
        let writes = memory_writes(&kernel, &wanted);
        let expected: Vec<(String, String)> = expected
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(writes, expected);
        kernel.apply(&kernel.changes(&wanted).unwrap()).unwrap();
    }
}

#[test]
fn a_host_without_a_controller_limits_nothing_and_says_so_when_asked() {
    let cgroups = InstanceCgroups::of(&Hierarchies::default(), "s", "u");
    let snapshot = Snapshot::default();
    let seen = seen(&cgroups, &snapshot, &host());
    assert_eq!(seen.all_known(), Some(Limits::default()));
    assert!(changes(&Limits::default(), &cgroups, &snapshot, &host()).is_empty());
    let wanted = Limits {
        processes: Some(5),
        ..Limits::default()
    };
    let answers = changes(&wanted, &cgroups, &snapshot, &host());
    assert!(
        matches!(
            answers.as_slice(),
            [Err(LimitError::Unsupported {
                part: LimitPart::Processes,
                ..
            })]
        ),
        "{answers:?}"
    );
}
