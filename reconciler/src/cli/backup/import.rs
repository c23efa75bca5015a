//! `keel backup import`: the configuration of a backup goes the way of any manifest before anything is made.

use std::path::{Path, PathBuf};

use manifests::decode::decode;
use manifests::desired::{DesiredSet, Resource};
use manifests::envelope::API_VERSION;
use manifests::id::{Address, SourceName};
use manifests::kind::{Kind, Spec};
use manifests::parse::parse;
use manifests::path_io;
use manifests::pointer::Pointer;
use manifests::read::{self, SOURCE_FILE, Texts};
use manifests::tree::Node;
use runtime::native::BackupImport;
use runtime::native::backup::Unseal;
use runtime::runtime::Runtime as _;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::super::apply::how;
use super::super::asked::catch_signals;
use super::super::decide::{right_host, session};
use super::super::destroy::source_of_path;
use super::super::engine::{self, Opened};
use super::super::get::yaml;
use super::super::invocation::{Invocation, absolute};
use super::super::read::Source;
use super::{Keys, check, context, opener};
use crate::error::{CliError, Exit};
use crate::plan::{Allow, PlanOptions, Purpose};
use crate::view::text::visible;

/// The names under which findings are told.
const MANIFEST: &str = "manifest.yaml";

/// Bring in the instance of a backup, with its snapshots: stopped, under a name that is free.
///
/// Its configuration is validated as a manifest is; in the folder of a source also by the projects and policies of that,
/// which then owns it: the next plan with its manifest takes it on. Elsewhere nobody owns it, and `lifecycle.adopt: true`
/// in its manifest, or `keel adopt`, does. Addresses and hardware addresses that the configuration does not name are new.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The file.
    file: PathBuf,
    /// Its name here; absent: the one that it had.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The pool for its root; absent: the one of that name.
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// The source that owns it; absent: that of this folder, if it is one.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    #[command(flatten)]
    keys: Keys,
}

impl Import {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let path = absolute(&self.file)?;
        let opened = engine::open(invocation)?;
        catch_signals(invocation)?;
        let shown = visible(&self.file.display().to_string());
        let progress = |phase: &str| invocation.note(&format!("{shown}: {phase}\n"));
        let context = context(invocation, &progress);
        progress("checking");
        let identities = self.keys.read()?;
        let opener = opener(&identities);
        let checked = check(&path, &identities, &context)?
            .whole(&path)
            .map_err(|error| CliError::new(Exit::Unexpected, error))?;
        let (document, secrets) = self.document(invocation, &checked.manifest)?;
        let around = around()?;
        let source = match (&self.source, &around) {
            (Some(name), _) => Some(SourceName::new(name.clone())),
            (None, Some(texts)) => manifests::resolve::source_of(texts).map(|source| source.name),
            (None, None) => None,
        };
        let texts = texts(&document, around.as_ref(), source.as_ref())?;
        let wanted = Source::of(texts, None, None).desired(invocation)?;
        let mut desired = wanted.desired;
        let resource = declared(&desired)?;
        desired.keep(|one| one.address == resource.address);
        right_host(&desired, &wanted.texts, &opened.runtime.capabilities()?)?;
        let address = resource.address.clone();
        self.policies(invocation, &opened, &desired, &address)?;
        let import = BackupImport {
            path,
            unseal: (!identities.is_empty()).then_some(&opener as &Unseal<'_>),
            checked: &checked,
            address: address.clone(),
            spec: resource.spec,
            source: source.clone(),
        };
        session(invocation, &opened).deed(&address, "import", &how(invocation), || {
            opened.runtime.import_backup(&import, &context)
        })?;
        for place in secrets {
            invocation.note(&format!(
                "{place} comes from a secret: it is there when its manifest is applied\n"
            ));
        }
        let owner = match source {
            Some(source) => format!(
                "of source {source}: it goes again with the next apply where that does not declare it"
            ),
            None => format!(
                "nobody's: `lifecycle.adopt: true` in its manifest or `keel adopt {address}` takes it on"
            ),
        };
        invocation.note(&format!("{address} is there, stopped and {owner}\n"));
        Ok(Exit::Done)
    }

    /// The configuration with what was asked for put into it, and the places of secrets that were taken out of it.
    fn document(
        &self,
        invocation: &Invocation,
        text: &str,
    ) -> Result<(Value, Vec<Pointer>), CliError> {
        let invalid = |why: &str| {
            CliError::new(
                Exit::Invalid,
                format!("the configuration in the backup {why}"),
            )
        };
        let (documents, found) = parse(MANIFEST, text);
        if found.has_errors() {
            return Err(invalid("is no YAML"));
        }
        let [document] = documents.as_slice() else {
            return Err(invalid("is not one document"));
        };
        let mut document = value_of(document).ok_or_else(|| invalid("cannot be understood"))?;
        if document["kind"] != Kind::Instance.name() || !document["metadata"].is_object() {
            return Err(invalid("is of no instance"));
        }
        if let Some(name) = &self.name {
            document["metadata"]["name"] = json!(name);
        }
        if invocation.global.project != "default" {
            document["metadata"]["project"] = json!(invocation.global.project);
        }
        if let Some(fields) = document.as_object_mut() {
            // Who owns it is decided here, and not by whoever made the backup.
            fields.remove("lifecycle");
        }
        if let Some(pool) = &self.pool
            && let Some(devices) = document["spec"]["devices"].as_object_mut()
        {
            let is_root = |device: &&mut Value| device["type"] == "disk" && device["path"] == "/";
            for root in devices.values_mut().filter(|device| is_root(device)) {
                root["pool"] = json!(pool);
            }
        }
        let mut secrets = Vec::new();
        take_out(&mut document["spec"], &Pointer::new("/spec"), &mut secrets);
        Ok((document, secrets))
    }

    /// Refuses what a policy denies.
    fn policies(
        &self,
        invocation: &Invocation,
        opened: &Opened,
        desired: &DesiredSet,
        address: &Address,
    ) -> Result<(), CliError> {
        let options = PlanOptions {
            approve: std::collections::BTreeSet::new(),
            allow: Allow::ALL.into(),
            no_trash: false,
            no_restore: false,
            purpose: Purpose::Apply,
            repeats: None,
        };
        let plan = session(invocation, opened).plan(desired, &options)?;
        let held = plan
            .held
            .iter()
            .filter(|held| held.step.address() == address);
        let because = held.flat_map(|held| &held.because).chain(&plan.stopping);
        let mut denied = because.filter(|because| because.code.0 == "G106");
        match denied.next() {
            None => Ok(()),
            Some(because) => {
                Err(CliError::new(Exit::Refused, because.message.clone()).coded(because.code.0))
            }
        }
    }
}

/// A tree of YAML as a value of JSON.
fn value_of(node: &Node) -> Option<Value> {
    decode(node, &Pointer::root(), |decoder| {
        Value::deserialize(decoder)
    })
    .ok()
}

/// Takes out what comes from secrets: they are looked up where the manifests are, and are never in a backup.
fn take_out(value: &mut Value, at: &Pointer, out: &mut Vec<Pointer>) {
    let Value::Object(fields) = value else {
        return;
    };
    let of_secret = |value: &Value| {
        value.as_object().is_some_and(|fields| {
            fields.contains_key("secretRef")
                || fields
                    .get("template")
                    .and_then(Value::as_str)
                    .is_some_and(|text| text.contains(manifests::secret::IN_TEMPLATE))
        })
    };
    let holds_one = |value: &Value| {
        // A file is not there without what is in it.
        of_secret(value) || value.get("content").is_some_and(of_secret)
    };
    let gone: Vec<String> = fields
        .iter()
        .filter(|(_, value)| holds_one(value))
        .map(|(key, _)| key.clone())
        .collect();
    for key in gone {
        fields.remove(&key);
        out.push(at.field(&key));
    }
    for (key, below) in fields {
        take_out(below, &at.field(key), out);
    }
}

/// The source of this folder, where it is one.
fn around() -> Result<Option<Texts>, CliError> {
    let here = Path::new(".");
    if !here.join(SOURCE_FILE).is_file() {
        return Ok(None);
    }
    // Says what is wrong with it, where something is.
    source_of_path(None)?;
    Ok(Some(read::read(here).map_err(
        |error: path_io::PathError| CliError::new(Exit::Invalid, error),
    )?))
}

/// The texts of which the configuration is one: it stands in a source of its own, that refers to what is elsewhere, with the
/// projects and policies of the one around.
fn texts(
    document: &Value,
    around: Option<&Texts>,
    source: Option<&SourceName>,
) -> Result<Texts, CliError> {
    let mut own = json!({
        "apiVersion": API_VERSION,
        "kind": "Source",
        "name": source.map_or("backup", SourceName::as_str),
        "external": references(document),
    });
    let mut texts = Texts {
        root: absolute(Path::new("."))?,
        ..Texts::default()
    };
    for (name, text) in around.iter().flat_map(|around| &around.files) {
        if name == SOURCE_FILE {
            let (documents, _) = parse(name, text);
            let first = documents.first().and_then(value_of).unwrap_or_default();
            if let Some(variables) = first.get("variables") {
                own["variables"] = variables.clone();
            }
            continue;
        }
        let kept = rules_in(name, text);
        if !kept.trim().is_empty() {
            texts.files.push((name.clone(), kept));
        }
    }
    texts.files.push((SOURCE_FILE.to_owned(), yaml(&own)?));
    // No file of a source has that name: it would be one of its manifests.
    texts
        .files
        .push((format!(".backup/{MANIFEST}"), yaml(document)?));
    texts.files.sort();
    Ok(texts)
}

/// What the configuration refers to, as `external` of a `keel.yaml` has it. What is not there is told when it starts.
fn references(document: &Value) -> Vec<String> {
    let Ok(spec) = Spec::deserialize(Kind::Instance, document["spec"].clone()) else {
        return Vec::new();
    };
    let project = document["metadata"]["project"]
        .as_str()
        .unwrap_or("default");
    let mut all = Vec::new();
    for reference in spec.references() {
        let mut address = Address::new(reference.kind, &reference.name);
        address.pool.clone_from(&reference.pool);
        all.push(address.to_string());
        if !reference.kind.belongs_to_host() && project != "default" {
            let mut own = Address::in_project(reference.kind, project, &reference.name);
            own.pool.clone_from(&reference.pool);
            all.push(own.to_string());
        }
    }
    all.sort();
    all.dedup();
    all
}

/// The projects and policies of a file, each in the lines where it stands.
fn rules_in(name: &str, text: &str) -> String {
    let mut kept = String::new();
    let mut chunk = String::new();
    let mut end = |chunk: &mut String| {
        let (documents, _) = parse(name, chunk);
        let is_rule = documents.iter().any(|document| {
            let kind = document.get("kind").and_then(Node::text);
            matches!(kind, Some("Project" | "Policy"))
        });
        match is_rule {
            true => kept.push_str(chunk),
            false => kept.extend(std::iter::repeat_n('\n', chunk.matches('\n').count())),
        }
        chunk.clear();
    };
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" {
            end(&mut chunk);
        }
        chunk.push_str(line);
    }
    end(&mut chunk);
    kept
}

/// The one instance that is declared.
fn declared(desired: &DesiredSet) -> Result<Resource, CliError> {
    let mut all = desired.resources.values();
    let found = all.find(|one| one.address.kind == Kind::Instance);
    found
        .cloned()
        .ok_or_else(|| CliError::new(Exit::Invalid, "the configuration declares no instance"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_source_only_its_rules_count() {
        let text = "kind: Project\nmetadata: { name: shop }\n---\nkind: Instance\nmetadata: { name: web }\n---\nkind: Policy\n";
        let kept = rules_in("a.yaml", text);
        assert_eq!(
            kept,
            "kind: Project\nmetadata: { name: shop }\n\n\n\n---\nkind: Policy\n"
        );
        assert_eq!(kept.lines().count(), text.lines().count());
    }

    #[test]
    fn what_comes_from_secrets_is_taken_out() {
        let mut spec = json!({
            "environment": { "A": "b", "C": { "secretRef": { "name": "db", "key": "x" } } },
            "files": { "/etc/x": { "content": { "template": "${secret.db.x}" } }, "/etc/y": { "content": "y" } },
        });
        let mut out = Vec::new();
        take_out(&mut spec, &Pointer::new("/spec"), &mut out);
        assert_eq!(
            spec,
            json!({ "environment": { "A": "b" }, "files": { "/etc/y": { "content": "y" } } })
        );
        assert_eq!(out.len(), 2);
    }
}
