//! `keel status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use manifests::id::{Address, Uid};
use manifests::observed::ObservedSet;
use serde_json::{Value, json};

use super::HumanOrJson;
use super::controller;
use super::elsewhere;
use super::engine;
use super::invocation::Invocation;
use crate::api::documents::StatusDocument;
use crate::diff::known::{Hold, Known, Owned, RestartPending};
use crate::error::{CliError, Exit};
use crate::journal::{ApplyStatus, Journal as _, JournalError};
use crate::session::Session;
use crate::snapshots::stand::Stand;
use crate::state_folder::LockOwner;
use crate::store::Store as _;
use crate::view;
use crate::view::history::{self, when};
use crate::view::missed;
use crate::view::style::{CAREFUL, STRONG, paint};
use crate::view::text;
use crate::view::trash;

/// Tell what is known: sources, objects, what waits, what was done last, who is at work.
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

/// All that the page tells.
struct Facts {
    now: Timestamp,
    known: Known,
    observed: ObservedSet,
    last: Vec<ApplyStatus>,
    unfinished: usize,
    lock: Option<LockOwner>,
    controller: Option<StatusDocument>,
}

impl Status {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        if let Some(controller) = elsewhere::controller(invocation)? {
            let status: StatusDocument = controller.get("/v1/status")?;
            let json = || format!("{:#}\n", json!({ "controller": status }));
            invocation.json_into(json)?;
            match self.output {
                HumanOrJson::Human => invocation.print(&view::controller::page(&status))?,
                HumanOrJson::Json => invocation.print_plain(&json())?,
            }
            return Ok(Exit::Done);
        }
        let opened = engine::open(invocation)?;
        let store = engine::store(&opened.folder)?;
        let unreadable = |error: JournalError| CliError::new(Exit::Unexpected, error);
        let facts = Facts {
            now: invocation.now(),
            known: store.load()?,
            observed: opened.runtime.observe()?,
            last: store.applies(1).map_err(unreadable)?,
            unfinished: store.unfinished().map_err(unreadable)?.len(),
            lock: opened.folder.lock_owner()?,
            controller: controller::status(&opened.folder),
        };
        let json = || format!("{:#}\n", facts.json());
        invocation.json_into(json)?;
        match self.output {
            HumanOrJson::Human => invocation.print(&facts.page())?,
            HumanOrJson::Json => invocation.print_plain(&json())?,
        }
        Ok(Exit::Done)
    }
}

impl Facts {
    /// How many objects of each source there are, by kind and state.
    fn counts(&self) -> BTreeMap<(String, &'static str, String), usize> {
        let mut counts = BTreeMap::new();
        for item in &self.observed.items {
            let Some(mark) = &item.mark else { continue };
            let state = item.status.get("state").and_then(Value::as_str);
            let state = state.unwrap_or_default().to_owned();
            let key = (mark.source.to_string(), item.address.kind.word(), state);
            *counts.entry(key).or_insert(0) += 1;
        }
        counts
    }

    /// What waits for a restart, by object. Where a server would tell that it is over, it is not told.
    fn waiting(&self) -> impl Iterator<Item = (&Address, Vec<&RestartPending>)> {
        let live = |owned: &Owned| {
            let mut items = self.observed.items.iter();
            items.find(|item| item.mark.as_ref().is_some_and(|mark| mark.uid == owned.uid))
        };
        self.known.owned.values().filter_map(move |owned| {
            let pending: Vec<&RestartPending> = match live(owned) {
                Some(item) if item.is_kept_by_server() => owned.waits_for_start(item).collect(),
                _ => owned.restart_pending.iter().collect(),
            };
            (!pending.is_empty()).then_some((&owned.address, pending))
        })
    }

    /// How schedules stand.
    fn stands(&self) -> BTreeMap<Uid, Stand> {
        Session::stands_in(&self.known, &self.observed, self.now)
    }

    /// What a person stopped for a while.
    fn held(&self) -> impl Iterator<Item = (&Address, &Hold)> {
        self.known.owned.values().filter_map(|owned| {
            let hold = self.known.hold(&owned.uid, self.now)?;
            Some((&owned.address, hold))
        })
    }

    fn json(&self) -> Value {
        let objects: Vec<Value> = self
            .counts()
            .into_iter()
            .map(|((source, kind, state), count)| {
                json!({"source": source, "kind": kind, "state": state, "count": count})
            })
            .collect();
        let waiting: Vec<Value> = self
            .waiting()
            .map(|(address, pending)| json!({"id": address, "restartPending": pending}))
            .collect();
        let held: Vec<Value> = self
            .held()
            .map(|(address, hold)| json!({"id": address, "hold": hold}))
            .collect();
        json!({
            "controller": self.controller,
            "generation": self.known.generation,
            "sources": self.known.sources.values().collect::<Vec<_>>(),
            "objects": objects,
            "restartPending": waiting,
            "stoppedByHand": held,
            "unclear": self.observed.unclear,
            "missed": missed::all(&self.stands()),
            "trash": trash::document(&self.observed.trash),
            "lastApply": self.last.first(),
            "unfinishedApplies": self.unfinished,
            "lock": self.lock,
        })
    }

    fn page(&self) -> String {
        let mut out = self
            .controller
            .as_ref()
            .map_or_else(String::new, view::controller::page);
        if self.known.sources.is_empty() {
            let _ = writeln!(out, "No source was applied here.");
        }
        for source in self.known.sources.values() {
            let name = format!("Source {}", text::visible(source.name.as_str()));
            let _ = writeln!(out, "{}", paint(STRONG, &name));
            let revision = source.revision.as_deref().unwrap_or("-");
            let root = text::visible(&source.root.display().to_string());
            let _ = writeln!(out, "  from      {root}");
            let _ = writeln!(out, "  revision  {}", text::visible(revision));
            let _ = writeln!(out, "  applied   {}", when(source.applied_at));
            for ((owner, kind, state), count) in self.counts() {
                if owner == source.name.as_str() {
                    let state = if state.is_empty() {
                        String::new()
                    } else {
                        format!(" {}", text::visible(&state))
                    };
                    let _ = writeln!(out, "  {}{state}", text::counted(count, kind));
                }
            }
        }
        let mut heading = |words: &str| {
            let _ = writeln!(out, "\n{}", paint(CAREFUL, words));
        };
        if let Some(owner) = &self.lock {
            heading(&format!(
                "`{}` (process {}) is at work since {}",
                text::visible(&owner.command),
                owner.pid,
                when(owner.since)
            ));
        } else if self.unfinished > 0 {
            heading("An apply was cut short: the next one goes on");
        }
        let waiting: Vec<_> = self.waiting().collect();
        if !waiting.is_empty() {
            heading("In force after a restart:");
        }
        for (address, pending) in waiting {
            for pending in pending {
                let name = text::pad(&format!("  {address}"), 30);
                let _ = writeln!(out, "{name}{}", text::visible(&pending.path.dotted()));
            }
        }
        let mut held = self.held().peekable();
        if held.peek().is_some() {
            let _ = writeln!(out, "\n{}", paint(CAREFUL, "Stopped by hand:"));
        }
        for (address, hold) in held {
            let name = text::pad(&format!("  {address}"), 30);
            let (until, reason) = (when(hold.until), text::visible(&hold.reason));
            let _ = writeln!(out, "{name}until {until}: {reason}");
        }
        for unclear in &self.observed.unclear {
            let why = text::visible(&unclear.why);
            let _ = writeln!(out, "\nunclear: {}: {why}", unclear.address);
        }
        for one in missed::all(&self.stands()) {
            let _ = writeln!(out, "\nmissed: {}", missed::line(one));
        }
        if !self.observed.trash.is_empty() {
            let count = text::counted(self.observed.trash.len(), "object");
            let _ = writeln!(out, "\n{count} in the trash: keel trash list");
        }
        if !self.last.is_empty() {
            let _ = write!(out, "\n{}", history::applies(&self.last));
        }
        out
    }
}
