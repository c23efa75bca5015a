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
];
