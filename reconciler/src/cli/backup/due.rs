//! `keel backup run-due` and `keel backup list`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use manifests::id::{Address, Uid};
use manifests::kind::Spec;
use manifests::observed::Item;
use runtime::error::{Class, RuntimeError};
use runtime::native::MadeBy;
use runtime::native::backup::{self, Kept};
use serde_json::{Value, json};

use super::super::HumanOrJson;
use super::super::apply::how;
use super::super::asked::catch_signals;
use super::super::decide::session;
use super::super::engine::{self, Opened};
use super::super::invocation::Invocation;
use super::{Keys, Wanted, check, context, write};
use crate::error::{CliError, Exit, chain};
use crate::secrets::age_stream::Recipient;
use crate::session::Scheduled;
use crate::snapshots::due::{Made, Turn};
use crate::snapshots::exports::Export;
use crate::snapshots::lull::Found;
use crate::view::due::{due, trouble};
use crate::view::history::when;
use crate::view::text::{bytes, table, visible};

/// What a schedule made and is whole, by its objects. Of a folder that is away it is nothing: then making one fails.
fn made_in(folder: &Path) -> Vec<(Uid, Made)> {
    let all = backup::kept_in(folder).unwrap_or_default();
    let whole = all.into_iter().filter(Kept::is_whole);
    whole
        .filter_map(|kept| {
            let noted = kept.noted?;
            let made = Made {
                name: kept.name,
                at: noted.created_at,
                by: Some(noted.made_by),
                expires: None,
            };
            Some((noted.uid, made))
        })
        .collect()
}

/// When a Backup last made something that is there.
pub(in crate::cli) fn last_run(item: &Item) -> Option<jiff::Timestamp> {
    let Spec::Backup(wanted) = &item.spec else {
        return None;
    };
    let folder = wanted.destination.path.as_ref()?;
    let made = made_in(folder.as_path()).into_iter();
    let own = made.filter(|(_, made)| made.by == item.uid());
    own.map(|(_, made)| made.at).max()
}

fn make(invocation: &Invocation, opened: &Opened, export: &Export) -> Result<u64, CliError> {
    let recipients = export.files.recipients.iter().map(|text| {
        text.parse::<Recipient>()
            .map_err(|error| CliError::new(Exit::Unexpected, error))
    });
    let recipients = recipients.collect::<Result<Vec<_>, _>>()?;
    let folder = &export.files.folder;
    // Notes of what was not written to its end.
    if let Err(error) = backup::sweep(folder, &export.by.1) {
        return Err(CliError::new(Exit::Unexpected, error));
    }
    let wanted = Wanted {
        address: &export.object.0,
        path: &folder.join(&export.file),
        replace: false,
        resume: false,
        snapshot: None,
        snapshots: true,
        image: true,
        optimized: export.files.optimized,
        volumes: export.files.volumes,
        recipients: &recipients,
        made_by: Some(MadeBy {
            backup: export.by.1,
            object: export.object.1,
        }),
    };
    Ok(write(invocation, opened, &wanted)?.bytes)
}

fn why(error: &CliError) -> String {
    let source = error.source.as_ref();
    source.map_or_else(String::new, |source| chain(source.as_ref()))
}

/// Does what is due, and answers what was found.
pub(in crate::cli) fn run(invocation: &Invocation) -> Result<(Exit, Found), CliError> {
    let opened = engine::open(invocation)?;
    catch_signals(invocation)?;
    let session = session(invocation, &opened);
    let _alone = session.alone()?;
    let how = how(invocation);
    let (due, troubles) = session.due_backups(&made_in)?;
    session.remember_ticks(&due.notes, &how)?;
    let mut well = troubles.is_empty();
    for export in &due.due {
        if invocation.cancel.load(Ordering::Relaxed) {
            well = false;
            break;
        }
        let object = &export.object.0;
        let made = make(invocation, &opened, export);
        match &made {
            Ok(size) => invocation.note(&format!(
                "{object} is in {} ({}), by {}\n",
                visible(&export.file),
                bytes(*size),
                export.by.0
            )),
            Err(error) => {
                well = false;
                invocation.warn(&format!(
                    "{object}: the backup by {} was not made: {}",
                    export.by.0,
                    visible(&why(error))
                ));
            }
        }
        let delete = |name: &str| {
            backup::delete(&export.files.folder, name, &export.by.1)
                .map_err(|error| RuntimeError::new("delete a backup of", Class::Retry, error))
        };
        match session.backup_ended(export, made.is_ok(), &how, &delete) {
            Ok(gone) => {
                for name in gone {
                    invocation.note(&format!("{object} is in {} no more\n", visible(&name)));
                }
            }
            Err(error) => {
                well = false;
                invocation.warn(&format!("{object}: {}", visible(&chain(&error))));
            }
        }
    }
    for trouble in &troubles {
        invocation.warn(&visible(&trouble.to_string()));
    }
    let nothing = due.notes.is_empty() && due.due.is_empty();
    Ok(match well {
        true if nothing => (Exit::Done, Found::Nothing { next: due.next }),
        true => (Exit::Done, Found::Something),
        false => (Exit::Partly, Found::Something),
    })
}

/// What is listed.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Read each of them to its end and compare its sums.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    keys: Keys,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

/// A file in the folder of a Backup.
struct Listed {
    folder: PathBuf,
    kept: Kept,
    /// Which Backup made it; none: nobody that is known here.
    by: Option<Address>,
    /// What was found by reading it; none: it was not read.
    faults: Option<Result<u64, String>>,
}

impl Listed {
    fn state(&self) -> String {
        match &self.faults {
            Some(Ok(0)) => "sums ok".to_owned(),
            Some(Ok(_)) => "damaged".to_owned(),
            Some(Err(why)) => visible(why),
            None if self.kept.noted.is_none() => "unknown".to_owned(),
            None if self.kept.is_whole() => "as it was made".to_owned(),
            None => "changed since".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let noted = self.kept.noted.as_ref();
        json!({
            "file": self.folder.join(&self.kept.name),
            "size": self.kept.size,
            "object": noted.map(|noted| &noted.object),
            "createdAt": noted.map(|noted| noted.created_at),
            "encrypted": noted.map(|noted| noted.encrypted),
            "madeBy": self.by,
            "whole": noted.map(|_| self.kept.is_whole()),
            "sums": match &self.faults {
                None => json!("unknown"),
                Some(Ok(0)) => json!("ok"),
                Some(Ok(_)) => json!("damaged"),
                Some(Err(_)) => json!("unreadable"),
            },
        })
    }

    fn row(&self) -> Vec<String> {
        let noted = self.kept.noted.as_ref();
        vec![
            visible(&self.folder.join(&self.kept.name).display().to_string()),
            noted.map_or_else(String::new, |noted| visible(&noted.object.to_string())),
            noted.map_or_else(String::new, |noted| when(noted.created_at)),
            bytes(self.kept.size),
            match noted.map(|noted| noted.encrypted) {
                Some(true) => "age".to_owned(),
                Some(false) => "no".to_owned(),
                None => String::new(),
            },
            self.by
                .as_ref()
                .map_or_else(String::new, |by| visible(&by.name)),
            self.state(),
        ]
    }
}

impl List {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let opened = engine::open(invocation)?;
        catch_signals(invocation)?;
        let session = session(invocation, &opened);
        let (_, observed) = session.look()?;
        let (files, away) = self.files(invocation, &observed.items)?;
        let (scheduled, troubles) = session.scheduled()?;
        let scheduled: Vec<&Scheduled> = scheduled
            .iter()
            .filter(|one| one.watch.rule.files.is_some())
            .collect();
        let json = || {
            let due = scheduled.iter().map(|one| {
                json!({
                    "object": one.watch.object.0,
                    "backup": one.watch.by.0,
                    "last": one.tick.map(|tick| tick.at),
                    "next": one.next(),
                    "due": matches!(one.turn, Turn::Make(_)),
                    "failed": one.tick.and_then(|tick| tick.failed).map(|(at, times)| json!({ "at": at, "times": times })),
                })
            });
            let value = json!({
                "files": files.iter().map(Listed::json).collect::<Vec<_>>(),
                "due": due.collect::<Vec<_>>(),
            });
            format!("{value:#}\n")
        };
        invocation.json_into(json)?;
        match self.output {
            HumanOrJson::Json => invocation.print_plain(&json())?,
            HumanOrJson::Human => invocation.print(&page(&files, &scheduled))?,
        }
        for line in away
            .into_iter()
            .chain(troubles.iter().map(ToString::to_string))
        {
            invocation.note(&format!("{}\n", visible(&line)));
        }
        let bad = |one: &Listed| one.faults.as_ref().is_some_and(|found| *found != Ok(0));
        Ok(match files.iter().any(bad) {
            true => Exit::Unexpected,
            false => Exit::Done,
        })
    }

    /// The files in the folders of all Backups, and which folders are away.
    fn files(
        &self,
        invocation: &Invocation,
        items: &[Item],
    ) -> Result<(Vec<Listed>, Vec<String>), CliError> {
        let mut folders: BTreeMap<PathBuf, Address> = BTreeMap::new();
        let mut known: BTreeMap<Uid, Address> = BTreeMap::new();
        for item in items {
            let Spec::Backup(backup) = &item.spec else {
                continue;
            };
            if let Some(uid) = item.uid() {
                known.insert(uid, item.address.clone());
            }
            if let Some(folder) = &backup.destination.path {
                folders.insert(folder.as_path().to_path_buf(), item.address.clone());
            }
        }
        let identities = self.keys.read()?;
        let context = context(invocation, &|_| {});
        let (mut all, mut away) = (Vec::new(), Vec::new());
        for (folder, of) in folders {
            let kept = match backup::kept_in(&folder) {
                Ok(kept) => kept,
                Err(error) => {
                    away.push(format!("{of}: {}", chain(&error)));
                    continue;
                }
            };
            for kept in kept {
                let path = folder.join(&kept.name);
                let faults = self.check.then(|| {
                    check(&path, &identities, &context)
                        .map(|checked| checked.fault_count)
                        .map_err(|error| why(&error))
                });
                let by = kept
                    .noted
                    .as_ref()
                    .and_then(|noted| known.get(&noted.made_by));
                all.push(Listed {
                    by: by.cloned(),
                    folder: folder.clone(),
                    kept,
                    faults,
                });
            }
        }
        Ok((all, away))
    }
}

fn page(files: &[Listed], scheduled: &[&Scheduled]) -> String {
    let mut text = String::new();
    if !files.is_empty() {
        let rows: Vec<Vec<String>> = files.iter().map(Listed::row).collect();
        let heads = ["FILE", "OBJECT", "MADE", "SIZE", "ENCRYPTED", "BY", "STATE"];
        text.push_str(&table(&heads, &rows));
    }
    if !scheduled.is_empty() {
        if !text.is_empty() {
            text.push('\n');
        }
        let rows = scheduled.iter().map(|one| {
            vec![
                visible(&one.watch.object.0.to_string()),
                visible(&one.watch.by.0.to_string()),
                due(&one.turn, one.next()),
                trouble(one.tick.as_ref()),
            ]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        text.push_str(&table(&["OBJECT", "BACKUP", "NEXT", "TROUBLE"], &rows));
    }
    if text.is_empty() {
        text.push_str("nothing\n");
    }
    text
}
