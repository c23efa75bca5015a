//! The database's formats, oldest first. `PRAGMA user_version` says which one a file has.
//!
//! A format that was ever released is never edited: add the next one below.

/// The statements that make format `n + 1` of format `n`.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (
        key   TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT;
    INSERT INTO meta VALUES ('generation', 0);
    CREATE TABLE sources (
        name       TEXT PRIMARY KEY,
        root       BLOB NOT NULL,
        revision   TEXT,
        applied_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE owned (
        uid             TEXT PRIMARY KEY,
        source          TEXT NOT NULL,
        address         TEXT NOT NULL,
        spec            TEXT,
        origin          TEXT,
        needs           TEXT NOT NULL,
        remembered      TEXT,
        restart_pending TEXT NOT NULL,
        drift           TEXT NOT NULL
    ) STRICT;
    CREATE TABLE journal (
        seq     INTEGER PRIMARY KEY,
        plan    TEXT NOT NULL,
        at      TEXT NOT NULL,
        step    INTEGER,
        address TEXT,
        what    TEXT NOT NULL
    ) STRICT;
    CREATE INDEX journal_by_plan ON journal (plan);
    CREATE INDEX journal_by_address ON journal (address) WHERE address IS NOT NULL;
    CREATE TABLE applies (
        plan     TEXT PRIMARY KEY,
        first    INTEGER NOT NULL,
        finished INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX applies_open ON applies (plan) WHERE finished = 0;
    CREATE TRIGGER journal_is_append_only BEFORE UPDATE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
",
    "
    CREATE TABLE holds (
        uid    TEXT PRIMARY KEY,
        until  TEXT NOT NULL,
        reason TEXT NOT NULL,
        since  TEXT NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE sources ADD COLUMN repository TEXT;
",
    "
    ALTER TABLE owned ADD COLUMN labels TEXT;
    CREATE TABLE ticks (
        schedule  TEXT NOT NULL,
        object    TEXT NOT NULL,
        at        TEXT NOT NULL,
        failed_at TEXT,
        failed    INTEGER NOT NULL,
        PRIMARY KEY (schedule, object)
    ) STRICT;
",
    "
    CREATE TABLE suspensions (
        scope  TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        by     TEXT,
        since  TEXT NOT NULL,
        until  TEXT
    ) STRICT;
",
    "
    CREATE TABLE pins (
        source   TEXT PRIMARY KEY,
        digest   TEXT NOT NULL,
        revision TEXT NOT NULL,
        reason   TEXT NOT NULL,
        by       TEXT,
        since    TEXT NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE tokens (
        name       TEXT PRIMARY KEY,
        hash       TEXT NOT NULL UNIQUE,
        role       TEXT NOT NULL,
        projects   TEXT NOT NULL,
        created_at TEXT NOT NULL,
        expires_at TEXT,
        by         TEXT
    ) STRICT;
",
    "
    CREATE TABLE deeds (
        seq     INTEGER PRIMARY KEY,
        at      INTEGER NOT NULL,
        address TEXT NOT NULL,
        what    TEXT NOT NULL,
        by      TEXT NOT NULL
    ) STRICT;
    CREATE INDEX deeds_by_address ON deeds (address);
    CREATE INDEX deeds_by_time ON deeds (at);
",
];

#[cfg(test)]
mod tests {
    use manifests::id::SourceName;
    use rusqlite::Connection;

    use super::MIGRATIONS;
    use crate::store::{SqliteStore, Store as _};

    #[test]
    fn every_older_format_is_brought_up_to_date_and_keeps_what_it_held() {
        for version in 1..MIGRATIONS.len() {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("keel.db");
            let old = Connection::open(&path).expect("opened");
            for statements in &MIGRATIONS[..version] {
                old.execute_batch(statements).expect("an old format");
            }
            old.pragma_update(None, "user_version", i64::try_from(version).expect("small"))
                .expect("its number");
            old.execute_batch(
                "INSERT INTO sources (name, root, revision, applied_at)
                     VALUES ('edge', x'2f73', NULL, '2026-07-05T12:00:00Z')",
            )
            .expect("a source");
            drop(old);
            let known = SqliteStore::open(&path).and_then(|store| store.load());
            let known = known.unwrap_or_else(|error| panic!("format {version}: {error}"));
            let source = &known.sources[&SourceName::new("edge")];
            assert_eq!(source.root.to_str(), Some("/s"), "format {version}");
            assert_eq!(source.repository, None, "format {version}");
        }
    }
}
