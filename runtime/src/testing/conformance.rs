//! What every engine must do, whichever it is: one suite, which the fake, this host and a server of Incus pass.

use std::path::Path;

use manifests::action::{Power, Verb};
use manifests::id::{Address, Uid};
use manifests::kind::Kind;
use manifests::observed::Item;
use serde_json::{Value, json};

use super::wanted::Wanted;
use crate::error::Class;
use crate::runtime::{Effected, Runtime};

/// Objects of one test: a pool, a bridge, an image, and an instance on them.
struct Suite<'a> {
    engine: &'a dyn Runtime,
    wanted: Wanted,
    pool: Address,
    network: Address,
    image: Address,
    instance: Address,
}

/// Runs all of it. `name` begins the names of what is made, and `net` is the second number of its addresses: others may
/// use the same engine meanwhile. At the end nothing of it is left.
///
/// # Panics
/// Something is not as the trait says.
pub fn conforms(engine: &dyn Runtime, root: &Path, name: &str, net: u8) {
    let mut suite = Suite::new(engine, root, name, net);
    suite.is_made_as_wanted_and_seen_so();
    suite.changes_are_seen_and_made_again_without_harm();
    suite.is_switched();
    suite.is_touched_under_its_own_identity_only();
    suite.is_let_go_of_and_taken_over();
    suite.lies_in_the_trash_and_comes_back();
    suite.has_another_name();
    suite.goes_for_good();
}

impl<'a> Suite<'a> {
    fn new(engine: &'a dyn Runtime, root: &Path, name: &str, net: u8) -> Self {
        let mut wanted = Wanted::new(root);
        let pool = Address::new(Kind::StoragePool, format!("{name}-pool"));
        let pool = wanted.want(pool, &json!({}));
        let network =
            json!({"ipv4": {"address": format!("10.{net}.0.1/24")}, "ipv6": {"address": "none"}});
        let network = wanted.want(Address::new(Kind::Network, format!("{name}0")), &network);
        let image = json!({"source": {"builtin": "busybox"}});
        let image = wanted.want(Address::new(Kind::Image, name), &image);
        let instance = json!({
            "image": name,
            "state": "Running",
            "limits": {"memory": "64MiB", "processes": 100},
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": format!("{name}-pool")},
                "eth0": {"type": "nic", "network": format!("{name}0"), "ipv4": format!("10.{net}.0.10")},
            },
        });
        let instance = wanted.want(
            Address::new(Kind::Instance, format!("{name}-one")),
            &instance,
        );
        Self {
            engine,
            wanted,
            pool,
            network,
            image,
            instance,
        }
    }

    fn all(&self) -> [&Address; 4] {
        [&self.pool, &self.network, &self.image, &self.instance]
    }

    #[track_caller]
    fn perform(&self, address: &Address, verb: Verb) -> Effected {
        self.wanted.perform(self.engine, address, verb)
    }

    #[track_caller]
    fn as_wanted(&self) {
        assert_eq!(self.wanted.differences(self.engine), Vec::<String>::new());
    }

    #[track_caller]
    fn item(&self) -> Item {
        Wanted::look(self.engine, &self.instance)
    }

    /// The observed object under a name, and whether it lies in the trash.
    #[track_caller]
    fn observed(&self, address: &Address) -> (Option<Item>, bool) {
        let seen = match self.engine.observe() {
            Ok(seen) => seen,
            Err(error) => panic!("observed: {error:?}"),
        };
        let uid = Wanted::uid(address);
        let lies = seen.trash.iter().any(|one| one.mark.uid == uid);
        let item = seen.items.into_iter().find(|one| one.address == *address);
        (item, lies)
    }

    /// Wants another value of the instance.
    #[track_caller]
    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let mut spec = self.wanted.desired.resources[&self.instance]
            .spec
            .to_value();
        change(&mut spec);
        self.wanted.want(self.instance.clone(), &spec);
    }

    fn is_made_as_wanted_and_seen_so(&self) {
        for address in self.all() {
            let seen = self.engine.look(address);
            assert!(
                matches!(seen, Ok(None)),
                "{address} before it is made: {seen:?}"
            );
            // What is not there is gone already.
            self.perform(address, Verb::Delete);
        }
        for address in self.all() {
            assert_eq!(
                self.perform(address, Verb::Create),
                Effected::Done,
                "{address}"
            );
        }
        self.as_wanted();
        // After a crash it is told again.
        for address in self.all() {
            self.perform(address, Verb::Create);
        }
        self.as_wanted();
        for address in self.all() {
            let (observed, _) = self.observed(address);
            let looked = Wanted::look(self.engine, address);
            let mark = looked.mark.as_ref();
            assert_eq!(
                mark.map(|mark| mark.uid),
                Some(Wanted::uid(address)),
                "{address}"
            );
            assert!(looked.complete, "{address}");
            let observed = observed.map(|item| (item.mark, item.remembered, item.spec));
            assert_eq!(
                observed,
                Some((looked.mark, looked.remembered, looked.spec))
            );
        }
    }

    fn changes_are_seen_and_made_again_without_harm(&mut self) {
        self.edit(|spec| {
            spec["limits"]["memory"] = json!("96MiB");
            spec["description"] = json!("another");
        });
        let changes = self.wanted.changes(self.engine, &self.instance);
        let fields: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(fields, ["/spec/description", "/spec/limits/memory"]);
        for _ in 0..2 {
            let changes = changes.clone();
            self.perform(&self.instance, Verb::Update { changes });
            self.as_wanted();
        }
    }

    fn is_switched(&self) {
        let state = |item: &Item| item.spec.to_value()["state"].clone();
        for (power, wanted) in [
            (Power::Start, "Running"),
            (Power::Kill, "Stopped"),
            (Power::Kill, "Stopped"),
            (Power::Start, "Running"),
            (Power::Freeze, "Frozen"),
            (Power::Freeze, "Frozen"),
            (Power::Unfreeze, "Running"),
            (Power::Restart, "Running"),
        ] {
            self.perform(&self.instance, Verb::Power { power });
            assert_eq!(state(&self.item()), wanted, "after {power:?}");
        }
        self.as_wanted();
    }

    fn is_touched_under_its_own_identity_only(&self) {
        let (engine, address) = (self.engine, &self.instance);
        let other = Uid::nobody(7);
        let as_another = |verb| self.wanted.tried_as(engine, address, verb, other, None);
        // Refused, or nothing of that identity is there to delete.
        let answer = as_another(Verb::Delete);
        let is_refused = matches!(answer, Err((Class::Conflict, _)));
        assert!(is_refused || answer.is_ok(), "{answer:?}");
        self.as_wanted();
        let mark = self.item().mark;
        assert_eq!(mark.map(|mark| mark.uid), Some(Wanted::uid(address)));
    }

    fn is_let_go_of_and_taken_over(&self) {
        for address in self.all() {
            for _ in 0..2 {
                self.perform(address, Verb::Forget);
                assert_eq!(Wanted::look(self.engine, address).mark, None, "{address}");
            }
        }
        for address in self.all() {
            for _ in 0..2 {
                self.perform(address, Verb::Adopt);
                let mark = Wanted::look(self.engine, address).mark;
                let uid = mark.map(|mark| mark.uid);
                assert_eq!(uid, Some(Wanted::uid(address)), "{address}");
            }
        }
        self.as_wanted();
    }

    fn lies_in_the_trash_and_comes_back(&self) {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let expires_at = at + jiff::SignedDuration::from_hours(24);
        for _ in 0..2 {
            self.perform(&self.instance, Verb::Trash { at, expires_at });
            assert_eq!(self.observed(&self.instance), (None, true));
            assert!(matches!(self.engine.look(&self.instance), Ok(None)));
        }
        for _ in 0..2 {
            self.perform(&self.instance, Verb::Restore);
            let (item, lies) = self.observed(&self.instance);
            assert!(item.is_some() && !lies, "{item:?}");
        }
        let power = Power::Start;
        self.perform(&self.instance, Verb::Power { power });
        self.as_wanted();
    }

    fn has_another_name(&mut self) {
        let from = self.instance.clone();
        let uid = Wanted::uid(&from);
        let mut to = from.clone();
        to.name.push_str("-new");
        let power = Power::Kill;
        self.perform(&from, Verb::Power { power });
        let spec = self.wanted.desired.resources[&from].spec.to_value();
        self.wanted.want(to.clone(), &spec);
        let renamed = |to: &Address, from: &Address| {
            let verb = Verb::Rename { from: from.clone() };
            let answer = self.wanted.tried_as(self.engine, to, verb, uid, None);
            assert!(answer.is_ok(), "{answer:?}");
            assert!(matches!(self.engine.look(from), Ok(None)), "{from}");
            let mark = Wanted::look(self.engine, to).mark;
            assert_eq!(mark.map(|mark| mark.uid), Some(uid));
        };
        for _ in 0..2 {
            renamed(&to, &from);
        }
        renamed(&from, &to);
        self.wanted.desired.resources.remove(&to);
    }

    fn goes_for_good(&self) {
        // What is used stays.
        let answer = self.wanted.tried(self.engine, &self.pool, Verb::Delete);
        assert!(answer.is_err(), "a pool that is used: {answer:?}");
        let at = jiff::Timestamp::UNIX_EPOCH;
        self.perform(&self.instance, Verb::Trash { at, expires_at: at });
        for _ in 0..2 {
            for address in [&self.instance, &self.image, &self.network, &self.pool] {
                self.perform(address, Verb::Delete);
                assert_eq!(self.observed(address), (None, false), "{address}");
            }
        }
    }
}
