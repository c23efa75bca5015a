//! `keel backup import`: the configuration in a backup goes the way of any manifest before anything is made.

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
use runtime::native::backup::{Head, Unseal, VolumeHead};
use runtime::native::{BackupImport, VolumeImport};
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
use super::{Keys, check, context, of_a_part, opener};
use crate::error::{CliError, Exit};
use crate::plan::{Allow, PlanOptions, Purpose};
use crate::view::text::visible;

/// The names under which findings are told.
const MANIFEST: &str = "manifest.yaml";

/// Bring in what is in a backup under names that are free: an instance with its snapshots, stopped, and volumes.
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
    /// The pool for the root of the instance, or for the volume that it is a backup of; absent: the one of that name.
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// What a volume that comes with an instance becomes here: its pool and its name, before and after.
    #[arg(long, value_name = "POOL/NAME=POOL/NAME", value_parser = moved)]
    volume: Vec<(Place, Place)>,
    /// Leave the volumes out that come with an instance: it has those of their names that are here.
    #[arg(long, conflicts_with = "volume")]
    without_volumes: bool,
    /// The source that owns it; absent: that of this folder, if it is one.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    #[command(flatten)]
    keys: Keys,
}

/// Where a volume is: its pool and its name.
type Place = (String, String);

fn moved(text: &str) -> Result<(Place, Place), String> {
    let place = |text: &str| {
        let (pool, name) = text.split_once('/')?;
        let whole = !pool.is_empty() && !name.is_empty();
        whole.then(|| (pool.to_owned(), name.to_owned()))
    };
    let both = text
        .split_once('=')
        .and_then(|(from, to)| Some((place(from)?, place(to)?)));
    both.ok_or_else(|| "it is no POOL/NAME=POOL/NAME".to_owned())
}

/// The configuration in a backup, with what was asked for put into it.
struct Documents {
    /// The instance first, where there is one, then the volumes.
    all: Vec<Value>,
    /// The numbers of the volumes.
    numbers: Vec<u32>,
    /// The places of secrets that were taken out.
    secrets: Vec<Pointer>,
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
            .map_err(|error| of_a_part(&path, CliError::new(Exit::Unexpected, error)))?;
        let documents = self.documents(invocation, &checked.manifest, &checked.head)?;
        let around = around()?;
        let source = match (&self.source, &around) {
            (Some(name), _) => Some(SourceName::new(name.clone())),
            (None, Some(texts)) => manifests::resolve::source_of(texts).map(|source| source.name),
            (None, None) => None,
        };
        let texts = texts(&documents.all, around.as_ref(), source.as_ref())?;
        let wanted = Source::of(texts, None, None).desired(invocation)?;
        let mut desired = wanted.desired;
        let mut declared = documents
            .all
            .iter()
            .map(|document| declared(&desired, document))
            .collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<Address> = declared.iter().map(|one| one.address.clone()).collect();
        desired.keep(|one| addresses.contains(&one.address));
        right_host(&desired, &wanted.texts, &opened.runtime.capabilities()?)?;
        self.policies(invocation, &opened, &desired, &addresses)?;
        let volumes = declared.split_off(declared.len() - documents.numbers.len());
        let volumes = documents.numbers.iter().zip(volumes);
        let import = BackupImport {
            path,
            unseal: (!identities.is_empty()).then_some(&opener as &Unseal<'_>),
            checked: &checked,
            instance: declared.pop().map(|one| (one.address, one.spec)),
            volumes: volumes
                .map(|(number, one)| VolumeImport {
                    number: *number,
                    address: one.address,
                    spec: one.spec,
                })
                .collect(),
            source: source.clone(),
        };
        let first = addresses
            .first()
            .ok_or_else(|| no_document("declares nothing"))?;
        let native = opened.native()?;
        session(invocation, &opened).deed(first, "import", &how(invocation), || {
            native.import_backup(&import, &context)
        })?;
        for place in documents.secrets {
            invocation.note(&format!(
                "{place} comes from a secret: it is there when its manifest is applied\n"
            ));
        }
        for address in &addresses {
            let owner = match &source {
                Some(source) => format!(
                    "of source {source}: it goes again with the next apply where that does not declare it"
                ),
                None => format!(
                    "nobody's: `lifecycle.adopt: true` in its manifest or `keel adopt {address}` takes it on"
                ),
            };
            let state = match address.kind {
                Kind::Instance => "stopped and ",
                _ => "",
            };
            invocation.note(&format!("{address} is there, {state}{owner}\n"));
        }
        Ok(Exit::Done)
    }

    /// The configuration with what was asked for put into it.
    fn documents(
        &self,
        invocation: &Invocation,
        text: &str,
        head: &Head,
    ) -> Result<Documents, CliError> {
        let (documents, found) = parse(MANIFEST, text);
        if found.has_errors() {
            return Err(no_document("is no YAML"));
        }
        let mut all = documents
            .iter()
            .map(|document| value_of(document).ok_or_else(|| no_document("cannot be understood")))
            .collect::<Result<Vec<_>, _>>()?;
        let instances = usize::from(head.instance.is_some());
        if all.len() != instances + head.volumes.len() {
            return Err(no_document("is not what is in it"));
        }
        if let Some(moved) = self.volume.iter().map(|(from, _)| from).find(|from| {
            let is_it = |one: &VolumeHead| place_of(&one.address) == **from;
            instances == 0 || !head.volumes.iter().any(is_it)
        }) {
            let why = format!(
                "no volume {}/{} comes with an instance in it",
                moved.0, moved.1
            );
            return Err(CliError::usage(why));
        }
        for (document, wanted) in all.iter().zip(
            head.instance
                .iter()
                .chain(head.volumes.iter().map(|one| &one.address)),
        ) {
            if address_of(document).as_ref() != Some(wanted) {
                return Err(no_document(&format!("is not that of {wanted}")));
            }
        }
        let mut numbers: Vec<u32> = (0..).zip(&head.volumes).map(|(at, _)| at).collect();
        if self.without_volumes && instances == 1 {
            all.truncate(1);
            numbers.clear();
        }
        let mut secrets = Vec::new();
        for (at, document) in all.iter_mut().enumerate() {
            if at == 0
                && let Some(name) = &self.name
            {
                document["metadata"]["name"] = json!(name);
            }
            if invocation.global.project != "default" {
                document["metadata"]["project"] = json!(invocation.global.project);
            }
            if let Some(fields) = document.as_object_mut() {
                // Who owns it is decided here, and not by whoever made the backup.
                fields.remove("lifecycle");
            }
            match at < instances {
                true => self.move_disks(document),
                false => self.move_volume(document, instances == 0),
            }
            take_out(&mut document["spec"], &Pointer::new("/spec"), &mut secrets);
        }
        Ok(Documents {
            all,
            numbers,
            secrets,
        })
    }

    fn move_disks(&self, document: &mut Value) {
        let Some(devices) = document["spec"]["devices"].as_object_mut() else {
            return;
        };
        for disk in devices.values_mut().filter(|one| one["type"] == "disk") {
            if disk["path"] == "/" {
                if let Some(pool) = &self.pool {
                    disk["pool"] = json!(pool);
                }
                continue;
            }
            let is_it = |(pool, name): &Place| disk["pool"] == **pool && disk["source"] == **name;
            if let Some((_, (pool, name))) = self.volume.iter().find(|(from, _)| is_it(from)) {
                disk["pool"] = json!(pool);
                disk["source"] = json!(name);
            }
        }
    }

    fn move_volume(&self, document: &mut Value, alone: bool) {
        if let Some(pool) = self.pool.as_ref().filter(|_| alone) {
            document["spec"]["pool"] = json!(pool);
        }
        let is_it = |(pool, name): &Place| {
            document["spec"]["pool"] == **pool && document["metadata"]["name"] == **name
        };
        if let Some((_, (pool, name))) = self.volume.iter().find(|(from, _)| is_it(from)) {
            document["spec"]["pool"] = json!(pool);
            document["metadata"]["name"] = json!(name);
        }
    }

    /// Refuses what a policy denies.
    fn policies(
        &self,
        invocation: &Invocation,
        opened: &Opened,
        desired: &DesiredSet,
        addresses: &[Address],
    ) -> Result<(), CliError> {
        let options = PlanOptions {
            approve: std::collections::BTreeSet::new(),
            allow: Allow::ALL.into(),
            no_trash: false,
            no_restore: false,
            resting: Vec::new(),
            purpose: Purpose::Apply,
            repeats: None,
        };
        let plan = session(invocation, opened).plan(desired, &options)?;
        let held = plan
            .held
            .iter()
            .filter(|held| addresses.contains(held.step.address()));
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

fn no_document(why: &str) -> CliError {
    CliError::new(
        Exit::Invalid,
        format!("the configuration in the backup {why}"),
    )
}

fn place_of(volume: &Address) -> Place {
    (volume.pool.clone().unwrap_or_default(), volume.name.clone())
}

/// The address of a document; none: it is of neither an instance nor a volume.
fn address_of(document: &Value) -> Option<Address> {
    let metadata = document["metadata"].as_object()?;
    let name = metadata.get("name")?.as_str()?;
    let project = metadata.get("project").and_then(Value::as_str);
    let project = project.unwrap_or("default");
    let kind = [Kind::Instance, Kind::Volume]
        .into_iter()
        .find(|kind| document["kind"] == kind.name())?;
    let mut address = Address::in_project(kind, project, name);
    if kind == Kind::Volume {
        address.pool = Some(document["spec"]["pool"].as_str()?.to_owned());
    }
    Some(address)
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

/// The texts of which the configuration is some: it stands in a source of its own, that refers to what is elsewhere, with the
/// projects and policies of the one around.
fn texts(
    documents: &[Value],
    around: Option<&Texts>,
    source: Option<&SourceName>,
) -> Result<Texts, CliError> {
    let mut own = json!({
        "apiVersion": API_VERSION,
        "kind": "Source",
        "name": source.map_or("backup", SourceName::as_str),
        "external": references(documents),
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
    for (number, document) in documents.iter().enumerate() {
        let name = match number {
            0 => format!(".backup/{MANIFEST}"),
            number => format!(".backup/{number}/{MANIFEST}"),
        };
        texts.files.push((name, yaml(document)?));
    }
    texts.files.sort();
    Ok(texts)
}

/// What the configuration refers to beside itself, as `external` of a `keel.yaml` has it. What is not there is told when it
/// starts.
fn references(documents: &[Value]) -> Vec<String> {
    let own: Vec<Address> = documents.iter().filter_map(address_of).collect();
    let mut all = Vec::new();
    for document in documents {
        let Some(address) = address_of(document) else {
            continue;
        };
        let Ok(spec) = Spec::deserialize(address.kind, document["spec"].clone()) else {
            continue;
        };
        for reference in spec.references() {
            let mut of_host = Address::new(reference.kind, &reference.name);
            of_host.pool.clone_from(&reference.pool);
            let mut found = vec![of_host];
            if !reference.kind.belongs_to_host() && address.project.is_some() {
                let project = address.project_name();
                let mut of_project = Address::in_project(reference.kind, project, &reference.name);
                of_project.pool.clone_from(&reference.pool);
                found.push(of_project);
            }
            found.retain(|one| !own.contains(one));
            all.extend(found.iter().map(ToString::to_string));
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

/// What a document declares.
fn declared(desired: &DesiredSet, document: &Value) -> Result<Resource, CliError> {
    let found = address_of(document).and_then(|address| desired.resources.get(&address));
    found
        .cloned()
        .ok_or_else(|| no_document("declares something else"))
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
