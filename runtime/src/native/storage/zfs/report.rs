//! What `zfs` and `zpool` tell.

use std::collections::BTreeMap;

use super::arguments::{BEFORE, FILLS, MARK};

/// A dataset of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Bytes that it may hold itself; `None`: as many as there are.
    pub(super) limit: Option<u64>,
    /// Bytes with its snapshots and all below it.
    pub(super) used: u64,
    /// Bytes that it holds itself.
    pub(super) referenced: u64,
    /// Bytes that it could take still.
    pub(super) available: u64,
    /// Bytes since its last snapshot.
    pub(super) written: u64,
}

/// The datasets of a list by their last words; the pool itself has none.
pub(super) fn rows(text: &str, base: &str) -> BTreeMap<String, Row> {
    text.lines()
        .filter_map(|line| {
            let mut cells = line.split('\t');
            let name = cells.next()?.strip_prefix(base)?;
            let leaf = name.strip_prefix('/').unwrap_or(name).to_owned();
            let mut number = || cells.next()?.parse::<u64>().ok();
            let limit = number()?;
            let row = Row {
                limit: (limit > 0).then_some(limit),
                used: number()?,
                referenced: number()?,
                available: number()?,
                written: number().unwrap_or(0),
            };
            Some((leaf, row))
        })
        .collect()
}

/// A snapshot of a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its whole name.
    pub(super) name: String,
    /// Whether it goes as soon as nobody needs it.
    pub(super) goes: bool,
    /// The datasets that were made of it.
    pub(super) clones: Vec<String>,
}

/// The snapshots of a list, the oldest first.
pub(super) fn snapshots(text: &str) -> Vec<Kept> {
    text.lines()
        .filter_map(|line| {
            let mut cells = line.split('\t');
            let name = cells.next()?.to_owned();
            let goes = cells.next()? == "on";
            let clones = cells.next().unwrap_or_default().split(',');
            let clones = clones.filter(|clone| !clone.is_empty() && *clone != "-");
            Some(Kept {
                name,
                goes,
                clones: clones.map(str::to_owned).collect(),
            })
        })
        .collect()
}

/// What a dataset is as a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Whose it is.
    pub(super) mark: Option<String>,
    /// Whether the mark is that of something that it lies in.
    pub(super) inherited: bool,
    /// Whether it is encrypted, and its key not there.
    pub(super) locked: bool,
    /// Where it is mounted, and why: `local /srv/keel`, `default /tank`.
    pub(super) mountpoint: String,
    /// The same before it became a pool; `None`: it was made for that.
    pub(super) before: Option<String>,
    /// Bytes of the file that its zpool fills.
    pub(super) fills: Option<u64>,
}

/// Reads the properties that [`look`](super::arguments::look) asks for.
pub(super) fn found(text: &str) -> Found {
    let mut found = Found::default();
    for line in text.lines() {
        let mut cells = line.splitn(3, '\t');
        let (Some(property), Some(value)) = (cells.next(), cells.next()) else {
            continue;
        };
        let source = cells.next().unwrap_or_default();
        match property {
            "mountpoint" => found.mountpoint = format!("{source} {value}"),
            "keystatus" => found.locked = value == "unavailable",
            _ if value == "-" => {}
            MARK => {
                found.mark = Some(value.to_owned());
                found.inherited = source != "local";
            }
            BEFORE if source == "local" => found.before = Some(value.to_owned()),
            FILLS if source == "local" => found.fills = value.parse().ok(),
            _ => {}
        }
    }
    found
}

/// The names of the zpools that a device holds.
pub(super) fn importable(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim_start);
    lines
        .filter_map(|line| line.strip_prefix("pool: "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_told_by_their_last_words() {
        let text = "p\t0\t4096\t2048\t9000\t2048\n\
                    p/keel_1\t1048576\t98304\t24576\t950272\t12\n\
                    p/keel_2\t0\t98304\t24576\t950272\t0\n\
                    nonsense\n";
        let rows = rows(text, "p");
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[""].available, 9000);
        assert_eq!(rows["keel_1"].limit, Some(1 << 20));
        assert_eq!((rows["keel_1"].used, rows["keel_1"].written), (98304, 12));
        assert_eq!(rows["keel_2"].limit, None);
    }

    #[test]
    fn snapshots_tell_who_lies_on_them() {
        let text = "p/a@one\ton\tp/b,p/c\np/a@two\toff\t\np/a@three\toff\t-\n";
        let kept = snapshots(text);
        assert_eq!(kept[0].clones, ["p/b", "p/c"]);
        assert!(kept[0].goes && !kept[1].goes);
        assert!(kept[1].clones.is_empty() && kept[2].clones.is_empty());
    }

    #[test]
    fn a_mark_of_something_above_is_no_mark_of_its_own() {
        let text = "mountpoint\t/tank/keel\tinherited from tank\n\
                    keystatus\tunavailable\t-\n\
                    org.evenkeel:mark\tkeel:s:u\tinherited from tank\n\
                    org.evenkeel:mountpoint\t-\t-\n\
                    org.evenkeel:size\t4096\tlocal\n";
        let seen = found(text);
        assert_eq!(seen.mark.as_deref(), Some("keel:s:u"));
        assert!(seen.inherited && seen.locked);
        assert_eq!(seen.mountpoint, "inherited from tank /tank/keel");
        assert_eq!((seen.before, seen.fills), (None, Some(4096)));
    }

    #[test]
    fn zpools_on_a_device_are_found() {
        let text = "   pool: tank\n     id: 17\n  state: ONLINE\n action: The pool can be imported …\n config:\n\n\ttank ONLINE\n\n   pool: other\n";
        assert_eq!(importable(text), ["tank", "other"]);
    }
}
