//! Each key alone, as tables of them say: set by a manifest it is seen as set, changed by the server's own client that is
//! seen and put back, and taken out of the manifest it is gone.

use std::process::Command;

use manifests::action::Verb;
use manifests::id::Address;
use manifests::kind::Kind;
use runtime::incus::IncusRuntime;
use runtime::testing::wanted::Wanted;
use serde_json::{Value, json};

/// A field of a spec (`limits/memory`), a value for it, the server's key, and a value that its client gives that.
pub(crate) struct Key(
    pub(crate) &'static str,
    pub(crate) Value,
    pub(crate) &'static str,
    pub(crate) &'static str,
);

/// An object whose fields are tried, one by one.
pub(crate) struct Tried<'a> {
    pub(crate) engine: &'a IncusRuntime,
    pub(crate) wanted: Wanted,
    pub(crate) address: Address,
    pub(crate) base: Value,
    wrong: Vec<String>,
}

impl<'a> Tried<'a> {
    /// Of an object that stands on no other; its address and base are still to be said.
    pub(crate) fn alone(engine: &'a IncusRuntime, folder: &std::path::Path) -> Self {
        Self {
            engine,
            wanted: Wanted::new(folder),
            address: Address::new(Kind::Project, "nobody"),
            base: json!({}),
            wrong: Vec::new(),
        }
    }

    /// `set` are the words of the server's client before `KEY=VALUE`.
    pub(crate) fn each(&mut self, keys: Vec<Key>, set: &[&str]) {
        let known = known();
        for Key(at, value, key, by_hand) in keys {
            let newest = key.rsplit(' ').next().unwrap_or_default();
            if !is_known(&known, newest) {
                println!("{key}: this server has none");
                continue;
            }
            let mut words: Vec<&str> = set.to_vec();
            let (device, key) = key.rsplit_once(' ').unwrap_or(("", key));
            words.extend((!device.is_empty()).then_some(device));
            let pair = format!("{key}={by_hand}");
            words.push(&pair);
            if let Err(why) = self.one(at, &value, &words) {
                if why.contains("controller is missing") {
                    println!("{key}: {why}");
                    continue;
                }
                self.wrong.push(format!("{at}: {why}"));
                // Nothing of it is in the way of the next.
                let base = self.base.clone();
                let _ = self.becomes(&base);
            }
        }
    }

    fn one(&mut self, at: &str, value: &Value, by_hand: &[&str]) -> Result<(), String> {
        let base = self.base.clone();
        let mut set = base.clone();
        put(&mut set, at, value.clone());
        self.becomes(&set).map_err(|why| format!("set: {why}"))?;
        let done = Command::new("incus")
            .args(by_hand)
            .output()
            .expect("incus starts");
        if !done.status.success() {
            return Err(format!(
                "{by_hand:?}: {}",
                String::from_utf8_lossy(&done.stderr).trim()
            ));
        }
        let changes = self.wanted.changes(self.engine, &self.address);
        let field = format!("/spec/{at}");
        let is_it = |path: &str| path.starts_with(&field) || field.starts_with(path);
        if !changes.iter().any(|change| is_it(change.path.as_str())) {
            return Err(format!("{by_hand:?} is not seen, but {changes:?}"));
        }
        if let Some(other) = changes.iter().find(|change| !is_it(change.path.as_str())) {
            return Err(format!(
                "{by_hand:?} is seen at {} as well",
                other.path.as_str()
            ));
        }
        self.becomes(&set)
            .map_err(|why| format!("put back: {why}"))?;
        self.becomes(&base)
            .map_err(|why| format!("taken out: {why}"))
    }

    /// Wants it so, has it made so, and demands that nothing differs then.
    fn becomes(&mut self, spec: &Value) -> Result<(), String> {
        self.wanted.want(self.address.clone(), spec);
        let changes = self.wanted.changes(self.engine, &self.address);
        let done = self
            .wanted
            .tried(self.engine, &self.address, Verb::Update { changes });
        done.map_err(|(_, why)| why)?;
        let item = Wanted::look(self.engine, &self.address);
        if !item.unseen.is_empty() {
            return Err(format!("{:?}", item.unseen));
        }
        match self.wanted.changes(self.engine, &self.address) {
            none if none.is_empty() => Ok(()),
            some => Err(format!("differs still: {some:?}")),
        }
    }

    #[track_caller]
    pub(crate) fn all_hold(self) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}

/// The server's own list of its keys, as text: a newer one has more.
fn known() -> String {
    let said = Command::new("incus")
        .args(["query", "/1.0/metadata/configuration"])
        .output();
    String::from_utf8(said.expect("incus starts").stdout).expect("JSON")
}

fn is_known(known: &str, key: &str) -> bool {
    let has = |key: &str| known.contains(&format!("\"{key}\":"));
    let mut steps: Vec<&str> = key.split('.').collect();
    has(key)
        || loop {
            match steps.pop() {
                None => break false,
                Some(_) if has(&format!("{}.*", steps.join("."))) => break true,
                Some(_) => {}
            }
        }
}

pub(crate) fn put(spec: &mut Value, at: &str, value: Value) {
    let mut place = spec;
    for step in at.split('/') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[step];
    }
    *place = value;
}

/// A pool, a bridge, an image and a stopped instance on them, whose names begin so.
pub(crate) fn furnished<'a>(
    engine: &'a IncusRuntime,
    folder: &std::path::Path,
    name: &str,
    net: u8,
) -> Tried<'a> {
    let mut wanted = Wanted::new(folder);
    let pool = Address::new(Kind::StoragePool, format!("{name}-pool"));
    let pool = wanted.want(pool, &json!({"driver": "dir"}));
    let network =
        json!({"ipv4": {"address": format!("10.{net}.0.1/24")}, "ipv6": {"address": "none"}});
    let network = wanted.want(Address::new(Kind::Network, format!("{name}0")), &network);
    let image = wanted.want(
        Address::new(Kind::Image, name),
        &json!({"source": {"builtin": "busybox"}}),
    );
    let base = json!({
        "image": name,
        "state": "Stopped",
        "devices": {
            "root": {"type": "disk", "path": "/", "pool": format!("{name}-pool")},
            "eth0": {"type": "nic", "network": format!("{name}0")},
        },
    });
    let address = wanted.want(Address::new(Kind::Instance, format!("{name}-one")), &base);
    for one in [&pool, &network, &image, &address] {
        wanted.perform(engine, one, Verb::Create);
    }
    Tried {
        engine,
        wanted,
        address,
        base,
        wrong: Vec::new(),
    }
}

pub(crate) fn gone(tried: &Tried<'_>, name: &str) {
    for (kind, end) in [
        (Kind::Instance, "-one"),
        (Kind::Image, ""),
        (Kind::Network, "0"),
        (Kind::StoragePool, "-pool"),
    ] {
        let address = Address::new(kind, format!("{name}{end}"));
        tried.wanted.perform(tried.engine, &address, Verb::Delete);
    }
}
