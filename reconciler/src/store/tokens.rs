//! Tokens: secrets by which somebody may ask the controller over the network. Only what a secret hashes to is kept.

use manifests::controller::Role;
use rusqlite::{OptionalExtension as _, Row, params};

use super::StoreError;
use super::sqlite::{SqliteStore, failed, parsed, text, value};

/// What somebody may who has a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is called.
    pub name: String,
    /// What they may.
    pub role: Role,
    /// The projects that they see and work with; empty: all, and what belongs to the host.
    pub projects: Vec<String>,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// Until when it counts; none: until it is revoked.
    pub expires_at: Option<jiff::Timestamp>,
    /// Who made it, where that is known.
    pub by: Option<String>,
}

impl Token {
    /// Whether its time is over.
    pub fn is_over(&self, now: jiff::Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A row as SQLite has it.
type Columns = (
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
);

const COLUMNS: &str = "name, role, projects, created_at, expires_at, by";

fn columns(row: &Row<'_>) -> Result<Columns, rusqlite::Error> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
    ))
}

fn token((name, role, projects, created_at, expires_at, by): Columns) -> Result<Token, StoreError> {
    Ok(Token {
        name,
        role: value("role", role)?,
        projects: value("list of projects", projects)?,
        created_at: parsed("time", created_at)?,
        expires_at: expires_at.map(|at| parsed("time", at)).transpose()?,
        by,
    })
}

impl SqliteStore {
    /// All tokens, by name; also those whose time is over.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        let reading = failed("read");
        let connection = self.connection();
        let mut query = connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM tokens ORDER BY name"))
            .map_err(&reading)?;
        let rows = query.query_map([], columns).map_err(&reading)?;
        rows.map(|row| token(row.map_err(&reading)?)).collect()
    }

    /// That of a secret, by what it hashes to.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn token_of(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        let reading = failed("read");
        let connection = self.connection();
        let mut query = connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE hash = ?1"))
            .map_err(&reading)?;
        let row = query.query_row([hash], columns).optional();
        row.map_err(&reading)?.map(token).transpose()
    }

    /// Remembers one; false: there is one of this name already.
    ///
    /// # Errors
    /// It is not remembered.
    pub fn add_token(&self, token: &Token, hash: &str) -> Result<bool, StoreError> {
        let added = self.connection().execute(
            "INSERT OR IGNORE INTO tokens (name, hash, role, projects, created_at, expires_at, by)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                token.name,
                hash,
                text(&token.role)?,
                text(&token.projects)?,
                token.created_at.to_string(),
                token.expires_at.map(|at| at.to_string()),
                token.by,
            ],
        );
        Ok(added.map_err(failed("write to"))? > 0)
    }

    /// Forgets one; false: there is none of this name.
    ///
    /// # Errors
    /// It still counts.
    pub fn revoke_token(&self, name: &str) -> Result<bool, StoreError> {
        let revoked = self
            .connection()
            .execute("DELETE FROM tokens WHERE name = ?1", [name]);
        Ok(revoked.map_err(failed("write to"))? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_what_its_secret_hashes_to_until_it_is_revoked() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(&folder.path().join("keel.db")).expect("a store");
        let at = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
        let one = Token {
            name: "prometheus".to_owned(),
            role: Role::Operator,
            projects: vec!["shop".to_owned()],
            created_at: at("2026-11-27T12:00:00Z"),
            expires_at: Some(at("2026-11-28T12:00:00Z")),
            by: Some("alice".to_owned()),
        };
        assert!(store.add_token(&one, "abc").expect("added"));
        let again = store.add_token(&one, "def").expect("looked at");
        assert!(!again, "the name is taken");
        assert_eq!(store.tokens().expect("read"), std::slice::from_ref(&one));
        assert_eq!(store.token_of("abc").expect("read"), Some(one.clone()));
        assert_eq!(store.token_of("def").expect("read"), None);
        assert!(one.is_over(at("2026-11-28T12:00:00Z")));
        assert!(!one.is_over(at("2026-11-28T11:59:59Z")));
        assert!(store.revoke_token("prometheus").expect("revoked"));
        assert!(!store.revoke_token("prometheus").expect("it is gone"));
        assert_eq!(store.token_of("abc").expect("read"), None);
    }
}
