//! What a proposed tree would do.

use std::path::Path;

use jiff::Timestamp;
use manifests::desired::DesiredSet;
use manifests::diagnostic::Diagnostics;
use uuid::Uuid;

use crate::meaning::{meaning, strict};
use crate::plan::{Plan, PlanId, PlanOptions, World};
use crate::policy::Policies;
use crate::secrets::{masks, seen};
use crate::source::followed::Tree;
use crate::view::findings::{Validated, of_manifests};
use crate::view::places::Places;
use crate::view::plan::Documents;
use crate::view::text::counted;
use crate::view::{diagnostics, markdown};

/// The state of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verdict {
    /// It may be merged.
    Good,
    /// It is invalid, or a guard or policy would stop it.
    Bad,
    /// It could not be told.
    Unknown,
}

/// What is said of a proposed tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// In some words.
    pub(super) summary: String,
    /// In Markdown.
    pub(super) body: String,
}

impl Judged {
    /// It could not be told, and why.
    pub(super) fn unknown(why: &str) -> Self {
        let why = crate::view::text::visible(why);
        Self {
            verdict: Verdict::Unknown,
            body: format!(
                "### keel plan\n\nNo plan could be made:\n\n```\n{}\n```\n",
                why.replace('`', "'")
            ),
            summary: why,
        }
    }
}

/// Of what a judgement is made.
pub(super) struct Case<'a> {
    /// The source, as the settings call it.
    pub(super) source: &'a str,
    /// What is proposed.
    pub(super) tree: &'a Tree,
    /// The world as it was last seen.
    pub(super) world: &'a World,
    /// The name by which the source in force owns what it made; none: nothing is in force.
    pub(super) owner: Option<&'a str>,
    /// The commit that is in force.
    pub(super) in_force: Option<&'a str>,
    pub(super) now: Timestamp,
    /// The most bytes of a comment.
    pub(super) limit: usize,
}

/// What it would do.
pub(super) fn judge(case: &Case<'_>) -> Judged {
    let Case { tree, world, .. } = case;
    let (revision, repository) = (tree.revision.clone(), tree.repository.clone());
    let folder = repository.as_ref().map(|one| one.folder.clone());
    let top = Path::new("/");
    let places = Places::of(&top.join(folder.unwrap_or_default()), Some(top));
    let resolved = strict(meaning(&tree.texts, revision, repository));
    let Some(mut desired) = resolved.desired else {
        return invalid(case, resolved.found, &places);
    };
    let beyond = manifests::support::beyond(&desired, &world.host);
    if beyond.has_errors() {
        return invalid(case, beyond, &places);
    }
    if let Some(why) = renamed(case, &desired) {
        return Judged {
            verdict: Verdict::Bad,
            ..Judged::unknown(&why)
        };
    }
    // Secrets that were given before are taken for right; nobody's proposal opens one.
    seen(&mut desired, &world.observed);
    // The same commit has the same plan.
    let id = PlanId(Uuid::new_v5(&Uuid::NAMESPACE_OID, tree.digest.as_bytes()));
    let rules = Policies::of(&desired.policies);
    let mut plan = world.plan(id, &desired, &PlanOptions::default(), &rules, case.now);
    masks::plan(&mut plan);
    let documents = Documents::of(&tree.texts.files);
    let body = markdown::of_plan(&plan, &places, &documents, case.limit);
    let after = case.in_force.unwrap_or("nothing");
    Judged {
        verdict: match plan.stopping.is_empty() && !plan.is_denied() {
            true => Verdict::Good,
            false => Verdict::Bad,
        },
        summary: summary(&plan),
        body: format!(
            "{body}\n<sub>to this host as it was last seen, with {after} in force</sub>\n"
        ),
    }
}

/// A proposal that calls itself otherwise would leave all that there is to nobody.
fn renamed(case: &Case<'_>, desired: &DesiredSet) -> Option<String> {
    let owner = case.owner?;
    let called = desired.source.name.as_str();
    (called != owner).then(|| {
        format!("keel.yaml calls the source {called}, and what lives here belongs to {owner}: all of it would be deleted")
    })
}

fn invalid(case: &Case<'_>, mut found: Diagnostics, places: &Places) -> Judged {
    places.rename(&mut found);
    let counts = diagnostics::summary(&found);
    let validated = Validated {
        source: case.source.to_owned(),
        found,
        objects: Vec::new(),
    };
    let findings = of_manifests(vec![validated], format!("source {}", case.source));
    Judged {
        verdict: Verdict::Bad,
        body: markdown::of_manifests(&findings, counts.as_deref(), case.limit),
        summary: format!("invalid: {}", counts.unwrap_or_default()),
    }
}

fn summary(plan: &Plan) -> String {
    if let Some(because) = plan.stopping.first() {
        return format!("stopped: {} {}", because.code, because.message);
    }
    if plan.is_empty() {
        return "nothing to do".to_owned();
    }
    let mut words = counted(plan.steps.len(), "step");
    if !plan.held.is_empty() {
        words.push_str(&format!(", {} held", plan.held.len()));
    }
    words
}
