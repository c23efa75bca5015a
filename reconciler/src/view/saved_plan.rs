//! [`SavedPlan`]: a plan as a file, read again. It carries what it was made from, so that applying it needs nothing else,
//! and a digest over all of it, so that an edited one is refused.

use std::path::PathBuf;

use manifests::attached::AttachedFiles;
use manifests::id::Address;
use manifests::read::Texts;
use manifests::repository::Repository;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::plan_document::FORMAT;
use crate::plan::PlanId;

/// What a plan was made from: enough to make it again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeFrom {
    /// The folder of the source.
    pub root: PathBuf,
    /// The commit.
    pub revision: Option<String>,
    /// Where in which repository that folder is.
    pub repository: Option<Repository>,
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
    pub only: Vec<Address>,
    /// `--exclude`.
    pub exclude: Vec<Address>,
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

    /// The digest of what is wanted, as it is written.
    pub fn digest(&self) -> String {
        digest(&json!([self.part, self.files, self.attached]))
    }
}

/// A plan that was saved.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedPlan {
    /// The document, without its digest.
    pub document: Value,
    /// Its name.
    pub id: PlanId,
    /// What it was made from.
    pub from: MadeFrom,
}

/// Why a document cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum NotAPlan {
    /// It ends in the middle.
    #[error("it is cut short: it ends in line {line} in the middle of the document")]
    Cut {
        /// Where it ends.
        line: usize,
    },
    /// It is no JSON, or no plan.
    #[error("it is no plan that keel saved: {0}")]
    Form(String),
    /// A newer keel made it.
    #[error("its format {0} is newer than this keel reads (1.x)")]
    Newer(String),
    /// It is not as keel wrote it.
    #[error("it was edited after it was saved")]
    Edited,
    /// It has no desired state: it shows what a destroy or another command would do.
    #[error("it does not carry what is wanted: it is no plan of `keel plan`")]
    Bare,
}

impl SavedPlan {
    /// Reads a saved plan of any format 1.x: what a newer one has beyond this one is passed over.
    ///
    /// # Errors
    /// It is none, cut short, of a newer format, or edited.
    pub fn read(text: &str) -> Result<Self, NotAPlan> {
        let mut document = versioned(text)?;
        let form = |what: &str| NotAPlan::Form(what.to_owned());
        let fields = document.as_object_mut().ok_or_else(|| form("no object"))?;
        let said = fields
            .shift_remove("digest")
            .ok_or_else(|| form("it has no `digest`"))?;
        if said != json!(digest(&document)) {
            return Err(NotAPlan::Edited);
        }
        let id = PlanId::deserialize(&document["id"]).map_err(|_| form("it has no `id`"))?;
        let from = document.get("desired").ok_or(NotAPlan::Bare)?;
        let from = MadeFrom::deserialize(from).map_err(|error| form(&error.to_string()))?;
        Ok(Self { document, id, from })
    }
}

/// A JSON document of a format that this version reads.
///
/// # Errors
/// It is none, cut short, or of a newer format.
fn versioned(text: &str) -> Result<Value, NotAPlan> {
    let document: Value = serde_json::from_str(text).map_err(|error| {
        if error.is_eof() && !text.trim().is_empty() {
            NotAPlan::Cut { line: error.line() }
        } else {
            NotAPlan::Form(error.to_string())
        }
    })?;
    let format = document["formatVersion"].as_str();
    let format = format.ok_or_else(|| NotAPlan::Form("it has no `formatVersion`".to_owned()))?;
    match format.split_once('.') {
        Some(("1", _)) => Ok(document),
        Some((major, _)) if major.parse::<u32>().is_ok_and(|major| major > 1) => {
            Err(NotAPlan::Newer(format.to_owned()))
        }
        _ => Err(NotAPlan::Form(format!(
            "its format `{format}` is unknown; this keel writes {FORMAT}"
        ))),
    }
}

/// Over a document without its digest.
pub(super) fn digest(document: &Value) -> String {
    let hash = Sha256::digest(document.to_string().as_bytes());
    format!("sha256:{}", hex::encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan with a right digest, with one field set.
    fn sealed(key: &str, value: Value) -> String {
        let from = json!({
            "root": "/srv/edge", "revision": null, "repository": null, "partial": null, "part": null,
            "files": [["a.yaml", "kind: Network\n"]], "only": [], "exclude": [], "selector": null,
            "approve": [], "allow": [], "noTrash": false,
        });
        let mut document = json!({
            "formatVersion": "1.0", "id": "00000000-0000-0000-0000-000000000007", "desired": from,
        });
        document[key] = value;
        let digest = digest(&document);
        document["digest"] = json!(digest);
        document.to_string()
    }

    #[test]
    fn what_a_newer_minor_version_adds_is_passed_over() {
        let newer = sealed("formatVersion", json!("1.9"));
        assert!(SavedPlan::read(&newer).is_ok());
        let more = sealed("mood", json!({"of": "the author"}));
        assert_eq!(
            SavedPlan::read(&more).expect("read").document["mood"]["of"],
            "the author"
        );
        let mut from = SavedPlan::read(&more).expect("read").document["desired"].clone();
        from["added"] = json!(1);
        assert!(SavedPlan::read(&sealed("desired", from)).is_ok());
    }

    #[test]
    fn each_bad_plan_has_its_reason() {
        let good = sealed("purpose", json!("apply"));
        let cases = [
            (good[..good.len() / 2].to_owned(), "cut short"),
            (String::new(), "no plan"),
            ("kind: Network\n".to_owned(), "no plan"),
            ("{}".to_owned(), "formatVersion"),
            ("[]".to_owned(), "formatVersion"),
            (sealed("formatVersion", json!("2.0")), "newer"),
            (sealed("formatVersion", json!("0.9")), "unknown"),
            (sealed("formatVersion", json!("1")), "unknown"),
            (good.replace("kind: Network", "kind: Nothing"), "edited"),
            (good.replace("\"digest\"", "\"digits\""), "digest"),
            (sealed("id", json!(7)), "id"),
            (sealed("desired", json!({"root": "/"})), "no plan"),
        ];
        for (text, why) in cases {
            let error = SavedPlan::read(&text).expect_err(why).to_string();
            assert!(error.contains(why), "{error} does not say {why}");
        }
        let mut bare: Value = serde_json::from_str(&good).expect("JSON");
        let fields = bare.as_object_mut().expect("an object");
        fields.shift_remove("desired");
        fields.shift_remove("digest");
        let seal = digest(&bare);
        bare["digest"] = json!(seal);
        let read = SavedPlan::read(&bare.to_string());
        assert!(matches!(read, Err(NotAPlan::Bare)), "{read:?}");
        // Another layout is no other plan.
        let value: Value = serde_json::from_str(&good).expect("JSON");
        assert!(SavedPlan::read(&format!("\n{value:#}\n")).is_ok());
    }
}
