//! Instances that were made anew because their image moved: they are looked at until they are well. One that does not get
//! well goes back to what it was, which lies in the trash, and is left alone until a person says otherwise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use manifests::action::Verb;
use manifests::change::Cause;
use manifests::desired::DesiredSet;
use manifests::id::{Address, SourceName};
use manifests::kind::Spec;
use manifests::kinds::instance::{Instance, PowerState};
use manifests::observed::Item;
use manifests::path_io::{self, PathError};
use serde::{Deserialize, Serialize};

use crate::plan::{Step, health_of, state_of};

/// How long an instance without health checks must run until it counts as well.
const RUNS: Duration = Duration::from_secs(10);
/// How long it may take until it runs.
const STARTS: Duration = Duration::from_secs(60);
/// How often it is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// One instance on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trial {
    /// Whose it is.
    source: String,
    /// The fingerprint of the image that it was made from.
    image: String,
    /// When it was made.
    since: Timestamp,
    /// Until when it must be well.
    until: Timestamp,
    /// Whether it has health checks.
    is_checked: bool,
    /// It goes back to what it was, and why: a controller that is killed on the way goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    goes_back: Option<String>,
}

/// How a trial stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is well, or no longer what was tried.
    Over,
    /// That cannot be told yet.
    Waits,
    /// It is not well: why.
    Fails(String),
}

impl Trial {
    /// Of an instance that was made anew just now; none where it shall not run.
    pub(super) fn of(
        source: &SourceName,
        instance: &Instance,
        item: &Item,
        now: Timestamp,
    ) -> Option<Self> {
        if !matches!(instance.state.0, None | Some(PowerState::Running)) {
            return None;
        }
        let health = instance.health.as_ref();
        let patience = health.map_or(STARTS, |health| health.timeout.as_std());
        Some(Self {
            source: source.to_string(),
            image: image_of(item)?.to_owned(),
            since: now,
            until: now.checked_add(patience).unwrap_or(Timestamp::MAX),
            is_checked: health.is_some(),
            goes_back: None,
        })
    }

    /// Whether it is still what was tried.
    pub(super) fn is_new(&self, live: Option<&Item>) -> bool {
        live.and_then(image_of) == Some(&self.image)
    }

    /// How it stands, as the instance is now.
    pub(super) fn judge(&self, live: Option<&Item>, now: Timestamp) -> Verdict {
        if let Some(why) = &self.goes_back {
            return Verdict::Fails(why.clone());
        }
        // Somebody took it away, or made it anew: that is no longer ours to judge.
        let Some(item) = live.filter(|_| self.is_new(live)) else {
            return Verdict::Over;
        };
        let state = state_of(item).unwrap_or_default();
        let is_late = now >= self.until;
        if state != "Running" {
            return match is_late {
                true => Verdict::Fails(format!("it is {state}")),
                false => Verdict::Waits,
            };
        }
        if !self.is_checked {
            let runs = now.duration_since(self.since);
            return match runs.unsigned_abs() >= RUNS {
                true => Verdict::Over,
                false => Verdict::Waits,
            };
        }
        match health_of(item).as_deref() {
            Some("healthy") => Verdict::Over,
            Some("unhealthy") => Verdict::Fails("it is unhealthy".to_owned()),
            _ if is_late => Verdict::Fails("it did not become healthy in time".to_owned()),
            _ => Verdict::Waits,
        }
    }

    /// The image, as people read it.
    pub(super) fn image(&self) -> &str {
        self.image.get(..12).unwrap_or(&self.image)
    }
}

fn image_of(item: &Item) -> Option<&str> {
    item.status.get("image")?.as_str()
}

/// Whether a step made an instance anew because its image moved.
pub(super) fn begins(step: &Step) -> bool {
    step.cause == Cause::Image && matches!(step.action.verb, Verb::Rebuild | Verb::Replace)
}

/// What an instance is meant to be.
pub(super) fn meant<'a>(desired: &'a DesiredSet, address: &Address) -> Option<&'a Instance> {
    match &desired.resources.get(address)?.spec {
        Spec::Instance(instance) => Some(instance),
        _ => None,
    }
}

/// All trials, kept on disk: a controller that is killed does not forget them.
#[derive(Debug)]
pub(super) struct Trials {
    file: PathBuf,
    all: BTreeMap<String, Trial>,
}

impl Trials {
    /// As they were kept in the state folder; where that cannot be read there are none.
    pub(super) fn in_folder(state: &Path) -> Self {
        let file = state.join("controller").join("trials.json");
        let text = path_io::read_if_exists(&file).ok().flatten();
        let all = text.and_then(|text| serde_json::from_str(&text).ok());
        Self {
            file,
            all: all.unwrap_or_default(),
        }
    }

    /// Those of one source.
    pub(super) fn of(&self, source: &SourceName) -> Vec<(Address, Trial)> {
        let own = self
            .all
            .iter()
            .filter(|(_, one)| one.source == source.as_str());
        own.filter_map(|(address, one)| Some((address.parse().ok()?, one.clone())))
            .collect()
    }

    /// One begins.
    ///
    /// # Errors
    /// It is not on disk.
    pub(super) fn begin(&mut self, address: &Address, trial: Trial) -> Result<(), PathError> {
        self.all.insert(address.to_string(), trial);
        self.keep()
    }

    /// One goes back to what it was.
    ///
    /// # Errors
    /// It is not on disk.
    pub(super) fn goes_back(&mut self, address: &Address, why: &str) -> Result<(), PathError> {
        if let Some(trial) = self.all.get_mut(&address.to_string()) {
            trial.goes_back = Some(why.to_owned());
        }
        self.keep()
    }

    /// One is over.
    ///
    /// # Errors
    /// It is not on disk.
    pub(super) fn end(&mut self, address: &Address) -> Result<(), PathError> {
        self.all.remove(&address.to_string());
        self.keep()
    }

    fn keep(&self) -> Result<(), PathError> {
        if let Some(folder) = self.file.parent() {
            path_io::create_dir_all(folder)?;
        }
        // Maps of texts always have a form in JSON.
        path_io::write_durably(
            &self.file,
            serde_json::to_string(&self.all).unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use manifests::kind::Kind;
    use serde_json::json;

    use super::*;

    fn item(image: &str, status: serde_json::Value) -> Item {
        let spec = json!({"image": "x", "state": "Running"});
        let mut item = Item {
            address: "instance/a".parse().expect("an address"),
            mark: None,
            complete: true,
            spec: Spec::deserialize(Kind::Instance, spec).expect("a spec"),
            last_told: None,
            unseen: Vec::new(),
            remembered: None,
            holds: manifests::observed::Holds::default(),
            status,
        };
        item.status["image"] = image.into();
        item
    }

    fn trial(is_checked: bool) -> Trial {
        let since: Timestamp = "2026-11-27T12:00:00Z".parse().expect("a time");
        Trial {
            source: "edge".to_owned(),
            image: "new".to_owned(),
            since,
            until: since.checked_add(Duration::from_secs(60)).expect("a time"),
            is_checked,
            goes_back: None,
        }
    }

    #[test]
    fn who_is_not_well_in_time_goes_back_and_who_was_made_anew_is_nobodys_business() {
        let fails = |verdict: &Verdict| matches!(verdict, Verdict::Fails(_));
        for (is_checked, seconds, image, status, wanted) in [
            (
                true,
                1,
                "new",
                json!({"state": "Running", "health": "starting"}),
                "waits",
            ),
            (
                true,
                1,
                "new",
                json!({"state": "Running", "health": "healthy"}),
                "over",
            ),
            (
                true,
                1,
                "new",
                json!({"state": "Running", "health": "unhealthy"}),
                "fails",
            ),
            (
                true,
                60,
                "new",
                json!({"state": "Running", "health": "starting"}),
                "fails",
            ),
            (true, 60, "new", json!({"state": "Running"}), "fails"),
            (
                true,
                99,
                "old",
                json!({"state": "Running", "health": "unhealthy"}),
                "over",
            ),
            (false, 1, "new", json!({"state": "Running"}), "waits"),
            (false, 10, "new", json!({"state": "Running"}), "over"),
            (false, 10, "new", json!({"state": "Stopped"}), "waits"),
            (false, 60, "new", json!({"state": "Stopped"}), "fails"),
        ] {
            let trial = trial(is_checked);
            let now = trial
                .since
                .checked_add(Duration::from_secs(seconds))
                .expect("a time");
            let live = item(image, status.clone());
            let verdict = trial.judge(Some(&live), now);
            let found = match &verdict {
                Verdict::Over => "over",
                Verdict::Waits => "waits",
                one if fails(one) => "fails",
                Verdict::Fails(_) => "?",
            };
            assert_eq!(found, wanted, "{seconds} {image} {status}");
        }
        assert_eq!(trial(true).judge(None, trial(true).until), Verdict::Over);
        let killed_on_the_way = Trial {
            goes_back: Some("it is unhealthy".to_owned()),
            ..trial(true)
        };
        let live = item("old", json!({"state": "Stopped"}));
        assert!(fails(
            &killed_on_the_way.judge(Some(&live), killed_on_the_way.since)
        ));
        assert!(!killed_on_the_way.is_new(Some(&live)));
    }

    #[test]
    fn the_next_controller_knows_who_is_on_trial() {
        let folder = tempfile::tempdir().expect("a folder");
        let address: Address = "instance/shop/web".parse().expect("an address");
        let mut trials = Trials::in_folder(folder.path());
        trials.begin(&address, trial(true)).expect("kept");
        let mut next = Trials::in_folder(folder.path());
        assert_eq!(
            next.of(&SourceName::new("edge")),
            [(address.clone(), trial(true))]
        );
        assert!(next.of(&SourceName::new("other")).is_empty());
        next.end(&address).expect("kept");
        assert!(
            Trials::in_folder(folder.path())
                .of(&SourceName::new("edge"))
                .is_empty()
        );
    }
}
