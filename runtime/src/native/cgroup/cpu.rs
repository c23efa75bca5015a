//! CPU time: a weight among instances and a quota, `cpu.shares`, `cpu.cfs_*_us` (v1) or `cpu.weight`, `cpu.max` (v2).
//!
//! Allowance and priority of Incus are one weight for the kernel. Instances compete only with each other (they share
//! the parent `keel-<state>`), so the scale is ours: 100 a percent less 9 for each priority below 10. That fits both
//! generations (2 to 262144 and 1 to 10000), is proportional as Incus' is, and no two wishes give one number.

use std::path::PathBuf;

use super::hierarchies::{Controller, Version};
use super::limits::{CpuAllowance, CpuShare, FileWrite, LimitPart, Seen};
use super::part::Part;
use super::snapshot::{View, ceiling, or_max};

pub(super) struct Share;

/// The files' values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    weight: u64,
    /// Quota and period, if there is one.
    quota: Option<(u64, u64)>,
}

const PERCENT: u64 = 100;
const PRIORITY: u64 = 9;

fn weight(share: &CpuShare) -> Result<u64, String> {
    let percent = match share.allowance {
        CpuAllowance::Soft(percent) => u64::from(percent),
        CpuAllowance::Hard { .. } => 100,
    };
    if !(1..=100).contains(&percent) {
        return Err(format!("{percent}% is not between 1% and 100%"));
    }
    if share.priority > 10 {
        return Err(format!(
            "priority {} is not between 0 and 10",
            share.priority
        ));
    }
    Ok(percent * PERCENT - (10 - u64::from(share.priority)) * PRIORITY)
}

/// Percent and priority of a weight that [`weight`] can give.
fn unweight(weight: u64) -> Option<(u8, u8)> {
    let percent = weight.div_ceil(PERCENT);
    let short = percent * PERCENT - weight;
    if !(1..=100).contains(&percent) || !short.is_multiple_of(PRIORITY) {
        return None;
    }
    let below = u8::try_from(short / PRIORITY).ok()?;
    Some((u8::try_from(percent).ok()?, 10u8.checked_sub(below)?))
}

fn weight_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "cpu.shares",
        Version::V2 => "cpu.weight",
    }
}

impl Part for Share {
    type Meaning = CpuShare;
    type Raw = Raw;

    const PART: LimitPart = LimitPart::Cpu;
    const CONTROLLER: Controller = Controller::Cpu;

    fn files(view: &View<'_>) -> Vec<PathBuf> {
        let place = view.place;
        let mut files = vec![place.instance.join(weight_file(place.version))];
        match place.version {
            Version::V1 => files.extend(
                ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|name| place.payload.join(name)),
            ),
            Version::V2 => files.push(place.payload.join("cpu.max")),
        }
        files
    }

    fn read(view: &View<'_>) -> Result<Raw, String> {
        let name = weight_file(view.place.version);
        let text = view
            .instance(name)?
            .ok_or_else(|| format!("{name} is not there"))?;
        let weight = text.parse().map_err(|_| format!("{name} says {text:?}"))?;
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("{text:?} is no number"))
        };
        let quota = match view.place.version {
            // A kernel without CFS_BANDWIDTH has neither file and limits nothing.
            Version::V1 => match (
                view.payload("cpu.cfs_quota_us")?,
                view.payload("cpu.cfs_period_us")?,
            ) {
                (Some(quota), Some(period)) if quota != "-1" => {
                    Some((number(quota)?, number(period)?))
                }
                _ => None,
            },
            Version::V2 => match view.payload("cpu.max")? {
                None => None,
                Some(text) => {
                    let (quota, period) = text
                        .split_once(' ')
                        .ok_or_else(|| format!("cpu.max says {text:?}"))?;
                    match ceiling(quota)? {
                        None => None,
                        Some(quota) => Some((quota, number(period)?)),
                    }
                }
            },
        };
        Ok(Raw { weight, quota })
    }

    fn encode(view: &View<'_>, meaning: &CpuShare, _: &Raw) -> Result<Raw, String> {
        let quota = match meaning.allowance {
            CpuAllowance::Soft(_) => None,
            CpuAllowance::Hard { quota, period } => {
                if quota < 1000 || !(1000..=1_000_000).contains(&period) {
                    return Err(format!(
                        "{quota}us in {period}us: the kernel takes quotas from 1ms and periods from 1ms to 1s"
                    ));
                }
                let file = match view.place.version {
                    Version::V1 => "cpu.cfs_quota_us",
                    Version::V2 => "cpu.max",
                };
                if view.payload(file)?.is_none() {
                    return Err("this kernel has no CPU quota (CONFIG_CFS_BANDWIDTH)".to_owned());
                }
                Some((quota, period))
            }
        };
        Ok(Raw {
            weight: weight(meaning)?,
            quota,
        })
    }

    fn decode(_: &View<'_>, raw: &Raw) -> Seen<CpuShare> {
        let found = unweight(raw.weight);
        match (found, raw.quota) {
            (Some((percent, priority)), None) => Seen::Known(CpuShare {
                allowance: CpuAllowance::Soft(percent),
                priority,
            }),
            (Some((100, priority)), Some((quota, period))) => Seen::Known(CpuShare {
                allowance: CpuAllowance::Hard { quota, period },
                priority,
            }),
            (_, None) => Seen::Other(format!("weight {}", raw.weight)),
            (_, Some((quota, period))) => Seen::Other(format!(
                "{quota}us of each {period}us, weight {}",
                raw.weight
            )),
        }
    }

    fn writes(view: &View<'_>, from: &Raw, to: &Raw) -> Vec<FileWrite> {
        let place = view.place;
        let mut writes = Vec::new();
        if from.weight != to.weight {
            writes.push(FileWrite::file(
                place.instance.join(weight_file(place.version)),
                to.weight.to_string(),
            ));
        }
        if from.quota == to.quota {
            return writes;
        }
        match (place.version, to.quota) {
            (Version::V1, None) => writes.push(FileWrite::file(
                place.payload.join("cpu.cfs_quota_us"),
                "-1",
            )),
            (Version::V1, Some((quota, period))) => {
                writes.push(FileWrite::file(
                    place.payload.join("cpu.cfs_period_us"),
                    period.to_string(),
                ));
                writes.push(FileWrite::file(
                    place.payload.join("cpu.cfs_quota_us"),
                    quota.to_string(),
                ));
            }
            (Version::V2, quota) => writes.push(FileWrite::file(
                place.payload.join("cpu.max"),
                match quota {
                    None => or_max(None),
                    Some((quota, period)) => format!("{quota} {period}"),
                },
            )),
        }
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_wishes_give_one_weight() {
        let mut weights = BTreeSet::new();
        for percent in 1..=100 {
            for priority in 0..=10 {
                let share = CpuShare {
                    allowance: CpuAllowance::Soft(percent),
                    priority,
                };
                let weight = weight(&share).unwrap();
                assert!(
                    (2..=10_000).contains(&weight),
                    "{weight} fits both generations"
                );
                assert!(weights.insert(weight), "{weight} is taken");
                assert_eq!(unweight(weight), Some((percent, priority)));
            }
        }
        for by_hand in [0, 1, 1024, 9_999, 10_001, 262_144] {
            assert_eq!(unweight(by_hand), None, "{by_hand}");
        }
    }
}
