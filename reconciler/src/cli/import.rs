//! `keel import`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use manifests::envelope::API_VERSION;
use manifests::id::{Address, SourceName};
use manifests::kind::{Kind, Spec};
use manifests::observed::{Item, Unseen};
use manifests::path_io;
use manifests::read::SOURCE_FILE;
use manifests::scalar::text::SEALED;
use manifests::secret::{each_text, in_template};
use runtime::incus::AsWritten;
use serde_json::{Value, json};

use super::HumanOrJson;
use super::apply::Run;
use super::decide::{Decisions, look_up_secrets, session};
use super::engine::{self, Opened};
use super::get::yaml;
use super::global::Engine;
use super::invocation::{Invocation, absolute, say};
use super::read::Source;
use crate::error::{CliError, Exit};
use crate::plan::{Plan, Purpose};
use crate::view::manifest;
use crate::view::text::{counted, shell_word, visible};

/// Write manifests of what runs, so that git says from now on what it should be.
///
/// No file is overwritten, and nothing that runs is changed; with --adopt, what nobody owns gets the mark of the source. The
/// next plan of what was written is empty; where it is not, it is said what stands in it, and nothing is marked.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// Where from: `host` is this host's native engine; incus:REMOTE, incus:unix:PATH or incus:https://HOST:PORT a server of
    /// Incus, of which all is written that no other source owns.
    #[arg(value_name = "FROM")]
    from: From,
    /// The folder to write into; it has no manifests yet.
    #[arg(value_name = "DIR")]
    into: PathBuf,
    /// The source whose objects are written; absent: the one that there is.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Take over what nobody owns: it is written and marked as this source's.
    #[arg(long)]
    adopt: bool,
}

#[derive(Debug, Clone)]
enum From {
    /// This host.
    Host,
    /// A server.
    Server(Engine),
}

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "host" => Ok(Self::Host),
            Ok(server @ Engine::Incus(_)) => Ok(Self::Server(server)),
            _ => Err(format!(
                "`{text}` is no place to import from: write host, incus:REMOTE, incus:unix:PATH or incus:https://HOST:PORT"
            )),
        }
    }
}

impl Import {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let invocation = &invocation.with_engine(match &self.from {
            From::Host => Engine::Native,
            From::Server(engine) => engine.clone(),
        });
        let into = absolute(&self.into)?;
        refuse_manifests(&into)?;
        let opened = engine::open(invocation)?;
        let items = opened.runtime.observe()?.items;
        let source = self.source(&items)?;
        let chosen = self.chosen(&items, &source);
        if chosen.is_empty() {
            let message = format!("source {source} owns nothing here");
            return Err(CliError::new(Exit::Unexpected, message)
                .hint("--adopt writes what nobody owns; keel get says who owns what"));
        }
        let written = opened.runtime.as_written()?;
        let files = files(&source, &chosen, &items, &written)?;
        for (name, text) in &files {
            let path = into.join(name);
            if let Some(folder) = path.parent() {
                path_io::create_dir_all(folder)?;
            }
            path_io::write_durably(path, text)?;
        }
        for (address, unseen) in unseen(&chosen, &written) {
            say(&format!(
                "{address} {}: {}\n",
                unseen.path,
                visible(&unseen.why)
            ));
        }
        invocation.print(&format!(
            "{} of source {source} in {} below {}\n",
            counted(chosen.len(), "object"),
            counted(files.len(), "file"),
            visible(&self.into.display().to_string())
        ))?;
        if !self.takes_all() {
            let nobody = items.iter().filter(|item| item.mark.is_none()).count();
            if nobody > 0 {
                let what = counted(nobody, "object");
                invocation.note(&format!(
                    "{what} that nobody owns: left out, --adopt writes them\n"
                ));
            }
        }
        self.tell_next(invocation, &opened, &into)
    }

    /// Whether what nobody owns is written. On a server that is all there is before the first time.
    const fn takes_all(&self) -> bool {
        self.adopt || matches!(self.from, From::Server(_))
    }

    /// The source that is meant.
    fn source(&self, items: &[Item]) -> Result<SourceName, CliError> {
        if let Some(name) = &self.source {
            return Ok(SourceName::new(name.clone()));
        }
        let names: BTreeSet<&SourceName> = items
            .iter()
            .filter_map(|item| item.mark.as_ref())
            .map(|mark| &mark.source)
            .collect();
        let mut names = names.into_iter();
        match (names.next(), names.next()) {
            (Some(one), None) => Ok(one.clone()),
            (None, _) => Ok(SourceName::new("imported")),
            (Some(one), Some(two)) => {
                let mut all = vec![one.to_string(), two.to_string()];
                all.extend(names.map(ToString::to_string));
                let message = format!("there are several sources here: {}", all.join(", "));
                Err(CliError::usage(message).hint("say which one: --source NAME"))
            }
        }
    }

    fn chosen<'a>(&self, items: &'a [Item], source: &SourceName) -> Vec<&'a Item> {
        let meant = |item: &&Item| match &item.mark {
            Some(mark) => mark.source == *source,
            None => self.takes_all() && is_said(item),
        };
        items.iter().filter(meant).collect()
    }

    /// Says what the next plan will have in it: nothing, it is hoped.
    fn tell_next(
        &self,
        invocation: &Invocation,
        opened: &Opened,
        into: &Path,
    ) -> Result<Exit, CliError> {
        let wanted = Source::read(Some(into))?.desired(invocation)?;
        let (mut desired, texts) = (wanted.desired, wanted.texts);
        let missing = look_up_secrets(&mut desired, &texts, opened);
        if !missing.is_empty() {
            say(
                "the values of secrets are not told by a host: say in secrets.yaml where they are\n",
            );
            return Ok(Exit::Done);
        }
        let decisions = Decisions {
            // It comes from here from now on.
            approve: vec!["G107".to_owned()],
            ..Decisions::default()
        };
        let options = decisions.options(Purpose::Apply);
        let plan = session(invocation, opened).plan(&desired, &options)?;
        let next = format!(
            "{} plan {}",
            invocation.global.keel(),
            shell_word(&self.into)
        );
        let own = Decisions::default();
        let moved = session(invocation, opened).plan(&desired, &own.options(Purpose::Apply))?;
        if !moved.stopping.is_empty() {
            say(
                "the source came from another folder so far: --approve G107 says once that it moved\n",
            );
        }
        let differences = differences(&plan, self.takes_all());
        if !differences.is_empty() {
            say(&format!(
                "the next plan is not empty, look at it before it is applied: {next}\n  {}\n",
                differences.join("\n  ")
            ));
            return Ok(Exit::Done);
        }
        let to_adopt = plan.steps.len();
        if self.adopt && to_adopt > 0 && moved.stopping.is_empty() {
            let run = Run {
                path: Some(&self.into),
                yes: true,
                output: HumanOrJson::Human,
                decisions: &own,
                desired: &desired,
                found: &wanted.found,
                files: &texts.files,
                options: own.options(Purpose::Apply),
                saved: None,
            };
            return run.carry_out(invocation, opened);
        }
        invocation.note(&match to_adopt {
            0 => format!("the next plan is empty: {next}\n"),
            some => format!(
                "the next plan takes over {} and does nothing else: {next}\n",
                counted(some, "object")
            ),
        });
        Ok(Exit::Done)
    }
}

/// What a plan would do besides taking over.
fn differences(plan: &Plan, adopts: bool) -> Vec<String> {
    let held = plan.held.iter().map(|held| &held.step);
    plan.steps
        .iter()
        .chain(held)
        .filter(|step| !(adopts && step.word() == "adopt"))
        .map(|step| format!("{} {}", step.deed(), step.address()))
        .collect()
}

/// Whoever has manifests there keeps them.
fn refuse_manifests(into: &Path) -> Result<(), CliError> {
    let found = match path_io::list(into) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let is_manifest = |path: &&PathBuf| {
        let end = path.extension().and_then(|end| end.to_str());
        matches!(end, Some("yaml" | "yml")) || path.join(SOURCE_FILE).exists()
    };
    match found.iter().find(is_manifest) {
        None => Ok(()),
        Some(path) => Err(CliError::usage(format!(
            "{} is there already: nothing is overwritten",
            path.display()
        ))
        .hint("name a new folder, and take over from it what you like")),
    }
}

/// The files by their names.
fn files(
    source: &SourceName,
    chosen: &[&Item],
    all: &[Item],
    written: &AsWritten,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut files = BTreeMap::new();
    let mut keel = json!({ "apiVersion": API_VERSION, "kind": "Source", "name": source });
    let others = others(chosen, all);
    if !others.is_empty() {
        keel["external"] = json!(others);
    }
    files.insert(SOURCE_FILE.to_owned(), yaml(&keel)?);
    let mut add = |name: &str, document: &Value| -> Result<(), CliError> {
        let text = yaml(document)?;
        let file: &mut String = files.entry(name.to_owned()).or_default();
        if !file.is_empty() {
            file.push_str("---\n");
        }
        file.push_str(&text);
        Ok(())
    };
    for (address, profile) in &written.profiles {
        add(&file_of(address), &manifest::of_profile(address, profile))?;
    }
    for item in chosen {
        let own = written.instances.get(&item.address);
        let document = match own.filter(|_| item.mark.is_none()) {
            Some(own) => manifest::under_profiles(item, own, &written.profiles),
            None => manifest::document(item),
        };
        add(&file_of(&item.address), &document)?;
    }
    for (name, keys) in secrets(chosen) {
        let places: BTreeMap<&String, String> = keys
            .iter()
            .map(|key| (key, format!("/etc/keel/secrets/{name}-{key}")))
            .collect();
        let document = json!({
            "apiVersion": API_VERSION,
            "kind": Kind::Secret.name(),
            "metadata": { "name": name },
            "spec": { "source": { "files": places } },
        });
        add("secrets.yaml", &document)?;
    }
    Ok(files)
}

/// Whether a manifest can say it: of an image that somebody brought to a server, nobody knows where it came from. Instances
/// name it by its alias all the same.
fn is_said(item: &Item) -> bool {
    !matches!(&item.spec, Spec::Image(image) if image.source.is_none())
}

/// What could not be read, so that no manifest says it.
fn unseen<'a>(chosen: &[&'a Item], written: &'a AsWritten) -> Vec<(&'a Address, &'a Unseen)> {
    let of_items = chosen
        .iter()
        .flat_map(|item| item.unseen.iter().map(|one| (&item.address, one)));
    let of_profiles = written.unseen.iter().map(|(address, one)| (address, one));
    of_items.chain(of_profiles).collect()
}

/// Where people look for an object.
fn file_of(address: &Address) -> String {
    let project = address
        .project
        .as_ref()
        .map(|project| format!("{project}/"));
    let project = project.unwrap_or_default();
    match address.kind {
        Kind::Instance => format!("{project}instances/{}.yaml", address.name),
        Kind::Image => format!("{project}images.yaml"),
        Kind::Network => format!("{project}networks.yaml"),
        Kind::Profile => format!("{project}profiles.yaml"),
        Kind::StoragePool | Kind::Volume => format!("{project}storage.yaml"),
        other => format!("{project}{}s.yaml", other.word()),
    }
}

/// Objects of other sources that the chosen ones refer to.
fn others(chosen: &[&Item], all: &[Item]) -> Vec<String> {
    let own: BTreeSet<&Address> = chosen.iter().map(|item| &item.address).collect();
    let mut needed = BTreeSet::new();
    for item in chosen {
        for reference in item.spec.references() {
            let mut others = all.iter().map(|other| &other.address);
            let found = others
                .find(|address| address.kind == reference.kind && address.name == reference.name);
            if let Some(address) = found.filter(|address| !own.contains(address)) {
                needed.insert(format!("{}/{}", address.kind.name(), address.name));
            }
        }
    }
    needed.into_iter().collect()
}

/// The secrets that texts come from, with their keys.
fn secrets(chosen: &[&Item]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for item in chosen {
        let mut spec = item.spec.to_value();
        each_text(&mut spec, &mut |text, _| {
            let Some(sealed) = text.get(SEALED) else {
                return;
            };
            if let Some(reference) = sealed.get("secretRef") {
                let word = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
                found.entry(word("name")).or_default().insert(word("key"));
            }
            let template = sealed.get("template").and_then(Value::as_str);
            for (name, key) in in_template(template.unwrap_or_default()) {
                found
                    .entry(name.to_owned())
                    .or_default()
                    .insert(key.to_owned());
            }
        });
    }
    found
}
