//! What the controller stands on: the engine, and those parts of the command line that it does on its own.

use manifests::desired::DesiredSet;
use manifests::read::Texts;
use runtime::error::RuntimeError;
use runtime::watch::{Bell, Moved};

use crate::session::Session;

/// What the controller stands on.
pub trait Ground: Sync {
    /// The engine with its state folder.
    fn session(&self) -> Session<'_>;

    /// Looks up secrets, and refuses what this host is not for or cannot do.
    ///
    /// # Errors
    /// Why, for people.
    fn fit(&self, desired: &mut DesiredSet, texts: &Texts) -> Result<(), String>;

    /// Starts what should run after a start of the host.
    ///
    /// # Errors
    /// Why not all of it, for people.
    fn boot(&self) -> Result<(), String>;

    /// Makes and deletes snapshots, and empties the trash, as far as it is due.
    ///
    /// # Errors
    /// Why not all of it, for people.
    fn due(&self) -> Result<(), String>;

    /// Makes the backups that are due.
    ///
    /// # Errors
    /// Why not all of them, for people.
    fn back_up(&self) -> Result<(), String>;

    /// Watches the host until the bell says that it is enough.
    ///
    /// # Errors
    /// The kernel refuses.
    fn watch(&self, bell: &Bell, moved: &dyn Fn(Moved)) -> Result<(), RuntimeError>;
}
