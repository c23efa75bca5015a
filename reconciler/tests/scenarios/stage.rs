//! A state folder, a fake world, and sources written as texts.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use manifests::desired::{DesiredSet, SourceInfo};
use manifests::id::{Address, SourceName};
use manifests::read::Texts;
use manifests::resolve::resolve;
use reconciler::apply::{ApplyOptions, ApplyReport, Silent};
use reconciler::clock::FixedClock;
use reconciler::plan::{Plan, PlanOptions, Purpose, Step};
use reconciler::session::Session;
use reconciler::state_folder::StateFolder;
use reconciler::store::SqliteStore;
use runtime::fake::{FakeRuntime, World};

/// A host with nothing on it.
pub(crate) struct Stage {
    pub(crate) runtime: FakeRuntime,
    folder: StateFolder,
    clock: FixedClock,
    cancel: AtomicBool,
    _place: tempfile::TempDir,
}

/// The time on every stage.
pub(crate) fn now() -> jiff::Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

impl Stage {
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        Self {
            runtime: FakeRuntime::new(World::default()),
            folder: StateFolder::open(place.path().join("state")).unwrap(),
            clock: FixedClock(now()),
            cancel: AtomicBool::new(false),
            _place: place,
        }
    }

    pub(crate) fn session(&self) -> Session<'_> {
        Session {
            folder: &self.folder,
            runtime: &self.runtime,
            clock: &self.clock,
            cancel: &self.cancel,
        }
    }

    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.folder.database()
    }

    pub(crate) fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.folder.database()).unwrap()
    }

    pub(crate) fn plan(&self, desired: &DesiredSet) -> Plan {
        self.session()
            .plan(desired, &PlanOptions::default())
            .unwrap()
    }

    pub(crate) fn destruction(&self, desired: &DesiredSet) -> Plan {
        let options = PlanOptions {
            purpose: Purpose::Destroy,
            ..PlanOptions::default()
        };
        self.session().plan(desired, &options).unwrap()
    }

    /// Plans and applies; no report where a guard stops it.
    pub(crate) fn apply(&self, desired: &DesiredSet) -> (Plan, Option<ApplyReport>) {
        let how = ApplyOptions {
            timeout: Duration::from_millis(20),
            readiness_timeout: Duration::from_millis(20),
            ..ApplyOptions::default()
        };
        self.session()
            .apply(desired, &PlanOptions::default(), &how, &Silent, &mut |_| {
                true
            })
            .unwrap()
    }

    /// Loses the database.
    pub(crate) fn forget(&self) {
        for end in ["", "-wal", "-shm"] {
            let mut file = self.folder.database().into_os_string();
            file.push(end);
            manifests::path_io::remove_file(file).unwrap();
        }
    }

    /// Applies what must go through whole.
    pub(crate) fn done(&self, desired: &DesiredSet) {
        let (plan, report) = self.apply(desired);
        let report = report.unwrap_or_else(|| panic!("stopped: {:?}", plan.stopping));
        assert!(report.is_complete(), "{:#?}\n{report:#?}", plan.held);
    }

    /// The names of all that lives.
    pub(crate) fn lives(&self) -> Vec<String> {
        let world = self.runtime.world();
        world.items.keys().map(ToString::to_string).collect()
    }
}

/// The texts of a source that comes from a folder.
pub(crate) fn texts(root: &str, files: &[(&str, &str)]) -> Texts {
    Texts {
        root: root.into(),
        files: files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
        ..Texts::default()
    }
}

/// What texts mean; nothing may be wrong with them.
pub(crate) fn meaning(texts: &Texts) -> DesiredSet {
    let resolved = resolve(texts, None);
    let found = resolved.found;
    resolved.desired.unwrap_or_else(|| panic!("{found:#?}"))
}

/// A whole source named `edge` of one file, that may delete all it wants.
pub(crate) fn edge(text: &str) -> DesiredSet {
    source("edge", "budget: {data: 99, percent: 100}", text)
}

/// A whole source of one file, with more in its `keel.yaml`.
pub(crate) fn source(name: &str, more: &str, text: &str) -> DesiredSet {
    let head = format!("apiVersion: evenkeel/v1\nkind: Source\nname: {name}\n{more}\n");
    let root = format!("/{name}");
    meaning(&texts(&root, &[("keel.yaml", &head), ("all.yaml", text)]))
}

/// A part of a set.
pub(crate) fn only(mut desired: DesiredSet, name: &str) -> DesiredSet {
    let name = address(name);
    desired.keep(|resource| resource.address == name);
    desired.source.partial = Some(format!("only {name}"));
    desired
}

/// Nothing of a source.
pub(crate) fn nothing(name: &str, root: &str) -> DesiredSet {
    Session::nothing_of(SourceInfo {
        name: SourceName::new(name),
        root: root.into(),
        revision: None,
        repository: None,
        partial: None,
    })
}

/// One document.
pub(crate) fn document(kind: &str, name: &str, rest: &str) -> String {
    format!("---\napiVersion: evenkeel/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n{rest}\n")
}

/// A pool and an image: what each instance stands on.
pub(crate) fn ground() -> String {
    document("StoragePool", "main", "spec: {driver: dir}")
        + &document("Image", "busybox", "spec: {source: {builtin: busybox}}")
}

pub(crate) fn network(name: &str) -> String {
    document("Network", name, "spec: {}")
}

/// An instance that runs on the pool `main`, with more devices and more of a document.
pub(crate) fn instance(name: &str, devices: &str, rest: &str) -> String {
    let spec = format!(
        "spec:\n  image: busybox\n  state: Running\n  devices:\n    \
         root: {{type: disk, path: /, pool: main}}\n    {devices}\n{rest}"
    );
    document("Instance", name, &spec)
}

/// A NIC on a network.
pub(crate) fn nic(on: &str) -> String {
    format!("eth0: {{type: nic, network: {on}}}")
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// `create network/lan`, step by step.
pub(crate) fn words<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Vec<String> {
    steps
        .into_iter()
        .map(|step| format!("{} {}", step.word(), step.address()))
        .collect()
}

/// The guards that hold, with what they hold: `G109 create instance/a`.
pub(crate) fn held(plan: &Plan) -> Vec<String> {
    plan.held
        .iter()
        .flat_map(|held| {
            held.because.iter().map(|because| {
                format!(
                    "{} {} {}",
                    because.code,
                    held.step.word(),
                    held.step.address()
                )
            })
        })
        .collect()
}

/// The guards that stop the whole plan.
pub(crate) fn stopping(plan: &Plan) -> Vec<&'static str> {
    plan.stopping.iter().map(|because| because.code.0).collect()
}
