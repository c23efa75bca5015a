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

use super::versioned::{self, Unreadable};
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
    /// `--no-restore`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_restore: bool,
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
    /// It is none, or not one of these formats.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
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
        let mut document: Value = versioned::read(text)?;
        let form = |what: &str| Unreadable::form(what);
        let fields = document.as_object_mut().ok_or_else(|| form("no object"))?;
        let said = fields
            .shift_remove("digest")
            .ok_or_else(|| form("it has no `digest`"))?;
        if said != json!(digest(&document)) {
            return Err(NotAPlan::Edited);
        }
        let id = PlanId::deserialize(&document["id"]).map_err(|_| form("it has no `id`"))?;
        let from = document.get("desired").ok_or(NotAPlan::Bare)?;
        let from = MadeFrom::deserialize(from).map_err(Unreadable::form)?;
        Ok(Self { document, id, from })
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
            (sealed("formatVersion", json!("2.0")), "newer"),
            (good.replace("kind: Network", "kind: Nothing"), "edited"),
            (good.replace("\"digest\"", "\"digits\""), "digest"),
            (sealed("id", json!(7)), "id"),
            (sealed("desired", json!({"root": "/"})), "missing field"),
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
