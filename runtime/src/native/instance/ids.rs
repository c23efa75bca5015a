//! Ids of a running container and of the host, by `/proc/PID/uid_map` and `gid_map` (user_namespaces(7)).

use crate::native::shim::Running;

/// The maps of one process.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    users: String,
    groups: String,
}

/// Whom files belong to whose owner has no id on the other side.
pub(super) const NOBODY: u32 = 65_534;

impl Ids {
    /// The maps of a container; empty ones where it is gone.
    pub(super) fn of(running: &Running) -> Self {
        let read = |name| running.read(name).unwrap_or_default();
        Self {
            users: read("uid_map"),
            groups: read("gid_map"),
        }
    }

    /// The container's user and group for ids of the host.
    pub(super) fn inside(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let find = |map: &str, id| translate(map, id, Side::Host).unwrap_or(NOBODY);
        (find(&self.users, uid), find(&self.groups, gid))
    }

    /// The host's user and group for ids of the container.
    pub(super) fn outside(&self, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
        Some((
            translate(&self.users, uid, Side::Container)?,
            translate(&self.groups, gid, Side::Container)?,
        ))
    }
}

/// From which side an id is translated to the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Host,
    Container,
}

fn translate(map: &str, id: u32, from: Side) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
        );
        let (here, there) = match from {
            Side::Host => (outside, inside),
            Side::Container => (inside, outside),
        };
        let offset = id.checked_sub(here).filter(|offset| *offset < count)?;
        there.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_translated_both_ways() {
        let map = "         0    1000000       1000\n      1000       1000          1\n      1001    1001001      64535\n";
        for (host, inside) in [
            (1_000_000, Some(0)),
            (1_000_999, Some(999)),
            (1000, Some(1000)),
            (1_001_001, Some(1001)),
            (0, None),
            (1_001_000, None),
        ] {
            assert_eq!(translate(map, host, Side::Host), inside, "{host}");
            if let Some(inside) = inside {
                assert_eq!(
                    translate(map, inside, Side::Container),
                    Some(host),
                    "{inside}"
                );
            }
        }
        assert_eq!(translate("0 0 4294967295\n", 7, Side::Host), Some(7));
    }
}
