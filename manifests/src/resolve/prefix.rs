//! `namePrefix`: put before the names of all documents of a layer and of its bases, and before what refers to them.
//!
//! What is referred to and not declared there keeps its name: what is `external`, an image of the store, what a layer
//! above declares. `default` is the name of a role and not of one object: a Profile and a Project of this name keep it.

use super::*;
use crate::name_pattern;
use crate::secret::IN_TEMPLATE;
use crate::substitute::{Group, Known, filled};

/// How a reference is written.
#[derive(Clone, Copy)]
enum Form {
    /// A name.
    Name,
    /// A name and what comes below it: `web-1/snap0`.
    First,
    /// Names and other words, with commas between.
    Words,
    /// A name in which `*` stands for any characters.
    Pattern,
    /// The keys of a map.
    Keys,
}

/// Where a spec of a kind refers to what; `*` is any key and any element.
const REFERENCES: [(Kind, &str, Kind, Form); 25] = [
    (Kind::Instance, "profiles/*", Kind::Profile, Form::Name),
    (Kind::Instance, "image", Kind::Image, Form::Name),
    (
        Kind::Instance,
        "image/source/instance",
        Kind::Instance,
        Form::Name,
    ),
    (
        Kind::Instance,
        "image/source/snapshot",
        Kind::Instance,
        Form::First,
    ),
    (Kind::Image, "source/instance", Kind::Instance, Form::Name),
    (Kind::Image, "source/snapshot", Kind::Instance, Form::First),
    (Kind::Network, "acls/*", Kind::NetworkAcl, Form::Name),
    (Kind::Network, "uplink", Kind::Network, Form::Name),
    (Kind::NetworkForward, "network", Kind::Network, Form::Name),
    (
        Kind::NetworkAcl,
        "ingress/*/source",
        Kind::NetworkAcl,
        Form::Words,
    ),
    (
        Kind::NetworkAcl,
        "ingress/*/destination",
        Kind::NetworkAcl,
        Form::Words,
    ),
    (
        Kind::NetworkAcl,
        "egress/*/source",
        Kind::NetworkAcl,
        Form::Words,
    ),
    (
        Kind::NetworkAcl,
        "egress/*/destination",
        Kind::NetworkAcl,
        Form::Words,
    ),
    (
        Kind::Project,
        "limits/diskPools",
        Kind::StoragePool,
        Form::Keys,
    ),
    (
        Kind::Project,
        "restrictions/networkAccess/*",
        Kind::Network,
        Form::Name,
    ),
    (
        Kind::SnapshotSchedule,
        "selector/names/*",
        Kind::Instance,
        Form::Pattern,
    ),
    (
        Kind::SnapshotSchedule,
        "selector/names/*",
        Kind::Volume,
        Form::Pattern,
    ),
    (
        Kind::Backup,
        "selector/names/*",
        Kind::Instance,
        Form::Pattern,
    ),
    (
        Kind::Backup,
        "selector/names/*",
        Kind::Volume,
        Form::Pattern,
    ),
    (Kind::Volume, "source/pool", Kind::StoragePool, Form::Name),
    (Kind::Policy, "match/names/*", Kind::Instance, Form::Pattern),
    (Kind::Policy, "match/names/*", Kind::Image, Form::Pattern),
    (Kind::Policy, "match/names/*", Kind::Network, Form::Pattern),
    (
        Kind::Policy,
        "match/names/*",
        Kind::StoragePool,
        Form::Pattern,
    ),
    (Kind::Policy, "match/names/*", Kind::Volume, Form::Pattern),
];

/// Puts a prefix before all names.
pub(super) fn put(prefix: &str, layered: &mut Layered) {
    let mut names = Names {
        prefix,
        known: BTreeMap::new(),
        volumes: BTreeSet::new(),
    };
    for document in &layered.documents {
        names.learn(&document.node);
    }
    for document in &mut layered.documents {
        let each = for_each::known(&document.node);
        names.rename(&mut document.node, &each);
    }
    let alone = [Known::new()];
    for scope in &mut layered.scopes {
        for (kind, spec) in &mut scope.defaults {
            names.rename_in_spec(*kind, spec, &alone);
        }
        if let Some(project) = &mut scope.project
            && let Some(renamed) = names.renamed(Kind::Project, project, &alone)
        {
            *project = renamed;
        }
    }
}

/// What gets another name.
struct Names<'a> {
    prefix: &'a str,
    known: BTreeMap<Kind, BTreeSet<String>>,
    /// Pool and name.
    volumes: BTreeSet<(String, String)>,
}

fn kind_of(node: &Node) -> Option<Kind> {
    let word = node.get("kind").and_then(Node::text);
    Kind::ALL
        .iter()
        .copied()
        .find(|kind| Some(kind.name()) == word)
}

fn keeps_its_name(kind: Kind, name: &str) -> bool {
    matches!(kind, Kind::Profile | Kind::Project) && name == "default"
}

impl Names<'_> {
    fn learn(&mut self, node: &Node) {
        let Some(kind) = kind_of(node) else { return };
        let pool = node.at(&Pointer::new("/spec/pool")).and_then(Node::text);
        for name in patches::names(node) {
            if keeps_its_name(kind, &name) {
                continue;
            }
            if kind == Kind::Volume {
                let pool = pool.unwrap_or_default().to_owned();
                self.volumes.insert((pool, name.clone()));
            }
            self.known.entry(kind).or_default().insert(name);
        }
    }

    /// The new name of what a text refers to; none where that keeps its name. In a document with `forEach` all that the
    /// text stands for is looked at.
    fn renamed(&self, kind: Kind, text: &str, each: &[Known]) -> Option<String> {
        let known = self.known.get(&kind)?;
        self.renamed_if(text, each, |name| known.contains(name))
    }

    fn renamed_if(
        &self,
        text: &str,
        each: &[Known],
        is_known: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let all_known = if text.contains("${") {
            !each.is_empty()
                && each
                    .iter()
                    .all(|each| is_known(&filled(text, Group::Each, each, |_| {})))
        } else {
            is_known(text)
        };
        all_known.then(|| format!("{}{text}", self.prefix))
    }

    fn rename(&self, node: &mut Node, each: &[Known]) {
        let Some(kind) = kind_of(node) else { return };
        if let Some(metadata) = node.get_mut("metadata") {
            for field in ["name", "previousNames/*"] {
                each_at(metadata, field, &mut |node| {
                    let text = substitute::text(&node.value);
                    if let Some(text) = text.filter(|text| !keeps_its_name(kind, text)) {
                        node.value = Value::Text(format!("{}{text}", self.prefix).into());
                    }
                });
            }
            each_at(metadata, "project", &mut |node| {
                self.rename_node(Kind::Project, Form::Name, node, each);
            });
        }
        if let Some(spec) = node.get_mut("spec") {
            self.rename_in_spec(kind, spec, each);
        }
        if let Some(needs) = node.get_mut("dependsOn") {
            self.rename_needs(needs, each);
        }
    }

    fn rename_in_spec(&self, kind: Kind, spec: &mut Node, each: &[Known]) {
        for (of, path, refers_to, form) in REFERENCES {
            if of == kind {
                each_at(spec, path, &mut |node| {
                    self.rename_node(refers_to, form, node, each);
                });
            }
        }
        if matches!(kind, Kind::Instance | Kind::Profile) {
            each_at(spec, "devices/*", &mut |device| {
                self.rename_in_device(device, each);
            });
        }
        if kind == Kind::Volume {
            let own = spec.get("pool").and_then(Node::text).map(str::to_owned);
            each_at(spec, "source", &mut |source| {
                self.rename_volume(source, "volume", own.as_deref(), each);
            });
            each_at(spec, "pool", &mut |node| {
                self.rename_node(Kind::StoragePool, Form::Name, node, each);
            });
        }
        self.rename_secrets(spec, each);
    }

    fn rename_in_device(&self, device: &mut Node, each: &[Known]) {
        self.rename_volume(device, "source", None, each);
        for (field, kind) in [
            ("pool", Kind::StoragePool),
            ("network", Kind::Network),
            ("acls/*", Kind::NetworkAcl),
        ] {
            each_at(device, field, &mut |node| {
                self.rename_node(kind, Form::Name, node, each);
            });
        }
    }

    /// A volume beside its pool, or one of `own`; where neither is said, one of any pool.
    fn rename_volume(&self, holder: &mut Node, field: &str, own: Option<&str>, each: &[Known]) {
        let pool = holder.get("pool").and_then(Node::text).or(own);
        let pool = pool.map(str::to_owned);
        let Some(node) = holder.get_mut(field) else {
            return;
        };
        let Some(text) = node.text() else { return };
        let (name, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
        let is_known = |name: &str| match &pool {
            Some(pool) => self.volumes.contains(&(pool.clone(), name.to_owned())),
            None => self.volumes.iter().any(|(_, known)| known == name),
        };
        if let Some(renamed) = self.renamed_if(name, each, is_known) {
            node.value = Value::Text(format!("{renamed}{rest}").into());
        }
    }

    fn rename_node(&self, kind: Kind, form: Form, node: &mut Node, each: &[Known]) {
        if let (Form::Keys, Value::Map(entries)) = (form, &mut node.value) {
            for (key, _) in entries {
                if let Some(renamed) = self.renamed(kind, &key.name, each) {
                    key.name = renamed;
                }
            }
            return;
        }
        if let (Form::Words, Value::List(items)) = (form, &mut node.value) {
            for item in items {
                self.rename_node(kind, Form::Name, item, each);
            }
            return;
        }
        let Some(text) = substitute::text(&node.value) else {
            return;
        };
        let renamed = match form {
            Form::Name | Form::Keys => self.renamed(kind, text, each),
            Form::First => {
                let (name, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
                self.renamed(kind, name, each)
                    .map(|renamed| format!("{renamed}{rest}"))
            }
            Form::Words => {
                let words = text.split(',').map(|word| {
                    let word = word.trim();
                    self.renamed(kind, word, each)
                        .unwrap_or_else(|| word.to_owned())
                });
                let words = words.collect::<Vec<_>>().join(", ");
                (words != text).then_some(words)
            }
            Form::Pattern => {
                let means = |name: &String| name_pattern::matches(text, name);
                let is_meant = self
                    .known
                    .get(&kind)
                    .is_some_and(|known| known.iter().any(means));
                let has_it = text.starts_with('*') || text.starts_with(self.prefix);
                (is_meant && !has_it).then(|| format!("{}{text}", self.prefix))
            }
        };
        if let Some(renamed) = renamed {
            node.value = Value::Text(renamed.into());
        }
    }

    /// `dependsOn`: names of objects in a list, in maps, or in a map.
    fn rename_needs(&self, needs: &mut Node, each: &[Known]) {
        match &mut needs.value {
            Value::List(items) => {
                for item in items {
                    self.rename_needs(item, each);
                }
            }
            Value::Map(entries) => {
                for (key, _) in entries {
                    if let Some(renamed) = self.renamed_address(&key.name, each) {
                        key.name = renamed;
                    }
                }
            }
            Value::Text(text) => {
                if let Some(renamed) = self.renamed_address(text, each) {
                    *text = renamed.into();
                }
            }
            _ => {}
        }
    }

    /// `KIND/NAME`, `KIND/PROJECT/NAME`, `Volume/POOL/NAME`: each part that refers to something.
    fn renamed_address(&self, text: &str, each: &[Known]) -> Option<String> {
        let address: Address = text.parse().ok()?;
        let (word, _) = text.split_once('/')?;
        let part = |kind: Kind, name: &str| {
            self.renamed(kind, name, each)
                .unwrap_or_else(|| name.to_owned())
        };
        let mut parts = vec![word.to_owned()];
        parts.extend(
            address
                .project
                .iter()
                .map(|project| part(Kind::Project, project)),
        );
        parts.extend(
            address
                .pool
                .iter()
                .map(|pool| part(Kind::StoragePool, pool)),
        );
        let name = match &address.pool {
            Some(pool) => self
                .renamed_if(&address.name, each, |name| {
                    self.volumes.contains(&(pool.clone(), name.to_owned()))
                })
                .unwrap_or_else(|| address.name.clone()),
            None => part(address.kind, &address.name),
        };
        parts.push(name);
        Some(parts.join("/"))
    }

    /// `secretRef`, and `${secret.NAME.KEY}` in templates, wherever they stand.
    fn rename_secrets(&self, node: &mut Node, each: &[Known]) {
        if !self.known.contains_key(&Kind::Secret) {
            return;
        }
        match &mut node.value {
            Value::Map(entries) => {
                for (key, below) in entries {
                    match key.name.as_str() {
                        "secretRef" => each_at(below, "name", &mut |node| {
                            self.rename_node(Kind::Secret, Form::Name, node, each);
                        }),
                        "template" => self.rename_in_template(below, each),
                        _ => self.rename_secrets(below, each),
                    }
                }
            }
            Value::List(items) => {
                for item in items {
                    self.rename_secrets(item, each);
                }
            }
            _ => {}
        }
    }

    fn rename_in_template(&self, node: &mut Node, each: &[Known]) {
        let Some(text) = node.text().filter(|text| text.contains(IN_TEMPLATE)) else {
            return;
        };
        let mut parts = text.split(IN_TEMPLATE);
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            whole.push_str(IN_TEMPLATE);
            let (name, rest) = part.split_at(part.find('.').unwrap_or(0));
            match self.renamed(Kind::Secret, name, each) {
                Some(renamed) => whole.push_str(&renamed),
                None => whole.push_str(name),
            }
            whole.push_str(rest);
        }
        node.value = Value::Text(whole.into());
    }
}

/// Visits what stands at a path; `*` is any key and any element.
fn each_at(node: &mut Node, path: &str, visit: &mut dyn FnMut(&mut Node)) {
    if path.is_empty() {
        visit(node);
        return;
    }
    let (step, rest) = path.split_once('/').unwrap_or((path, ""));
    match &mut node.value {
        Value::Map(entries) => {
            for (key, below) in entries {
                if step == "*" || key.name == step {
                    each_at(below, rest, visit);
                }
            }
        }
        Value::List(items) if step == "*" => {
            for below in items {
                each_at(below, rest, visit);
            }
        }
        _ => {}
    }
}
