//! A plan as a JSON document, `formatVersion` 1.0: for machines, and to be applied later.
//!
//! It carries the manifests that it was made from, so that applying it needs nothing else, and a digest over all of it,
//! so that an edited one is refused.

use std::collections::BTreeMap;

use manifests::attached::AttachedFiles;
use manifests::diagnostic::{Diagnostics, Origin};
use manifests::read::Texts;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::plan::summary_counts;
use crate::plan::{Because, Plan, PlannedChange, Step};

/// The version of the document; a reader takes every 1.x.
pub const FORMAT: &str = "1.0";

/// What a plan was made from: enough to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MadeFrom {
    /// The folder of the source.
    pub root: std::path::PathBuf,
    /// The commit.
    pub revision: Option<String>,
    /// Why the texts are only a part of the source.
    pub partial: Option<String>,
    /// The file or folder that is meant; none: all.
    pub part: Option<String>,
    /// Name and content of each file.
    pub files: Vec<(String, String)>,
    /// The files that manifests take in as texts.
    #[serde(default, skip_serializing_if = "AttachedFiles::is_empty")]
    pub attached: AttachedFiles,
    /// `--only`.
    pub only: Vec<manifests::id::Address>,
    /// `--exclude`.
    pub exclude: Vec<manifests::id::Address>,
    /// `-l`.
    pub selector: Option<String>,
    /// `--approve`.
    pub approve: Vec<String>,
    /// `--allow`.
    pub allow: Vec<String>,
    /// `--no-trash`.
    pub no_trash: bool,
}

impl MadeFrom {
    /// The texts as they were read.
    pub fn texts(&self) -> Texts {
        Texts {
            root: self.root.clone(),
            files: self.files.clone(),
            partial: self.partial.clone(),
            only: self.part.clone(),
            attached: self.attached.clone(),
            ..Texts::default()
        }
    }
}

/// The document.
pub fn document(plan: &Plan, found: &Diagnostics, from: Option<&MadeFrom>) -> Value {
    let summary: Map<String, Value> = summary_counts(plan)
        .into_iter()
        .map(|(word, count)| (word, json!(count)))
        .collect();
    let names: BTreeMap<_, _> = plan
        .steps
        .iter()
        .map(|step| (step.id, step.address().to_string()))
        .collect();
    let changes: Vec<Value> = plan.steps.iter().map(|step| change(step, &names)).collect();
    let held: Vec<Value> = plan
        .held
        .iter()
        .map(|held| {
            let mut value = change(&held.step, &names);
            value["because"] = json!(held.because);
            value
        })
        .collect();
    let guards: Vec<Value> = plan.stopping.iter().map(guard).collect();
    let mut document = json!({
        "formatVersion": FORMAT,
        "tool": {"name": "keel", "version": env!("CARGO_PKG_VERSION")},
        "id": plan.id,
        "purpose": plan.purpose,
        "source": {
            "name": plan.source.name,
            "root": plan.source.root,
            "revision": plan.source.revision,
            "verified": null,
        },
        "partial": plan.source.partial,
        "host": plan.host,
        "engine": plan.engine,
        "stateId": plan.state_id,
        "generation": plan.generation,
        "madeAt": plan.made_at,
        "summary": summary,
        "changes": changes,
        "held": held,
        "guards": guards,
        "waiting": plan.waiting.iter().map(|waiting| json!({
            "id": waiting.address, "since": waiting.since, "fields": fields(&waiting.changes),
        })).collect::<Vec<_>>(),
        "told": plan.told.iter().map(|told| json!({
            "id": told.address, "source": told.origin.as_ref().map(place), "fields": told.changes,
        })).collect::<Vec<_>>(),
        "notes": plan.notes,
        "secrets": plan.secrets,
        "unseen": plan.unseen,
        "diagnostics": found,
    });
    if let Some(from) = from {
        document["desired"] = json!(from);
    }
    let digest = digest(&document);
    document["digest"] = json!(digest);
    document
}

/// What must be equal for a saved plan to be still true: what is done, to what, seeing what. Identities of new objects
/// are picked by each plan anew and left out, and so is how much data would be lost: what runs writes all the time.
pub fn essence(document: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for key in ["changes", "held"] {
        for change in document[key].as_array().into_iter().flatten() {
            let mut change = change.clone();
            if let Some(fields) = change.as_object_mut() {
                fields.remove("uid");
                fields.remove("because");
                fields.remove("loss");
                fields.insert("list".to_owned(), json!(key));
            }
            all.push(change);
        }
    }
    // Two values of a secret have the same mask.
    all.push(document["secrets"].clone());
    all
}

/// Why a document cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum NotAPlan {
    /// It is no plan.
    #[error("it is no plan that keel saved")]
    Form,
    /// A newer keel made it.
    #[error("its format {0} is not known to this version")]
    Format(String),
    /// It is not as keel wrote it.
    #[error("it was edited after it was saved")]
    Edited,
    /// It has no desired state: it shows what a destroy or another command would do.
    #[error("it does not carry what is wanted")]
    Bare,
}

/// Reads a saved plan: the document and what it was made from.
///
/// # Errors
/// It is none, of a newer format, or edited.
pub fn read(text: &str) -> Result<(Value, MadeFrom), NotAPlan> {
    let mut document: Value = serde_json::from_str(text).map_err(|_| NotAPlan::Form)?;
    let format = document["formatVersion"].as_str().ok_or(NotAPlan::Form)?;
    if !format.starts_with("1.") {
        return Err(NotAPlan::Format(format.to_owned()));
    }
    let fields = document.as_object_mut().ok_or(NotAPlan::Form)?;
    let said = fields.shift_remove("digest").ok_or(NotAPlan::Form)?;
    if said != json!(digest(&document)) {
        return Err(NotAPlan::Edited);
    }
    let from = document.get("desired").cloned().ok_or(NotAPlan::Bare)?;
    let from = serde_json::from_value(from).map_err(|_| NotAPlan::Form)?;
    Ok((document, from))
}

/// Over the document without its digest.
fn digest(document: &Value) -> String {
    let hash = Sha256::digest(document.to_string().as_bytes());
    format!("sha256:{}", hex::encode(hash))
}

fn change(step: &Step, names: &BTreeMap<crate::plan::StepId, String>) -> Value {
    let depends: Vec<&String> = step.after.iter().filter_map(|id| names.get(id)).collect();
    json!({
        "id": step.address(),
        "uid": step.action.uid,
        "action": step.word(),
        "class": step.class().word(),
        "effect": step.effect,
        "reason": step.reason,
        "cause": step.cause,
        "dependsOn": depends,
        "source": step.origin.as_ref().map(place),
        "observedDigest": step.expects.digest(),
        "loss": step.loss,
        "fields": fields(&step.changes),
    })
}

fn fields(changes: &[PlannedChange]) -> Vec<Value> {
    changes
        .iter()
        .map(|planned| {
            let secret = |value: &Value| {
                value
                    .as_str()
                    .is_some_and(|text| text.starts_with("(secret #"))
            };
            json!({
                "path": planned.change.path,
                "before": planned.change.before,
                "after": planned.change.after,
                "sensitive": secret(&planned.change.before) || secret(&planned.change.after),
                "effect": planned.effect,
                "cause": planned.change.cause,
                "source": planned.origin.as_ref().map(place),
            })
        })
        .collect()
}

fn guard(because: &Because) -> Value {
    json!({"code": because.code, "message": because.message, "until": because.until, "stops": true})
}

/// A place as plans and reports have it.
pub fn place(origin: &Origin) -> Value {
    json!({"path": &*origin.file, "line": origin.line, "column": origin.column})
}
