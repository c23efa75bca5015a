//! `keel render`.

use std::path::PathBuf;

use manifests::desired::{Readiness, Resource};
use manifests::id::Address;
use manifests::kind::Kind;
use serde_json::{Map, Value, json};

use super::get::yaml;
use super::invocation::Invocation;
use super::read::Source;
use crate::error::{CliError, Exit};
use crate::view::text;

/// Print the resolved documents: profiles merged, defaults filled, variables replaced.
#[derive(Debug, clap::Args)]
pub(super) struct Render {
    /// The source; absent: this folder.
    path: Option<PathBuf>,
    /// Say where each value came from; what is not named is a default.
    #[arg(long)]
    provenance: bool,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    output: Format,
}

/// How documents are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A stream of YAML documents.
    Yaml,
    /// One JSON list.
    Json,
}

impl Render {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let wanted = Source::read(self.path.as_deref())?.meaning(invocation)?;
        let narrow = &invocation.global;
        let resources: Vec<&Resource> = wanted
            .desired
            .resources
            .values()
            .filter(|one| narrow.only.is_empty() || narrow.only.contains(&one.address))
            .filter(|one| !narrow.exclude.contains(&one.address))
            .collect();
        let json = || {
            let items: Vec<Value> = resources
                .iter()
                .map(|resource| document(resource, self.provenance))
                .collect();
            let list = json!({"apiVersion": "evenkeel/v1", "kind": "List", "items": items});
            format!("{list:#}\n")
        };
        invocation.json_into(json)?;
        match self.output {
            Format::Json => invocation.print_plain(&json())?,
            Format::Yaml => {
                let mut out = String::new();
                for (index, resource) in resources.iter().enumerate() {
                    if index > 0 {
                        out.push_str("---\n");
                    }
                    if self.provenance {
                        out.push_str(&provenance(resource));
                    }
                    out.push_str(&yaml(&document(resource, false))?);
                }
                invocation.print_plain(&out)?;
            }
        }
        Ok(Exit::Done)
    }
}

/// The envelope of a wanted object.
fn document(resource: &Resource, provenance: bool) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(resource.address.name));
    if let Some(project) = &resource.address.project {
        metadata.insert("project".to_owned(), json!(project));
    }
    if !resource.labels.is_empty() {
        metadata.insert("labels".to_owned(), json!(resource.labels));
    }
    if !resource.annotations.is_empty() {
        metadata.insert("annotations".to_owned(), json!(resource.annotations));
    }
    let mut document = json!({
        "apiVersion": "evenkeel/v1",
        "kind": resource.address.kind.name(),
        "metadata": metadata,
        "spec": resource.spec.to_value(),
        "lifecycle": resource.lifecycle,
    });
    let names: Vec<&str> = resource
        .previous
        .iter()
        .map(|address| address.name.as_str())
        .collect();
    if !names.is_empty() {
        document["metadata"]["previousNames"] = json!(names);
    }
    let depends_on = depends_on(resource);
    if !depends_on.is_empty() {
        document["dependsOn"] = Value::Object(depends_on);
    }
    if provenance {
        let mut places = Map::new();
        resource.provenance.each(&mut |path, origin| {
            places.insert(path.to_string(), json!(origin.to_string()));
        });
        document["provenance"] = Value::Object(places);
    }
    document
}

/// What must be there first, beyond what the references of the spec say.
fn depends_on(resource: &Resource) -> Map<String, Value> {
    let references = resource.spec.references();
    let implied = |need: &Address| {
        need.kind == Kind::Secret
            || references
                .iter()
                .any(|one| one.kind == need.kind && one.name == need.name)
    };
    resource
        .needs
        .iter()
        .filter(|(need, readiness)| *readiness != Readiness::Started || !implied(need))
        .map(|(need, readiness)| (need.to_string(), json!(readiness)))
        .collect()
}

/// A comment line for each written value.
fn provenance(resource: &Resource) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    resource.provenance.each(&mut |path, origin| {
        rows.push((path.dotted(), origin.to_string()));
    });
    let widest = rows.iter().map(|(path, _)| text::width(path)).max();
    let column = widest.unwrap_or(0).min(48) + 2;
    rows.iter()
        .map(|(path, origin)| {
            let path = text::pad(&text::visible(path), column);
            format!("# {path}{}\n", text::visible(origin))
        })
        .collect()
}
