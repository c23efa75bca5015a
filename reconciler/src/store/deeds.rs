//! What a server told that was done there and by whom: for reports of drift, and for thirty days.

use jiff::{SignedDuration, Timestamp};
use manifests::id::Address;
use runtime::watch::Deed;
use rusqlite::{TransactionBehavior, params};

use super::StoreError;
use super::sqlite::{SqliteStore, failed};
use crate::journal::Heard;

/// How long it is remembered.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
/// No more than so many are remembered, whoever is how busy: about 20 MB.
const MOST: i64 = 100_000;

impl SqliteStore {
    /// Remembers what was heard just now, and forgets what is old.
    ///
    /// # Errors
    /// Nothing was remembered.
    pub fn heard(&self, deeds: &[Deed], now: Timestamp) -> Result<(), StoreError> {
        let writing = failed("write to");
        let mut connection = self.connection();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&writing)?;
        for deed in deeds {
            transaction
                .prepare_cached("INSERT INTO deeds (at, address, what, by) VALUES (?1, ?2, ?3, ?4)")
                .and_then(|mut insert| {
                    let address = deed.address.to_string();
                    insert.execute(params![now.as_millisecond(), address, deed.what, deed.by])
                })
                .map_err(&writing)?;
        }
        let oldest = now.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
        transaction
            .prepare_cached(
                "DELETE FROM deeds WHERE at < ?1 OR seq <= (SELECT max(seq) FROM deeds) - ?2",
            )
            .and_then(|mut delete| delete.execute(params![oldest.as_millisecond(), MOST]))
            .map_err(&writing)?;
        transaction.commit().map_err(&writing)
    }

    /// What was heard of an object, the newest first.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn heard_of(&self, address: &Address, limit: usize) -> Result<Vec<Heard>, StoreError> {
        let reading = failed("read");
        let connection = self.connection();
        let mut query = connection
            .prepare_cached(
                "SELECT at, what, by FROM deeds WHERE address = ?1 ORDER BY seq DESC LIMIT ?2",
            )
            .map_err(&reading)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query
            .query_map(params![address.to_string(), limit], |row| {
                let at: i64 = row.get(0)?;
                Ok(Heard {
                    // Out of range is what no clock of ours has written.
                    at: Timestamp::from_millisecond(at).unwrap_or(Timestamp::MIN),
                    what: row.get(1)?,
                    by: row.get(2)?,
                })
            })
            .map_err(&reading)?;
        rows.map(|row| row.map_err(&reading)).collect()
    }
}

#[cfg(test)]
mod tests {
    use manifests::kind::Kind;

    use super::*;

    #[test]
    fn what_was_heard_is_told_for_thirty_days() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(&folder.path().join("keel.db")).expect("a store");
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let deed = |name: &str, by: &str| Deed {
            address: Address::new(Kind::Instance, name),
            what: "instance-updated".to_owned(),
            by: by.to_owned(),
        };
        let of = |name: &str| -> Vec<String> {
            let heard = store.heard_of(&Address::new(Kind::Instance, name), 10);
            heard.expect("read").into_iter().map(|one| one.by).collect()
        };
        let first = [deed("web", "alice"), deed("db", "bob")];
        store
            .heard(&first, at("2026-11-01T12:00:00Z"))
            .expect("kept");
        store
            .heard(&[deed("web", "carol")], at("2026-11-20T12:00:00Z"))
            .expect("kept");
        assert_eq!(of("web"), ["carol", "alice"]);
        assert_eq!(of("db"), ["bob"]);
        store.heard(&[], at("2026-12-02T12:00:00Z")).expect("kept");
        assert_eq!(of("web"), ["carol"]);
        assert_eq!(of("db"), Vec::<String>::new());
    }
}
