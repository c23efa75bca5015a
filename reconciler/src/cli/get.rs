//! `keel get` and `keel describe`.

use std::time::Duration;

use manifests::id::Address;
use manifests::kind::Kind;
use manifests::observed::Item;
use runtime::runtime::Runtime;
use serde_json::json;

use super::backup::last_run as last_backup;
use super::decide::session;
use super::elsewhere::{self, only_here};
use super::engine::{self, Opened};
use super::invocation::Invocation;
use crate::api::client::Controller;
use crate::api::documents::{ObjectDocument, ObjectRow};
use crate::error::{CliError, Exit};
use crate::view::{self, objects, style};

/// List live objects: instances, networks, pools and the rest, ours and foreign ones.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// A kind (`instances`), an object (`instance/web-1`), or nothing: all.
    what: Option<String>,
    /// Names, after a kind.
    names: Vec<String>,
    /// How they are written.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Print again whenever something differs.
    #[arg(short, long)]
    watch: bool,
    /// Also what nobody owns.
    #[arg(short, long)]
    all: bool,
}

/// How live objects are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table for each kind.
    Table,
    /// With more columns.
    Wide,
    /// One JSON document; a list where no single object was named.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Tell everything about one object.
#[derive(Debug, clap::Args)]
pub(super) struct Describe {
    /// An object (`instance/web-1`) or its kind.
    what: String,
    /// Its name, after a kind.
    name: Option<String>,
}

/// What is asked for.
#[derive(Debug, PartialEq)]
enum Asked {
    Everything,
    Kind(Kind),
    Named(Vec<Address>),
}

impl Get {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let asked = asked(invocation, self.what.as_deref(), &self.names)?;
        let there = elsewhere::controller(invocation)?;
        let mut here = None;
        let mut printed = String::new();
        loop {
            let text = match (&there, &here) {
                (Some(controller), _) => self.elsewhere(invocation, controller, &asked)?,
                (None, Some(opened)) => self.text(invocation, opened, &asked)?,
                (None, None) => {
                    here = Some(engine::open(invocation)?);
                    continue;
                }
            };
            if text != printed {
                match self.output {
                    Format::Table | Format::Wide => invocation.print(&text)?,
                    Format::Json | Format::Yaml => invocation.print_plain(&text)?,
                }
                printed = text;
            }
            if !self.watch || invocation.cancelled() {
                return Ok(Exit::Done);
            }
            invocation.pause(Duration::from_secs(1));
        }
    }

    fn text(
        &self,
        invocation: &Invocation,
        opened: &Opened,
        asked: &Asked,
    ) -> Result<String, CliError> {
        let mut world = find(invocation, opened.runtime.as_ref(), asked)?;
        with_schedules(invocation, opened, &mut world)?;
        let mut items: Vec<&Item> = world
            .iter()
            .filter(|item| self.all || item.mark.is_some() || matches!(asked, Asked::Named(_)))
            .collect();
        items.sort_by(|a, b| a.address.cmp(&b.address));
        let json = || match (asked, items.as_slice()) {
            (Asked::Named(names), [only]) if names.len() == 1 => objects::document(only),
            _ => objects::list(&items),
        };
        invocation.json_into(|| format!("{:#}\n", json()))?;
        Ok(match self.output {
            Format::Table | Format::Wide if items.is_empty() => {
                invocation.note("nothing\n");
                String::new()
            }
            Format::Table | Format::Wide => {
                objects::tables(&items, self.output == Format::Wide, invocation.now())
            }
            Format::Json => format!("{:#}\n", json()),
            Format::Yaml => yaml(&json())?,
        })
    }
}

impl Get {
    /// What a controller elsewhere last saw.
    fn elsewhere(
        &self,
        invocation: &Invocation,
        controller: &Controller,
        asked: &Asked,
    ) -> Result<String, CliError> {
        only_here("--all", self.all)?;
        let rows = rows(invocation, controller, asked)?;
        let wants_document = matches!(self.output, Format::Json | Format::Yaml);
        if !wants_document && invocation.global.json_into.is_none() {
            if rows.is_empty() {
                invocation.note("nothing\n");
            }
            return Ok(view::elsewhere::tables(&rows, self.output == Format::Wide));
        }
        let mut live = Vec::new();
        for row in &rows {
            let one: ObjectDocument = controller.get(&elsewhere::of_object(&row.id.parse()?))?;
            live.extend(one.live);
        }
        let document = match (asked, live.as_slice()) {
            (Asked::Named(names), [only]) if names.len() == 1 => only.clone(),
            _ => json!({ "apiVersion": "evenkeel/v1", "kind": "List", "items": live }),
        };
        invocation.json_into(|| format!("{document:#}\n"))?;
        match self.output {
            Format::Json => Ok(format!("{document:#}\n")),
            Format::Yaml => yaml(&document),
            Format::Table | Format::Wide => {
                Ok(view::elsewhere::tables(&rows, self.output == Format::Wide))
            }
        }
    }
}

/// What a controller elsewhere has of what is asked for; a named object that it has not is an error.
fn rows(
    invocation: &Invocation,
    controller: &Controller,
    asked: &Asked,
) -> Result<Vec<ObjectRow>, CliError> {
    let mut found: Vec<ObjectRow> = match asked {
        Asked::Everything => controller.get("/v1/objects")?,
        Asked::Kind(kind) => controller.get(&format!("/v1/objects?kind={}", kind.word()))?,
        Asked::Named(addresses) => {
            let mut rows = Vec::new();
            for address in addresses {
                let one: ObjectDocument = controller.get(&elsewhere::of_object(address))?;
                rows.push(one.row);
            }
            rows
        }
    };
    let narrow = &invocation.global;
    let is = |all: &[Address], row: &ObjectRow| all.iter().any(|one| one.to_string() == row.id);
    found.retain(|row| narrow.only.is_empty() || is(&narrow.only, row));
    found.retain(|row| !is(&narrow.exclude, row));
    Ok(found)
}

impl Describe {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let names: Vec<String> = self.name.iter().cloned().collect();
        let asked = asked(invocation, Some(&self.what), &names)?;
        if let Some(controller) = elsewhere::controller(invocation)? {
            for (index, row) in rows(invocation, &controller, &asked)?.iter().enumerate() {
                let one: ObjectDocument =
                    controller.get(&elsewhere::of_object(&row.id.parse()?))?;
                let gap = if index > 0 { "\n" } else { "" };
                let text = view::elsewhere::describe(&one, invocation.now());
                invocation.print(&format!("{gap}{text}"))?;
            }
            return Ok(Exit::Done);
        }
        let opened = engine::open(invocation)?;
        let mut world = find(invocation, opened.runtime.as_ref(), &asked)?;
        with_schedules(invocation, &opened, &mut world)?;
        for (index, item) in world.iter().enumerate() {
            let text = objects::describe(item, invocation.now());
            let (heading, rest) = text.split_once('\n').unwrap_or((&text, ""));
            let gap = if index > 0 { "\n" } else { "" };
            let heading = style::paint(style::STRONG, heading);
            invocation.print(&format!("{gap}{heading}\n{rest}"))?;
        }
        Ok(Exit::Done)
    }
}

/// Reads `instances`, `instance web-1 web-2`, `instance/web-1 network/lan`.
fn asked(invocation: &Invocation, what: Option<&str>, names: &[String]) -> Result<Asked, CliError> {
    let Some(what) = what else {
        return Ok(Asked::Everything);
    };
    if what == "all" && names.is_empty() {
        return Ok(Asked::Everything);
    }
    if what.contains('/') {
        let all = std::iter::once(what).chain(names.iter().map(String::as_str));
        let addresses: Result<Vec<Address>, _> = all.map(str::parse).collect();
        return Ok(Asked::Named(addresses?));
    }
    let kind = kind(what)?;
    if names.is_empty() {
        return Ok(Asked::Kind(kind));
    }
    let addresses: Result<Vec<Address>, _> = names
        .iter()
        .map(|name| invocation.object(kind, name))
        .collect();
    Ok(Asked::Named(addresses?))
}

/// A kind by its word, also in the plural and by the short words that people know.
pub(super) fn kind(word: &str) -> Result<Kind, CliError> {
    let known = match word {
        "i" | "vm" | "container" | "containers" => Some(Kind::Instance),
        "net" | "nets" => Some(Kind::Network),
        "pool" | "pools" | "storage" => Some(Kind::StoragePool),
        "vol" | "vols" => Some(Kind::Volume),
        "acl" | "acls" => Some(Kind::NetworkAcl),
        "policies" => Some(Kind::Policy),
        _ => Kind::from_word(word).or_else(|| word.strip_suffix('s').and_then(Kind::from_word)),
    };
    known.ok_or_else(|| {
        let error = CliError::usage(format!("`{word}` is no kind"));
        match Kind::nearest(word).first() {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => {
                let words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
                error.hint(format!("kinds: {}", words.join(", ")))
            }
        }
    })
}

/// Looks for what is asked for; a named object that is not there is an error.
fn find(
    invocation: &Invocation,
    engine: &dyn Runtime,
    asked: &Asked,
) -> Result<Vec<Item>, CliError> {
    let found = match asked {
        Asked::Everything => engine.observe()?.items,
        Asked::Kind(kind) => {
            let mut items = engine.observe()?.items;
            items.retain(|item| item.address.kind == *kind);
            items
        }
        Asked::Named(addresses) => addresses
            .iter()
            .map(|address| {
                let mut item = engine.look(address)?.ok_or_else(|| {
                    CliError::new(Exit::Unexpected, format!("there is no {address}"))
                        .hint(format!("what there is: keel get {}", address.kind.word()))
                })?;
                // Who names it wants to know all of it.
                if let Some(uid) = item.uid() {
                    let measured = engine.measure(address.kind, &uid)?;
                    item.holds.bytes = measured.unwrap_or(item.holds.bytes);
                }
                Ok(item)
            })
            .collect::<Result<_, CliError>>()?,
    };
    let narrow = &invocation.global;
    Ok(found
        .into_iter()
        .filter(|item| narrow.only.is_empty() || narrow.only.contains(&item.address))
        .filter(|item| !narrow.exclude.contains(&item.address))
        .collect())
}

/// Tells of schedules when they ran and will: that is remembered, and not seen.
fn with_schedules(
    invocation: &Invocation,
    opened: &Opened,
    items: &mut [Item],
) -> Result<(), CliError> {
    let is_one =
        |item: &&mut Item| matches!(item.address.kind, Kind::SnapshotSchedule | Kind::Backup);
    let mut schedules = items.iter_mut().filter(is_one).peekable();
    if schedules.peek().is_none() {
        return Ok(());
    }
    let stands = session(invocation, opened).stands()?;
    for item in schedules {
        let stand = item.uid().and_then(|uid| stands.get(&uid));
        let mut stand = stand.cloned().unwrap_or_default();
        stand.last_run = stand.last_run.or_else(|| last_backup(item));
        stand.tell(&mut item.status);
    }
    Ok(())
}

/// A value as a YAML document.
pub(super) fn yaml(value: &serde_json::Value) -> Result<String, CliError> {
    let text =
        serde_saphyr::to_string(value).map_err(|error| CliError::new(Exit::Unexpected, error))?;
    Ok(if text.ends_with('\n') {
        text
    } else {
        text + "\n"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_many_words() {
        for (word, is) in [
            ("instances", Kind::Instance),
            ("Instance", Kind::Instance),
            ("pools", Kind::StoragePool),
            ("storage-pools", Kind::StoragePool),
            ("networks", Kind::Network),
            ("policies", Kind::Policy),
        ] {
            assert_eq!(kind(word).expect(word), is, "{word}");
        }
        let error = kind("instence").expect_err("no such kind");
        assert_eq!(error.hints, ["did you mean `instance`?"]);
        assert_eq!(error.exit, Exit::Usage);
    }
}
