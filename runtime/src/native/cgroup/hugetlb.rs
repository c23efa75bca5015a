//! Huge pages by size: `hugetlb.2MB.limit_in_bytes` (v1) or `hugetlb.2MB.max` (v2).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::hierarchies::{Controller, Version};
use super::limits::{FileWrite, LimitPart, Seen};
use super::part::Part;
use super::snapshot::{View, ceiling, or_max};

pub(super) struct HugePages;

/// v1 shows "no limit" as the largest multiple of the huge page below 2^63.
const V1_UNLIMITED: u64 = 1 << 62;

/// The size as the kernel writes it in file names (`mem_fmt` in mm/hugetlb_cgroup.c).
fn label(bytes: u64) -> String {
    if bytes >= 1 << 30 {
        format!("{}GB", bytes >> 30)
    } else if bytes >= 1 << 20 {
        format!("{}MB", bytes >> 20)
    } else {
        format!("{}KB", bytes >> 10)
    }
}

fn file(view: &View<'_>, size: u64) -> String {
    match view.place.version {
        Version::V1 => format!("hugetlb.{}.limit_in_bytes", label(size)),
        Version::V2 => format!("hugetlb.{}.max", label(size)),
    }
}

impl Part for HugePages {
    type Meaning = BTreeMap<u64, u64>;
    /// By size; sizes without a limit are not in it.
    type Raw = BTreeMap<u64, u64>;

    const PART: LimitPart = LimitPart::Hugepages;
    const CONTROLLER: Controller = Controller::Hugetlb;

    fn files(view: &View<'_>) -> Vec<PathBuf> {
        view.host
            .huge_pages
            .iter()
            .map(|size| view.place.payload.join(file(view, *size)))
            .collect()
    }

    fn read(view: &View<'_>) -> Result<Self::Raw, String> {
        let mut raw = BTreeMap::new();
        for size in &view.host.huge_pages {
            let limit = ceiling(view.needed(&file(view, *size))?)?;
            if let Some(bytes) = limit.filter(|bytes| *bytes < V1_UNLIMITED) {
                raw.insert(*size, bytes);
            }
        }
        Ok(raw)
    }

    fn encode(
        view: &View<'_>,
        meaning: &Self::Meaning,
        _: &Self::Raw,
    ) -> Result<Self::Raw, String> {
        let mut raw = BTreeMap::new();
        for (size, bytes) in meaning {
            if !view.host.huge_pages.contains(size) {
                let sizes: Vec<String> = view.host.huge_pages.iter().map(|s| label(*s)).collect();
                return Err(format!(
                    "this host has no huge pages of {size} bytes (it has {})",
                    sizes.join(", ")
                ));
            }
            raw.insert(*size, bytes / size * size);
        }
        Ok(raw)
    }

    fn decode(_: &View<'_>, raw: &Self::Raw) -> Seen<Self::Meaning> {
        Seen::Known(raw.clone())
    }

    fn writes(view: &View<'_>, from: &Self::Raw, to: &Self::Raw) -> Vec<FileWrite> {
        view.host
            .huge_pages
            .iter()
            .filter(|size| from.get(size) != to.get(size))
            .map(|size| {
                let limit = to.get(size).copied();
                let value = match (view.place.version, limit) {
                    (Version::V1, None) => "-1".to_owned(),
                    (_, limit) => or_max(limit),
                };
                FileWrite {
                    undo: Some(match (view.place.version, from.get(size)) {
                        (Version::V1, None) => "-1".to_owned(),
                        (_, limit) => or_max(limit.copied()),
                    }),
                    ..FileWrite::file(view.place.payload.join(file(view, *size)), value)
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_named_as_the_kernel_names_them() {
        for (bytes, name) in [
            (64 << 10, "64KB"),
            (1 << 20, "1MB"),
            (2 << 20, "2MB"),
            (512 << 20, "512MB"),
            (1 << 30, "1GB"),
        ] {
            assert_eq!(label(bytes), name);
        }
    }
}
