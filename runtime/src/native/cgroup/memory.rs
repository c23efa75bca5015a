//! Memory and swap: `memory.limit_in_bytes`, `memory.memsw.limit_in_bytes`, `memory.soft_limit_in_bytes`,
//! `memory.swappiness` (v1) or `memory.max`, `memory.high`, `memory.swap.max` (v2).
//!
//! v1 limits memory plus swap together (`memsw`), v2 swap alone. A limit below the use is refused on both: v1 answers
//! `EBUSY` after reclaim by itself; `memory.max` would kill, so it is only written once the use is below.

use std::path::PathBuf;

use super::hierarchies::{Controller, Version};
use super::limits::{Enforce, FileWrite, How, LimitPart, MemoryLimit, Seen, Swap};
use super::part::Part;
use super::snapshot::{View, ceiling, or_max};

pub(super) struct Memory;

/// The files' values; `None` inside is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    /// `memory.limit_in_bytes`, `memory.max`.
    max: Option<u64>,
    /// `memory.soft_limit_in_bytes`, `memory.high`.
    soft: Option<u64>,
    swap: RawSwap,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RawSwap {
    /// `memory.memsw.limit_in_bytes` (absent with `swapaccount=0`) and whether `memory.swappiness` is 0.
    V1 {
        memsw: Option<Option<u64>>,
        avoid: bool,
    },
    /// `memory.swap.max` (absent without swap accounting).
    V2(Option<Option<u64>>),
}

/// v1 has no word for "no limit": it shows the largest multiple of the page size below 2^63.
const V1_UNLIMITED: u64 = 1 << 62;
/// `vm.swappiness` of a fresh kernel, written when swap is allowed again.
const SWAPPINESS: &str = "60";

const V1_MAX: &str = "memory.limit_in_bytes";
const V1_SOFT: &str = "memory.soft_limit_in_bytes";
const V1_MEMSW: &str = "memory.memsw.limit_in_bytes";
const V1_SWAPPINESS: &str = "memory.swappiness";
const V1_USAGE: &str = "memory.usage_in_bytes";
const V1_MEMSW_USAGE: &str = "memory.memsw.usage_in_bytes";

fn v1_number(text: &str) -> Result<Option<u64>, String> {
    Ok(ceiling(text)?.filter(|bytes| *bytes < V1_UNLIMITED))
}

fn v1_text(value: Option<u64>) -> String {
    value.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string())
}

impl Part for Memory {
    type Meaning = MemoryLimit;
    type Raw = Raw;

    const PART: LimitPart = LimitPart::Memory;
    const CONTROLLER: Controller = Controller::Memory;

    fn files(view: &View<'_>) -> Vec<PathBuf> {
        let names: &[&str] = match view.place.version {
            Version::V1 => &[V1_MAX, V1_SOFT, V1_MEMSW, V1_SWAPPINESS],
            Version::V2 => &["memory.max", "memory.high", "memory.swap.max"],
        };
        names
            .iter()
            .map(|name| view.place.payload.join(name))
            .collect()
    }

    fn read(view: &View<'_>) -> Result<Raw, String> {
        match view.place.version {
            Version::V1 => Ok(Raw {
                max: v1_number(view.needed(V1_MAX)?)?,
                soft: view.payload(V1_SOFT)?.map(v1_number).transpose()?.flatten(),
                swap: RawSwap::V1 {
                    memsw: view.payload(V1_MEMSW)?.map(v1_number).transpose()?,
                    avoid: view.payload(V1_SWAPPINESS)? == Some("0"),
                },
            }),
            Version::V2 => Ok(Raw {
                max: ceiling(view.needed("memory.max")?)?,
                soft: ceiling(view.needed("memory.high")?)?,
                swap: RawSwap::V2(view.payload("memory.swap.max")?.map(ceiling).transpose()?),
            }),
        }
    }

    fn encode(view: &View<'_>, meaning: &MemoryLimit, now: &Raw) -> Result<Raw, String> {
        let page = view.host.page.max(1);
        let whole = |bytes: u64| bytes / page * page;
        let bytes = meaning.bytes.map(whole);
        if bytes == Some(0) {
            return Err("less than a page of memory".to_owned());
        }
        let (max, soft) = match meaning.enforce {
            Enforce::Hard => (bytes, None),
            Enforce::Soft => (None, bytes),
        };
        let swap = match &now.swap {
            RawSwap::V1 { memsw, .. } => RawSwap::V1 {
                memsw: match (memsw, meaning.swap, max) {
                    (None, Swap::Bytes(_), _) => {
                        return Err(
                            "a size of swap needs swap accounting (boot with swapaccount=1)"
                                .to_owned(),
                        );
                    }
                    (Some(_), Swap::Bytes(_), None) => {
                        return Err(
                            "cgroup v1 limits swap only together with a hard memory limit"
                                .to_owned(),
                        );
                    }
                    (None, ..) => None,
                    (Some(_), Swap::Allowed, _) | (Some(_), Swap::Forbidden, None) => Some(None),
                    (Some(_), Swap::Forbidden, Some(max)) => Some(Some(max)),
                    (Some(_), Swap::Bytes(swap), Some(max)) => {
                        Some(Some(max.saturating_add(whole(swap))))
                    }
                },
                avoid: meaning.swap == Swap::Forbidden,
            },
            RawSwap::V2(None) if meaning.swap != Swap::Allowed => {
                return Err("this kernel does not account swap".to_owned());
            }
            RawSwap::V2(None) => RawSwap::V2(None),
            RawSwap::V2(Some(_)) => RawSwap::V2(Some(match meaning.swap {
                Swap::Allowed => None,
                Swap::Forbidden => Some(0),
                Swap::Bytes(bytes) => Some(whole(bytes)),
            })),
        };
        Ok(Raw { max, soft, swap })
    }

    fn decode(_: &View<'_>, raw: &Raw) -> Seen<MemoryLimit> {
        let (bytes, enforce) = match (raw.max, raw.soft) {
            (Some(max), Some(soft)) => {
                return Seen::Other(format!("{max} bytes hard and {soft} bytes soft"));
            }
            (Some(max), None) => (Some(max), Enforce::Hard),
            (None, Some(soft)) => (Some(soft), Enforce::Soft),
            (None, None) => (None, Enforce::Hard),
        };
        let swap = match raw.swap {
            RawSwap::V1 { memsw, avoid } => match (memsw.flatten(), raw.max) {
                (Some(both), Some(max)) if both > max => Swap::Bytes(both - max),
                (Some(_), Some(_)) => Swap::Forbidden,
                (Some(both), None) => {
                    return Seen::Other(format!("{both} bytes of memory and swap together"));
                }
                (None, _) if avoid => Swap::Forbidden,
                (None, _) => Swap::Allowed,
            },
            RawSwap::V2(max) => match max.flatten() {
                None => Swap::Allowed,
                Some(0) => Swap::Forbidden,
                Some(bytes) => Swap::Bytes(bytes),
            },
        };
        Seen::Known(MemoryLimit {
            bytes,
            enforce,
            swap,
        })
    }

    fn writes(view: &View<'_>, from: &Raw, to: &Raw) -> Vec<FileWrite> {
        match view.place.version {
            Version::V1 => v1_writes(view, from, to),
            Version::V2 => v2_writes(view, from, to),
        }
    }
}

fn v1_writes(view: &View<'_>, from: &Raw, to: &Raw) -> Vec<FileWrite> {
    let path = |name: &str| view.place.payload.join(name);
    let limited = |name: &str, usage: &str, from: Option<u64>, to: Option<u64>| FileWrite {
        path: path(name),
        value: v1_text(to),
        how: match to {
            Some(wanted) => How::RefusedWhenBusy {
                usage: path(usage),
                wanted,
            },
            None => How::File,
        },
        undo: Some(v1_text(from)),
    };
    let max = (from.max != to.max).then(|| limited(V1_MAX, V1_USAGE, from.max, to.max));
    let (memsw, growing) = match (&from.swap, &to.swap) {
        (
            RawSwap::V1 {
                memsw: Some(from), ..
            },
            RawSwap::V1 {
                memsw: Some(to), ..
            },
        ) => (
            (from != to).then(|| limited(V1_MEMSW, V1_MEMSW_USAGE, *from, *to)),
            to.unwrap_or(u64::MAX) > from.unwrap_or(u64::MAX),
        ),
        _ => (None, false),
    };
    // The kernel holds memory.limit <= memsw.limit at every moment.
    let mut writes: Vec<FileWrite> = if growing {
        memsw.into_iter().chain(max).collect()
    } else {
        max.into_iter().chain(memsw).collect()
    };
    if from.soft != to.soft {
        writes.push(FileWrite {
            undo: Some(v1_text(from.soft)),
            ..FileWrite::file(path(V1_SOFT), v1_text(to.soft))
        });
    }
    if let (RawSwap::V1 { avoid: from, .. }, RawSwap::V1 { avoid: to, .. }) = (&from.swap, &to.swap)
        && from != to
    {
        let value = if *to { "0" } else { SWAPPINESS };
        writes.push(FileWrite::file(path(V1_SWAPPINESS), value));
    }
    writes
}

fn v2_writes(view: &View<'_>, from: &Raw, to: &Raw) -> Vec<FileWrite> {
    let path = |name: &str| view.place.payload.join(name);
    let mut writes = Vec::new();
    if from.swap != to.swap
        && let (RawSwap::V2(Some(from)), RawSwap::V2(Some(to))) = (&from.swap, &to.swap)
    {
        writes.push(FileWrite {
            undo: Some(or_max(*from)),
            ..FileWrite::file(path("memory.swap.max"), or_max(*to))
        });
    }
    if from.max != to.max {
        let shrinking = to.max.unwrap_or(u64::MAX) < from.max.unwrap_or(u64::MAX);
        writes.push(FileWrite {
            path: path("memory.max"),
            value: or_max(to.max),
            how: match to.max {
                Some(wanted) if shrinking => How::AfterReclaim {
                    usage: path("memory.current"),
                    reclaim: path("memory.reclaim"),
                    high: path("memory.high"),
                    wanted,
                },
                _ => How::File,
            },
            undo: Some(or_max(from.max)),
        });
    }
    if from.soft != to.soft {
        writes.push(FileWrite::file(path("memory.high"), or_max(to.soft)));
    }
    writes
}
