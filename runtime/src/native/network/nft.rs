//! Bringing tables into the kernel, and telling how those in the kernel differ, by the program `nft`.
//!
//! Starting `nft` costs some 4 ms, and 13 where it deletes something, so the generation number of nf_tables spares it: a
//! record in the run folder says at which generation our tables were known to be right, and any change of any table by
//! anybody makes the number larger. At that very generation elements are changed by netlink.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use manifests::path_io::{self, PathError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::ruleset::{OWNER_CHAIN, Table, change_of_elements, deletion, transaction};
use crate::sys::command::{self, CommandError};
use crate::sys::netlink::{ElementChange, Namespace, NetlinkError, Tables};

/// The version whose listing has exactly the form of [`ruleset`](super::ruleset). Another version may spell a rule
/// differently; then only comments and kinds of statements are compared.
const EXACT_VERSION: &str = "1.0.6";

/// The tables could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// `nft` failed.
    #[error("use nft")]
    Command(#[from] CommandError),
    /// The kernel did not answer.
    #[error("ask nf_tables")]
    Netlink(#[from] NetlinkError),
    /// What `nft` said is no JSON.
    #[error("understand nft")]
    Answer(#[from] serde_json::Error),
    /// A table of the name is there and is not ours.
    #[error("nftables table {family} {name} is not ours{}", if mark.is_empty() { String::new() } else { format!(" (it is marked {mark})") })]
    Foreign {
        /// Family of the table.
        family: &'static str,
        /// Name of the table.
        name: String,
        /// Its mark, empty if it has none.
        mark: String,
    },
    /// The record of the generation could not be written.
    #[error("keep the nf_tables generation")]
    Record(#[from] PathError),
}

/// One thing that is not as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Family of the table.
    pub family: &'static str,
    /// What of the table.
    pub part: Part,
    /// How it is different.
    pub how: How,
}

/// A part of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Table,
    /// A chain with its hook.
    Chain(String),
    /// A rule: chain, comment.
    Rule(String, String),
    /// A set with its type.
    Set(String),
    /// An element: set, text.
    Element(String, String),
}

/// How a part differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It shall be there and is not.
    Missing,
    /// It is there and shall not be.
    Unexpected,
    /// It is there and is otherwise.
    Changed,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            How::Missing => "missing",
            How::Unexpected => "unexpected",
            How::Changed => "changed",
        };
        match &self.part {
            Part::Table => write!(f, "{} table {how}", self.family),
            Part::Chain(chain) => write!(f, "{} chain {chain} {how}", self.family),
            Part::Rule(chain, rule) => write!(f, "{} rule {rule:?} in {chain} {how}", self.family),
            Part::Set(set) => write!(f, "{} set {set} {how}", self.family),
            Part::Element(set, element) => {
                write!(f, "{} element {element} of {set} {how}", self.family)
            }
        }
    }
}

/// The tables of a network as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirewallSeen {
    /// As they shall be.
    Same,
    /// Neither table is there.
    Missing,
    /// In these points otherwise.
    Differs(Vec<Difference>),
    /// A table of the name bears another mark or none.
    Foreign(String),
}

/// At which generation the tables were right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format_version: u32,
    /// Inode of the network namespace: numbers of generations are per namespace.
    namespace: u64,
    generation: u32,
    /// Digest of the transaction without elements.
    digest: String,
    /// What was in the sets: by family and name.
    elements: BTreeMap<String, BTreeSet<Vec<String>>>,
}

fn digest(tables: &[Table]) -> String {
    let mut bare = tables.to_vec();
    for set in bare.iter_mut().flat_map(|table| &mut table.sets) {
        set.elements.clear();
    }
    hex::encode(Sha256::digest(transaction(&bare).to_string()))
}

fn elements(tables: &[Table]) -> BTreeMap<String, BTreeSet<Vec<String>>> {
    tables
        .iter()
        .flat_map(|table| table.sets.iter().map(move |set| (table, set)))
        .map(|(table, set)| {
            (
                format!("{} {}", table.family, set.name),
                set.elements.clone(),
            )
        })
        .collect()
}

/// What is recorded of tables that are as they shall be; its generation is none yet.
fn record(tables: &[Table]) -> Option<Record> {
    Some(Record {
        format_version: 1,
        namespace: Namespace::current().ok()?.identity().ok()?,
        generation: 0,
        digest: digest(tables),
        elements: elements(tables),
    })
}

/// What the record knows of the tables in comparison with those that shall be.
enum Known {
    /// Nothing can have changed since they were as they shall be.
    Same,
    /// At this generation they were as others wanted them, which differ in elements only: this leads from those to
    /// these.
    Close(u32, Vec<ElementChange>),
    /// Nothing certain.
    Nothing,
}

fn known(tables: &[Table], wanted: Option<&Record>, generation: Option<u32>, file: &Path) -> Known {
    let (Ok(Some(text)), Some(generation), Some(wanted)) =
        (path_io::read_if_exists(file), generation, wanted)
    else {
        return Known::Nothing;
    };
    let Ok(known) = serde_json::from_str::<Record>(&text) else {
        return Known::Nothing;
    };
    let same_shape = (known.format_version, known.namespace, known.generation)
        == (wanted.format_version, wanted.namespace, generation)
        && known.digest == wanted.digest;
    if !same_shape {
        return Known::Nothing;
    }
    if known.elements == wanted.elements {
        return Known::Same;
    }
    let empty = BTreeSet::new();
    let change = change_of_elements(tables, |family, set| {
        let known = known.elements.get(&format!("{family} {set}"));
        known.unwrap_or(&empty)
    });
    change.map_or(Known::Nothing, |change| Known::Close(generation, change))
}

fn list(family: &str, name: &str) -> Result<Value, NftError> {
    let output = command::run("nft", ["-j", "list", "table", family, name], None)?;
    Ok(serde_json::from_slice(&output)?)
}

/// The rules of a host.
#[derive(Debug, Default)]
pub struct Firewall {
    /// Kept open, see [`Tables`]. It stays in the network namespace in which it was used first.
    netlink: Mutex<Option<Tables>>,
}

impl Firewall {
    /// Asks the kernel. A socket that answered with an error is not used again.
    fn ask<T>(
        &self,
        question: impl FnOnce(&mut Tables) -> Result<T, NetlinkError>,
    ) -> Result<T, NetlinkError> {
        let mut kept = self.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        let mut netlink = match kept.take() {
            Some(netlink) => netlink,
            None => Tables::open()?,
        };
        let answer = question(&mut netlink)?;
        *kept = Some(netlink);
        Ok(answer)
    }

    /// Makes the tables as they shall be: one transaction, none if they are so already. Where only elements differ from
    /// what is known to be there, the transaction holds only those, and `nft` is not asked.
    ///
    /// # Errors
    /// A table of the name is not ours; `nft` failed.
    pub fn ensure(&self, tables: &[Table], mark: &str, file: &Path) -> Result<bool, NftError> {
        let mut before = self.ask(Tables::generation)?;
        let wanted = record(tables);
        let changed = match known(tables, wanted.as_ref(), before, file) {
            Known::Same => return Ok(false),
            // Refused where anybody changed anything since: then nothing is known.
            Known::Close(generation, change) => self
                .ask(|netlink| netlink.change_elements(generation, &change))
                .is_ok(),
            Known::Nothing => false,
        };
        if !changed {
            self.refuse_foreign(tables, mark, file)?;
            before = self.ask(Tables::generation)?;
            let input = transaction(tables).to_string();
            command::run("nft", ["-j", "-f", "-"], Some(input.as_bytes()))?;
        }
        let after = self.ask(Tables::generation)?;
        // Exactly one commit, so it was ours, and nobody else's came between.
        let known = match (before, after) {
            (Some(before), Some(after)) if after == before.wrapping_add(1) => after,
            // No ruleset has this number: the next look will read, but knows that we made the tables.
            _ => 0,
        };
        if let Some(wanted) = wanted {
            let record = Record {
                generation: known,
                ..wanted
            };
            path_io::write(file, serde_json::to_vec(&record)?)?;
        }
        Ok(true)
    }

    /// A table of ours has the chain of the owner with the mark. One that lost it by a flush is ours if our record
    /// says that we made it.
    fn refuse_foreign(&self, tables: &[Table], mark: &str, file: &Path) -> Result<(), NftError> {
        let existing = self.ask(Tables::list)?;
        for table in tables {
            if !existing
                .iter()
                .any(|t| t.family == table.family && t.name == table.name)
            {
                continue;
            }
            let found = owner(&list(table.family, &table.name)?);
            let flushed = found.is_empty() && made_here(file);
            if found != mark && !flushed {
                return Err(NftError::Foreign {
                    family: table.family,
                    name: table.name.clone(),
                    mark: found,
                });
            }
        }
        Ok(())
    }

    /// Removes the tables of a name that bear the mark; others stay.
    ///
    /// # Errors
    /// `nft` failed.
    pub fn remove(&self, name: &str, mark: &str, file: &Path) -> Result<(), NftError> {
        let mut ours = Vec::new();
        for table in self.ask(Tables::list)? {
            if table.name == name {
                let found = owner(&list(table.family, name)?);
                if found == mark || found.is_empty() && made_here(file) {
                    ours.push(table.family);
                }
            }
        }
        if !ours.is_empty() {
            let input = deletion(ours.iter().map(|family| (*family, name))).to_string();
            command::run("nft", ["-j", "-f", "-"], Some(input.as_bytes()))?;
        }
        Ok(path_io::remove_file(file)?)
    }

    /// Compares the tables in the kernel with those that shall be.
    ///
    /// # Errors
    /// `nft` failed.
    pub fn seen(
        &self,
        tables: &[Table],
        mark: &str,
        file: &Path,
    ) -> Result<FirewallSeen, NftError> {
        let before = self.ask(Tables::generation)?;
        let wanted = record(tables);
        if let Known::Same = known(tables, wanted.as_ref(), before, file) {
            return Ok(FirewallSeen::Same);
        }
        let existing = self.ask(Tables::list)?;
        let mut differences = Vec::new();
        for table in tables {
            if !existing
                .iter()
                .any(|t| t.family == table.family && t.name == table.name)
            {
                differences.push(difference(table, Part::Table, How::Missing));
                continue;
            }
            let listed = list(table.family, &table.name)?;
            let found = owner(&listed);
            if found != mark && !(found.is_empty() && made_here(file)) {
                return Ok(FirewallSeen::Foreign(found));
            }
            differences.extend(compare(table, &listed));
        }
        if differences.is_empty() {
            // Somebody else's tables changed: remember the new generation, if it is still the one we read at.
            if let (Some(before), Some(after)) = (before, self.ask(Tables::generation)?)
                && before == after
                && let Some(wanted) = wanted
            {
                let record = Record {
                    generation: after,
                    ..wanted
                };
                let _ = path_io::write(file, serde_json::to_vec(&record)?);
            }
            return Ok(FirewallSeen::Same);
        }
        let missing = differences.iter().filter(|d| d.part == Part::Table).count();
        Ok(if missing == tables.len() {
            FirewallSeen::Missing
        } else {
            FirewallSeen::Differs(differences)
        })
    }
}

/// Whether we made the tables of this network since the host started.
fn made_here(file: &Path) -> bool {
    matches!(path_io::read_if_exists(file), Ok(Some(_)))
}

/// The mark of a listed table, empty if it has none.
fn owner(listed: &Value) -> String {
    objects(listed, "rule")
        .find(|rule| rule["chain"] == OWNER_CHAIN)
        .and_then(|rule| rule["comment"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn difference(table: &Table, part: Part, how: How) -> Difference {
    Difference {
        family: table.family,
        part,
        how,
    }
}

fn objects<'a>(listed: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    listed["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(move |object| object.get(kind))
}

/// How a listed table differs from one that shall be.
pub fn compare(table: &Table, listed: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    let exact = objects(listed, "metainfo").any(|m| m["version"] == EXACT_VERSION);
    compare_sets(table, listed, &mut found);
    for chain in &table.chains {
        let Some(seen) = objects(listed, "chain").find(|c| c["name"] == chain.name) else {
            found.push(difference(
                table,
                Part::Chain(chain.name.to_owned()),
                How::Missing,
            ));
            continue;
        };
        let same = match chain.hook {
            None => seen.get("hook").is_none(),
            Some((kind, hook, priority)) => {
                seen["type"] == kind
                    && seen["hook"] == hook
                    && seen["prio"] == priority
                    && seen["policy"] == "accept"
            }
        };
        if !same {
            found.push(difference(
                table,
                Part::Chain(chain.name.to_owned()),
                How::Changed,
            ));
        }
        compare_rules(table, chain, listed, exact, &mut found);
    }
    for seen in objects(listed, "chain") {
        let name = seen["name"].as_str().unwrap_or_default();
        if !table.chains.iter().any(|chain| chain.name == name) {
            found.push(difference(
                table,
                Part::Chain(name.to_owned()),
                How::Unexpected,
            ));
        }
    }
    found
}

fn compare_rules(
    table: &Table,
    chain: &super::ruleset::Chain,
    listed: &Value,
    exact: bool,
    found: &mut Vec<Difference>,
) {
    let part = |comment: &str| Part::Rule(chain.name.to_owned(), comment.to_owned());
    let seen: Vec<&Value> = objects(listed, "rule")
        .filter(|rule| rule["chain"] == chain.name)
        .collect();
    let before = found.len();
    for rule in &chain.rules {
        match seen.iter().find(|r| r["comment"] == rule.comment) {
            None => found.push(difference(table, part(&rule.comment), How::Missing)),
            Some(seen) if !same_statements(&rule.statements, &seen["expr"], exact) => {
                found.push(difference(table, part(&rule.comment), How::Changed));
            }
            Some(_) => {}
        }
    }
    for rule in &seen {
        let comment = rule["comment"].as_str().unwrap_or("(without comment)");
        if !chain.rules.iter().any(|r| r.comment == comment) {
            found.push(difference(table, part(comment), How::Unexpected));
        }
    }
    let order: Vec<_> = seen.iter().map(|r| r["comment"].as_str()).collect();
    let wanted: Vec<_> = chain
        .rules
        .iter()
        .map(|r| Some(r.comment.as_str()))
        .collect();
    if found.len() == before && order != wanted {
        found.push(difference(
            table,
            Part::Chain(chain.name.to_owned()),
            How::Changed,
        ));
    }
}

fn same_statements(wanted: &[Value], seen: &Value, exact: bool) -> bool {
    let Some(seen) = seen.as_array() else {
        return false;
    };
    if exact {
        return wanted == seen.as_slice();
    }
    let kinds = |statements: &[Value]| -> Vec<String> {
        statements
            .iter()
            .filter_map(|s| s.as_object()?.keys().next().cloned())
            .collect()
    };
    kinds(wanted) == kinds(seen)
}

fn compare_sets(table: &Table, listed: &Value, found: &mut Vec<Difference>) {
    for set in &table.sets {
        let Some(seen) = objects(listed, "set").find(|s| s["name"] == set.name) else {
            found.push(difference(
                table,
                Part::Set(set.name.to_owned()),
                How::Missing,
            ));
            continue;
        };
        let types: Vec<&str> = match &seen["type"] {
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            single => single.as_str().into_iter().collect(),
        };
        if types != set.types {
            found.push(difference(
                table,
                Part::Set(set.name.to_owned()),
                How::Changed,
            ));
        }
        let elements: BTreeSet<Vec<String>> = seen["elem"]
            .as_array()
            .into_iter()
            .flatten()
            .map(parts)
            .collect();
        let mut push = |element: &Vec<String>, how| {
            let part = Part::Element(set.name.to_owned(), element.join(" . "));
            found.push(difference(table, part, how));
        };
        for element in set.elements.difference(&elements) {
            push(element, How::Missing);
        }
        for element in elements.difference(&set.elements) {
            push(element, How::Unexpected);
        }
    }
    for seen in objects(listed, "set") {
        let name = seen["name"].as_str().unwrap_or_default();
        if !table.sets.iter().any(|set| set.name == name) {
            found.push(difference(
                table,
                Part::Set(name.to_owned()),
                How::Unexpected,
            ));
        }
    }
}

/// The texts of a listed element; one with a time-out or counter is wrapped in `elem`.
fn parts(element: &Value) -> Vec<String> {
    let element = element.get("elem").map_or(element, |inner| &inner["val"]);
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match element.get("concat").and_then(Value::as_array) {
        Some(several) => several.iter().map(text).collect(),
        None => vec![text(element)],
    }
}

/// Base chains of other tables that drop what nothing accepts, at a hook: an accept of ours cannot overrule them.
///
/// # Errors
/// `nft` failed.
pub fn dropping_chains(hook: &str) -> Result<Vec<String>, NftError> {
    let output = command::run("nft", ["-j", "list", "chains"], None)?;
    let listed: Value = serde_json::from_slice(&output)?;
    Ok(objects(&listed, "chain")
        .filter(|chain| chain["hook"] == hook && chain["policy"] == "drop")
        .filter(|chain| {
            ["ip", "ip6", "inet"].contains(&chain["family"].as_str().unwrap_or_default())
        })
        .map(|chain| {
            let text = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", text("family"), text("table"), text("name"))
        })
        .collect())
}
