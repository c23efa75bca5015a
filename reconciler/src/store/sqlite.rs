//! [`SqliteStore`]: store and journal in one SQLite file; WAL, and every commit synced before it is said to be done.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manifests::id::{Address, SourceName};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::migrations::MIGRATIONS;
use super::{Store, StoreError, Write};
use crate::diff::known::{Hold, Known, KnownSource, Owned, Tick};
use crate::diff::suspension::{Pin, Suspension};
use crate::journal::{ApplyStatus, Event, Journal, JournalError, ObjectEvent, What};

/// How long one waits for another process's commit.
const PATIENCE: Duration = Duration::from_secs(10);

/// Remembers in a file.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Mutex<Connection>,
}

pub(super) fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Database { doing, source }
}

/// How often something was changed.
fn generation(database: &Connection) -> rusqlite::Result<u64> {
    let value: Option<i64> = database
        .prepare_cached("SELECT value FROM meta WHERE key = 'generation'")
        .and_then(|mut query| query.query_row([], |row| row.get(0)).optional())?;
    Ok(value
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(0))
}

impl SqliteStore {
    /// How often something was changed: [`Known::generation`], and nothing else.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn generation(&self) -> Result<u64, StoreError> {
        generation(&self.connection()).map_err(failed("read"))
    }

    /// Opens the file, makes it where there is none, and brings an older format up to date.
    ///
    /// # Errors
    /// It cannot be opened, it is no database, or a newer keel wrote it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opening = failed("open");
        let mut connection = Connection::open(path).map_err(&opening)?;
        connection.busy_timeout(PATIENCE).map_err(&opening)?;
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(&opening)?;
        let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        if version > newest {
            return Err(StoreError::Newer {
                path: path.to_path_buf(),
                found: version,
                known: newest,
            });
        }
        connection
            .pragma_update(None, "journal_mode", "wal")
            .and_then(|()| connection.pragma_update(None, "synchronous", "full"))
            // Every command is a process of its own: writing the log back at its end would cost two syncs a command.
            .and_then(|()| {
                connection.set_db_config(
                    rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
                    true,
                )
            })
            .map_err(&opening)?;
        if version < newest {
            migrate(&mut connection).map_err(failed("bring up to date"))?;
        }
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    pub(super) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The applies of a query that answers with plan names.
    fn applies_of(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<ApplyStatus>, JournalError> {
        let connection = self.connection();
        let mut plans = connection.prepare_cached(query)?;
        let plans: Vec<String> = plans
            .query_map(parameters, |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut events =
            connection.prepare_cached("SELECT what FROM journal WHERE plan = ?1 ORDER BY seq")?;
        let mut applies = Vec::new();
        for plan in &plans {
            let lines: Vec<String> = events
                .query_map([plan], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let told: Result<Vec<Event>, _> = lines.iter().cloned().map(event_of).collect();
            let status = told.and_then(|told| ApplyStatus::replay(&told));
            match status {
                Ok(status) => applies.push(status),
                // One apply with a bad story must not hide all others.
                Err(error) => {
                    tracing::warn!(%plan, %error, "the journal tells something impossible");
                    let told: Vec<Event> = lines.into_iter().flat_map(event_of).collect();
                    applies.extend(ApplyStatus::replay_the_possible(&told));
                }
            }
        }
        Ok(applies)
    }
}

fn event_of(line: String) -> Result<Event, JournalError> {
    serde_json::from_str(&line).map_err(|source| JournalError::Damaged { line, source })
}

/// Takes the steps that are missing, each in one transaction with its number; another process may do the same.
fn migrate(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    loop {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = step.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let Some(statements) = usize::try_from(version)
            .ok()
            .and_then(|version| MIGRATIONS.get(version))
        else {
            return Ok(());
        };
        step.execute_batch(statements)?;
        step.pragma_update(None, "user_version", version + 1)?;
        step.commit()?;
    }
}

pub(super) fn text<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged {
        what: "value to be written",
        value: error.to_string(),
    })
}

pub(super) fn value<T: DeserializeOwned>(
    what: &'static str,
    text: String,
) -> Result<T, StoreError> {
    serde_json::from_str(&text).map_err(|_| StoreError::Damaged { what, value: text })
}

pub(super) fn parsed<T: std::str::FromStr>(
    what: &'static str,
    text: String,
) -> Result<T, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Damaged { what, value: text })
}

/// A row of `owned` as SQLite has it.
struct OwnedRow {
    uid: String,
    source: String,
    address: String,
    spec: Option<String>,
    origin: Option<String>,
    needs: String,
    remembered: Option<String>,
    restart_pending: String,
    drift: String,
    labels: Option<String>,
}

impl OwnedRow {
    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            uid: row.get(0)?,
            source: row.get(1)?,
            address: row.get(2)?,
            spec: row.get(3)?,
            origin: row.get(4)?,
            needs: row.get(5)?,
            remembered: row.get(6)?,
            restart_pending: row.get(7)?,
            drift: row.get(8)?,
            labels: row.get(9)?,
        })
    }

    fn into_owned(self) -> Result<Owned, StoreError> {
        Ok(Owned {
            uid: parsed("uid", self.uid)?,
            source: SourceName::new(self.source),
            address: parsed("name of an object", self.address)?,
            spec: self.spec,
            origin: self
                .origin
                .map(|text| value("place in a manifest", text))
                .transpose()?,
            needs: value("list of needs", self.needs)?,
            labels: self.labels.map(|text| value("labels", text)).transpose()?,
            remembered: self
                .remembered
                .map(|text| value("lifecycle", text))
                .transpose()?,
            restart_pending: value("list of pending changes", self.restart_pending)?,
            drift: value("list of drift", self.drift)?,
        })
    }
}

impl Store for SqliteStore {
    fn load(&self) -> Result<Known, StoreError> {
        let reading = failed("read");
        let mut connection = self.connection();
        // One snapshot of all tables, also while another process writes.
        let snapshot = connection.transaction().map_err(&reading)?;
        let mut known = Known {
            generation: generation(&snapshot).map_err(&reading)?,
            ..Known::default()
        };
        let mut query = snapshot
            .prepare_cached(
                "SELECT uid, source, address, spec, origin, needs, remembered, restart_pending, drift, labels FROM owned",
            )
            .map_err(&reading)?;
        let rows = query.query_map([], OwnedRow::read).map_err(&reading)?;
        for row in rows {
            let owned = row.map_err(&reading)?.into_owned()?;
            known.owned.insert(owned.uid, owned);
        }
        drop(query);
        let mut query = snapshot
            .prepare_cached("SELECT name, root, revision, applied_at, repository FROM sources")
            .map_err(&reading)?;
        let rows = query
            .query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, Vec<u8>>(1)?,
                    row.get::<_, Option<String>>(2)?,
                    row.get::<_, String>(3)?,
                    row.get::<_, Option<String>>(4)?,
                ))
            })
            .map_err(&reading)?;
        for row in rows {
            let (name, root, revision, applied_at, repository) = row.map_err(&reading)?;
            let source = KnownSource {
                name: SourceName::new(name),
                root: PathBuf::from(
                    <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(root),
                ),
                revision,
                repository: repository
                    .map(|text| value("repository", text))
                    .transpose()?,
                applied_at: parsed("time", applied_at)?,
            };
            known.sources.insert(source.name.clone(), source);
        }
        drop(query);
        let mut query = snapshot
            .prepare_cached("SELECT uid, until, reason, since FROM holds")
            .map_err(&reading)?;
        let rows = query
            .query_map([], |row| {
                let text = |index| row.get::<_, String>(index);
                Ok((text(0)?, text(1)?, text(2)?, text(3)?))
            })
            .map_err(&reading)?;
        for row in rows {
            let (uid, until, reason, since) = row.map_err(&reading)?;
            let hold = Hold {
                until: parsed("time", until)?,
                reason,
                since: parsed("time", since)?,
            };
            known.holds.insert(parsed("uid", uid)?, hold);
        }
        drop(query);
        let mut query = snapshot
            .prepare_cached("SELECT scope, reason, by, since, until FROM suspensions")
            .map_err(&reading)?;
        let rows = query
            .query_map([], |row| {
                let text = |index| row.get::<_, String>(index);
                let by: Option<String> = row.get(2)?;
                let until: Option<String> = row.get(4)?;
                Ok((text(0)?, text(1)?, by, text(3)?, until))
            })
            .map_err(&reading)?;
        for row in rows {
            let (scope, reason, by, since, until) = row.map_err(&reading)?;
            let suspension = Suspension {
                reason,
                by,
                since: parsed("time", since)?,
                until: until.map(|until| parsed("time", until)).transpose()?,
            };
            known
                .suspensions
                .insert(parsed("scope", scope)?, suspension);
        }
        drop(query);
        let mut query = snapshot
            .prepare_cached("SELECT source, digest, revision, reason, by, since FROM pins")
            .map_err(&reading)?;
        let rows = query
            .query_map([], |row| {
                let text = |index| row.get::<_, String>(index);
                let by: Option<String> = row.get(4)?;
                Ok((text(0)?, text(1)?, text(2)?, text(3)?, by, text(5)?))
            })
            .map_err(&reading)?;
        for row in rows {
            let (source, digest, revision, reason, by, since) = row.map_err(&reading)?;
            let since = parsed("time", since)?;
            let pin = Pin {
                digest,
                revision,
                reason,
                by,
                since,
            };
            known.pins.insert(SourceName::new(source), pin);
        }
        drop(query);
        let mut query = snapshot
            .prepare_cached("SELECT schedule, object, at, failed_at, failed FROM ticks")
            .map_err(&reading)?;
        let rows = query
            .query_map([], |row| {
                let text = |index| row.get::<_, String>(index);
                let failed_at: Option<String> = row.get(3)?;
                Ok((text(0)?, text(1)?, text(2)?, failed_at, row.get(4)?))
            })
            .map_err(&reading)?;
        for row in rows {
            let (schedule, object, at, failed_at, times) = row.map_err(&reading)?;
            let failed = failed_at.map(|at| parsed("time", at)).transpose()?;
            let tick = Tick {
                at: parsed("time", at)?,
                failed: failed.map(|at| (at, times)),
            };
            let key = (parsed("uid", schedule)?, parsed("uid", object)?);
            known.ticks.insert(key, tick);
        }
        Ok(known)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let writing = failed("write to");
        let mut connection = self.connection();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&writing)?;
        for write in writes {
            put(&transaction, write)?;
        }
        transaction.commit().map_err(&writing)
    }
}

/// Writes a row of `owned`; `otherwise` says what is done where there is one already: `REPLACE`, `IGNORE`.
fn own(connection: &Connection, otherwise: &str, owned: &Owned) -> Result<(), StoreError> {
    let values = params![
        owned.uid.to_string(),
        owned.source.as_str(),
        owned.address.to_string(),
        owned.spec,
        owned.origin.as_ref().map(text).transpose()?,
        text(&owned.needs)?,
        owned.remembered.as_ref().map(text).transpose()?,
        text(&owned.restart_pending)?,
        text(&owned.drift)?,
        owned.labels.as_ref().map(text).transpose()?,
    ];
    let statement = format!(
        "INSERT OR {otherwise} INTO owned VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
    );
    connection
        .prepare_cached(&statement)
        .and_then(|mut statement| statement.execute(values))
        .map(|_| ())
        .map_err(failed("write to"))
}

fn put(connection: &Connection, write: &Write) -> Result<(), StoreError> {
    let writing = failed("write to");
    let run = |statement: &str, values: &[&dyn rusqlite::ToSql]| {
        connection
            .prepare_cached(statement)
            .and_then(|mut statement| statement.execute(values))
            .map(|_| ())
            .map_err(&writing)
    };
    match write {
        Write::Own(owned) => own(connection, "REPLACE", owned),
        Write::Found(owned) => own(connection, "IGNORE", owned),
        Write::Disown(uid) => {
            run("DELETE FROM owned WHERE uid = ?1", params![uid.to_string()])?;
            run("DELETE FROM holds WHERE uid = ?1", params![uid.to_string()])?;
            run(
                "DELETE FROM ticks WHERE schedule = ?1 OR object = ?1",
                params![uid.to_string()],
            )
        }
        Write::Tick {
            schedule,
            object,
            tick,
        } => run(
            "INSERT OR REPLACE INTO ticks VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                schedule.to_string(),
                object.to_string(),
                tick.at.to_string(),
                tick.failed.map(|(at, _)| at.to_string()),
                tick.failed.map_or(0, |(_, times)| times),
            ],
        ),
        Write::Hold(uid, hold) => run(
            "INSERT OR REPLACE INTO holds VALUES (?1, ?2, ?3, ?4)",
            params![
                uid.to_string(),
                hold.until.to_string(),
                hold.reason,
                hold.since.to_string(),
            ],
        ),
        Write::Release(uid) => run("DELETE FROM holds WHERE uid = ?1", params![uid.to_string()]),
        Write::Suspend(scope, suspension) => run(
            "INSERT OR REPLACE INTO suspensions VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                scope.to_string(),
                suspension.reason,
                suspension.by,
                suspension.since.to_string(),
                suspension.until.map(|until| until.to_string()),
            ],
        ),
        Write::Resume(scope) => run(
            "DELETE FROM suspensions WHERE scope = ?1",
            params![scope.to_string()],
        ),
        Write::Pin(source, pin) => run(
            "INSERT OR REPLACE INTO pins VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                source.as_str(),
                pin.digest,
                pin.revision,
                pin.reason,
                pin.by,
                pin.since.to_string(),
            ],
        ),
        Write::Unpin(source) => run(
            "DELETE FROM pins WHERE source = ?1",
            params![source.as_str()],
        ),
        Write::Source(source) => run(
            "INSERT OR REPLACE INTO sources VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                source.name.as_str(),
                std::os::unix::ffi::OsStrExt::as_bytes(source.root.as_os_str()),
                source.revision,
                source.applied_at.to_string(),
                source.repository.as_ref().map(text).transpose()?,
            ],
        ),
        Write::NextGeneration => run(
            "UPDATE meta SET value = value + 1 WHERE key = 'generation'",
            &[],
        ),
        Write::Drift(uid, drift) => run(
            "UPDATE owned SET drift = ?2 WHERE uid = ?1",
            params![uid.to_string(), text(drift)?],
        ),
        Write::Event(event) => {
            // Of an apply that lost its lock, a later one has told the end; what it still says comes too late.
            let told: Option<bool> = connection
                .prepare_cached("SELECT finished FROM applies WHERE plan = ?1")
                .and_then(|mut query| {
                    query
                        .query_row([event.plan.to_string()], |row| row.get(0))
                        .optional()
                })
                .map_err(&writing)?;
            if told == Some(true) {
                return Ok(());
            }
            run(
                "INSERT INTO journal (plan, at, step, address, what) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    event.plan.to_string(),
                    event.at.to_string(),
                    event.step().map(|step| step.0),
                    event.address().map(Address::to_string),
                    text(event)?,
                ],
            )?;
            match &event.what {
                What::Begun { .. } => run(
                    "INSERT INTO applies VALUES (?1, last_insert_rowid(), 0)",
                    params![event.plan.to_string()],
                ),
                What::Finished { .. } => run(
                    "UPDATE applies SET finished = 1 WHERE plan = ?1",
                    params![event.plan.to_string()],
                ),
                What::Started { .. } | What::Ended { .. } => Ok(()),
            }
        }
    }
}

impl Journal for SqliteStore {
    fn unfinished(&self) -> Result<Vec<ApplyStatus>, JournalError> {
        self.applies_of(
            "SELECT plan FROM applies WHERE finished = 0 ORDER BY first DESC LIMIT ?1",
            [i64::MAX],
        )
    }

    fn applies(&self, limit: usize) -> Result<Vec<ApplyStatus>, JournalError> {
        self.applies_of(
            "SELECT plan FROM applies ORDER BY first DESC LIMIT ?1",
            [i64::try_from(limit).unwrap_or(i64::MAX)],
        )
    }

    fn apply_of(&self, plan: &crate::plan::PlanId) -> Result<Option<ApplyStatus>, JournalError> {
        let query = "SELECT plan FROM applies WHERE plan = ?1";
        let found = self.applies_of(query, [plan.to_string()])?;
        Ok(found.into_iter().next())
    }

    fn events_of(&self, address: &Address, limit: usize) -> Result<Vec<ObjectEvent>, JournalError> {
        let connection = self.connection();
        let mut query = connection.prepare_cached(
            "SELECT event.what, begun.what FROM journal AS event
                 LEFT JOIN applies ON applies.plan = event.plan
                 LEFT JOIN journal AS begun ON begun.seq = applies.first
             WHERE event.address = ?1 ORDER BY event.seq DESC LIMIT ?2",
        )?;
        let lines: Vec<(String, Option<String>)> = query
            .query_map(
                params![
                    address.to_string(),
                    i64::try_from(limit).unwrap_or(i64::MAX)
                ],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?
            .collect::<Result<_, _>>()?;
        let told = |(event, begun): (String, Option<String>)| {
            let begun = begun.map(event_of).transpose()?;
            Ok(ObjectEvent::new(
                event_of(event)?,
                begun.map(|begun| begun.what),
            ))
        };
        lines.into_iter().map(told).collect()
    }
}
