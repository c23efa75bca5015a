//! `keel snapshot`.

mod due;

pub(super) use self::due::run as run_due;

use manifests::id::Address;
use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::PowerState;
use runtime::runtime::{Context, NewSnapshot, Snapshot as Seen};
use serde_json::json;

use super::HumanOrJson;
use super::apply::how;
use super::asked::catch_signals;
use super::decide::session;
use super::engine::{self, Opened};
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::view::history::when;
use crate::view::text::{counted, table, visible};

/// Keep what an instance or a volume holds, go back to it, or delete it.
#[derive(Debug, clap::Args)]
pub(super) struct Snapshot {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, clap::Subcommand)]
enum Deed {
    /// Keep what the disk of an instance, or a volume, holds now, while it runs or not.
    Create {
        /// The instance, or `volume/POOL/NAME`.
        object: String,
        /// The name of the snapshot; without one it is `snap0`, `snap1` and so on.
        name: Option<String>,
        /// With its memory: after a restore it goes on where it was.
        #[arg(long)]
        stateful: bool,
        /// What it is for.
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
    },
    /// List snapshots: of one instance or volume, or of all.
    List {
        /// The instance, or `volume/POOL/NAME`.
        object: Option<String>,
        /// Instead of snapshots, schedules and what they look after: when each was due last, and is next.
        #[arg(long, conflicts_with = "object")]
        due: bool,
        /// How it is written.
        #[arg(short, long, value_name = "FORMAT", default_value = "human")]
        output: HumanOrJson,
    },
    /// Make the snapshots that are due by schedule, and delete those of which the time is over.
    ///
    /// A timer does it each minute where there is no controller (`units/keel-snapshots.timer`). After a time in which
    /// nobody did, each schedule makes one, and not one for each time that it missed. What a schedule did not make it does
    /// not delete, nor the newest of its own.
    RunDue,
    /// Go back to a snapshot: what was written since is lost, but for what later snapshots keep.
    ///
    /// An instance that runs is stopped for that and started again; a volume is restored while nobody that runs has it. One
    /// with memory goes on where it was. The manifest stays what git says.
    Restore {
        /// The instance, or `volume/POOL/NAME`.
        object: String,
        /// The snapshot.
        name: String,
        /// Without the memory that was kept: it boots.
        #[arg(long)]
        disk_only: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Give a snapshot another name.
    Rename {
        /// The instance, or `volume/POOL/NAME`.
        object: String,
        /// The snapshot.
        name: String,
        /// Its new name.
        new: String,
    },
    /// Delete snapshots; what others need of them stays.
    Delete {
        /// The instance, or `volume/POOL/NAME`.
        object: String,
        /// The snapshots.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

impl Snapshot {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let opened = engine::open(invocation)?;
        match &self.deed {
            Deed::Create {
                object,
                name,
                stateful,
                description,
            } => {
                let address = invocation.has_snapshots(object)?;
                let new = NewSnapshot {
                    name: name.clone(),
                    description: description.clone(),
                    memory: *stateful,
                    ..NewSnapshot::default()
                };
                let name = work(invocation, &opened, &address, "snapshot", |context| {
                    opened.runtime.create_snapshot(&address, &new, context)
                })?;
                invocation.note(&format!("{address} has the snapshot {name}\n"));
            }
            Deed::List {
                due: true, output, ..
            } => return due::list(invocation, &opened, *output),
            Deed::RunDue => return due::run(invocation, &opened).map(|(exit, _)| exit),
            Deed::List { object, output, .. } => {
                return list(invocation, &opened, object.as_deref(), *output);
            }
            Deed::Restore {
                object,
                name,
                disk_only,
                yes,
            } => {
                let address = invocation.has_snapshots(object)?;
                let seen = known(&opened, &address, name)?;
                let with_memory = seen.memory && !disk_only;
                let meanwhile = meanwhile(&opened, &address, with_memory)?;
                let question = back_to(&seen, &address, with_memory, meanwhile);
                invocation.confirm(*yes, &question)?;
                if let (true, Some(meanwhile)) = (yes, meanwhile) {
                    invocation.note(&format!("{address} {meanwhile}\n"));
                }
                work(
                    invocation,
                    &opened,
                    &address,
                    "restore snapshot",
                    |context| {
                        let runtime = &opened.runtime;
                        runtime.restore_snapshot(&address, name, *disk_only, context)
                    },
                )?;
                invocation.note(&format!("{address} is as in the snapshot {name}\n"));
            }
            Deed::Rename { object, name, new } => {
                let address = invocation.has_snapshots(object)?;
                work(invocation, &opened, &address, "rename snapshot", |_| {
                    opened.runtime.rename_snapshot(&address, name, new)
                })?;
                invocation.note(&format!("{address}: the snapshot {name} is {new} now\n"));
            }
            Deed::Delete { object, names, yes } => {
                let address = invocation.has_snapshots(object)?;
                for name in names {
                    known(&opened, &address, name)?;
                }
                let what = counted(names.len(), "snapshot");
                invocation.confirm(*yes, &format!("Delete {what} of {address} for good?"))?;
                for name in names {
                    work(
                        invocation,
                        &opened,
                        &address,
                        "delete snapshot",
                        |context| opened.runtime.delete_snapshot(&address, name, context),
                    )?;
                    invocation.note(&format!("{address} has the snapshot {name} no more\n"));
                }
            }
        }
        Ok(Exit::Done)
    }
}

/// Does one thing to an instance or volume, under the lock and in the journal.
fn work<T>(
    invocation: &Invocation,
    opened: &Opened,
    address: &Address,
    word: &str,
    deed: impl FnOnce(&Context<'_>) -> Result<T, runtime::error::RuntimeError>,
) -> Result<T, CliError> {
    catch_signals(invocation)?;
    let context = Context {
        cancel: invocation.cancel,
        timeout: invocation.global.timeout,
        now: invocation.now(),
        progress: &|phase| invocation.note(&format!("{address}: {phase}\n")),
    };
    let session = session(invocation, opened);
    Ok(session.deed(address, word, &how(invocation), || deed(&context))?)
}

/// What going back to a snapshot means for who uses the object; none: nothing runs, before or after.
fn meanwhile(
    opened: &Opened,
    address: &Address,
    with_memory: bool,
) -> Result<Option<&'static str>, CliError> {
    let observed = opened.runtime.observe()?;
    let item = observed.items.iter().find(|item| item.address == *address);
    let Some(Spec::Instance(instance)) = item.map(|item| &item.spec) else {
        return Ok(None);
    };
    let runs = matches!(instance.state.0, Some(state) if state != PowerState::Stopped);
    Ok(match (runs, with_memory, instance.is_container()) {
        (false, false, _) => None,
        (false, true, _) => Some("goes on where it was then"),
        (true, true, _) => Some("runs, is switched off for that, and goes on where it was then"),
        (true, false, true) => Some("runs, is stopped for that, and started again"),
        (true, false, false) => Some("runs, is switched off for that, and started again"),
    })
}

/// Whether a person wants to go back to a snapshot, with all that this does.
fn back_to(
    snapshot: &Seen,
    address: &Address,
    with_memory: bool,
    meanwhile: Option<&'static str>,
) -> String {
    let lost = match (address.kind, with_memory) {
        (Kind::Volume, _) => "It becomes what it was",
        (_, true) => "Its disk and its memory become what they were",
        (_, false) => "Its disk becomes what it was",
    };
    let meanwhile = meanwhile.map_or_else(String::new, |phrase| format!(" It {phrase}."));
    format!(
        "Go back to snapshot {} of {address}?{meanwhile} {lost} at {}, and what was written since is lost, but for what later \
         snapshots keep.",
        snapshot.name,
        when(snapshot.created_at)
    )
}

/// A snapshot that there is.
fn known(opened: &Opened, address: &Address, name: &str) -> Result<Seen, CliError> {
    let all = opened.runtime.snapshots(address)?;
    let names: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
    let found = all.into_iter().find(|one| one.name == name);
    found.ok_or_else(|| {
        let error = CliError::new(
            Exit::Unexpected,
            format!("{address} has no snapshot {}", visible(name)),
        );
        match names.is_empty() {
            true => error.hint("it has none at all"),
            false => error.hint(format!("it has {}", names.join(", "))),
        }
    })
}

fn list(
    invocation: &Invocation,
    opened: &Opened,
    object: Option<&str>,
    output: HumanOrJson,
) -> Result<Exit, CliError> {
    let mut all = Vec::new();
    if let Some(object) = object {
        let address = invocation.has_snapshots(object)?;
        let seen = opened.runtime.snapshots(&address)?;
        all.extend(seen.into_iter().map(|one| (address.clone(), one)));
    } else {
        let observed = opened.runtime.observe()?;
        for item in observed
            .items
            .iter()
            .filter(|item| item.may_have_snapshots())
        {
            let seen = opened.runtime.snapshots(&item.address)?;
            all.extend(seen.into_iter().map(|one| (item.address.clone(), one)));
        }
    }
    let json = || {
        let all = all.iter().map(|(address, one)| {
            let mut value = json!(one);
            let kind = address.kind.word();
            value[kind] = json!(address);
            value
        });
        format!("{:#}\n", json!(all.collect::<Vec<_>>()))
    };
    invocation.json_into(json)?;
    match output {
        HumanOrJson::Json => invocation.print(&json())?,
        HumanOrJson::Human if all.is_empty() => invocation.note("nothing\n"),
        HumanOrJson::Human => {
            let rows = all.iter().map(|(address, one)| {
                vec![
                    visible(&address.to_string()),
                    visible(&one.name),
                    when(one.created_at),
                    if one.memory { "yes" } else { "no" }.to_owned(),
                    visible(&one.description),
                ]
            });
            let rows: Vec<Vec<String>> = rows.collect();
            let heads = ["OBJECT", "NAME", "MADE", "MEMORY", "DESCRIPTION"];
            invocation.print(&table(&heads, &rows))?;
        }
    }
    Ok(Exit::Done)
}
