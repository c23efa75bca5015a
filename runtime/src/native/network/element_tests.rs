//! Host tests: what netlink writes into sets is what nft would have written.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::NetworkPlan;
use super::host_tests::{network, port};
use super::nft::{Firewall, FirewallSeen};
use super::ruleset::{Table, change_of_elements, tables};
use crate::sys::netlink::Tables;

/// The rules of one network, kept as the driver keeps them.
struct Rules {
    firewall: Firewall,
    folder: tempfile::TempDir,
}

impl Rules {
    fn record(&self) -> PathBuf {
        self.folder.path().join("lan.nft")
    }

    fn tables(plan: &NetworkPlan) -> [Table; 2] {
        tables("0a1b2c3d", plan)
    }

    /// Makes them as planned, in one commit, and compares all with what nft lists.
    #[track_caller]
    fn become_as(&self, plan: &NetworkPlan) {
        let tables = Self::tables(plan);
        let before = generation();
        let changed = self.firewall.ensure(&tables, &plan.mark, &self.record());
        assert!(changed.unwrap());
        assert_eq!(generation(), before + 1);
        assert!(
            !self
                .firewall
                .ensure(&tables, &plan.mark, &self.record())
                .unwrap()
        );
        // Without its record it reads them all.
        manifests::path_io::remove_file(self.record()).unwrap();
        let seen = self.firewall.seen(&tables, &plan.mark, &self.record());
        assert_eq!(seen.unwrap(), FirewallSeen::Same);
    }
}

fn generation() -> u32 {
    Tables::open().unwrap().generation().unwrap().unwrap()
}

/// A network with instances of these numbers.
fn with(numbers: std::ops::Range<u16>) -> NetworkPlan {
    let ports = numbers.map(|number| {
        let [high, low] = number.to_be_bytes();
        port(&format!("web-{number}"), [10, 20, high, low])
    });
    network("lan", ports.collect())
}

/// The change from one plan to another.
fn change(from: &NetworkPlan, to: &NetworkPlan) -> Vec<crate::sys::netlink::ElementChange> {
    let (from, to) = (Rules::tables(from), Rules::tables(to));
    let empty = BTreeSet::new();
    let change = change_of_elements(&to, |family, set| {
        let table = from.iter().find(|table| table.family == family);
        let set = table.and_then(|table| table.sets.iter().find(|known| known.name == set));
        set.map_or(&empty, |set| &set.elements)
    });
    change.unwrap()
}

crate::host_test! {
    fn elements_come_and_go_by_netlink() {
        let rules = Rules { firewall: Firewall::default(), folder: tempfile::tempdir().unwrap() };
        rules.become_as(&with(1..3));
        // Some go, some stay, some come; many of them at once too.
        rules.become_as(&with(2..5));
        rules.become_as(&with(4..2500));
        rules.become_as(&with(7..8));
        // Somebody's commit makes the record old.
        crate::sys::command::run("nft", ["add", "table", "inet", "other"], None).unwrap();
        rules.become_as(&with(8..9));
    }
}

crate::host_test! {
    fn a_change_of_elements_is_done_as_a_whole_or_not_at_all() {
        let rules = Rules { firewall: Firewall::default(), folder: tempfile::tempdir().unwrap() };
        let plan = with(1..3);
        rules.become_as(&plan);
        let refused = |generation: u32, from: &NetworkPlan, to: &NetworkPlan| {
            let mut netlink = Tables::open().unwrap();
            let refusal = netlink.change_elements(generation, &change(from, to)).unwrap_err();
            (refusal.raw_os_error(), refusal.to_string())
        };
        let now = generation();
        // Another generation, an element that is not there, a table that is not there.
        let (number, _) = refused(now - 1, &plan, &with(1..4));
        assert_eq!(number, Some(libc::ERESTART));
        let (number, words) = refused(now, &with(1..4), &with(5..6));
        assert_eq!(number, Some(libc::ENOENT));
        assert!(words.starts_with("could not change elements of set mac of nftables table keel_0a1b2c3d_lan"), "{words}");
        assert_eq!(generation(), now);
        let seen = rules.firewall.seen(&Rules::tables(&plan), &plan.mark, &rules.record());
        assert_eq!(seen.unwrap(), FirewallSeen::Same);
        crate::sys::command::run("nft", ["flush", "ruleset"], None).unwrap();
        let (number, _) = refused(generation(), &plan, &with(1..4));
        assert_eq!(number, Some(libc::ENOENT));
    }
}
