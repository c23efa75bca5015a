//! The vocabulary that plans and runtimes share: [`Action`].

use crate::change::FieldChange;
use crate::id::{Address, Mark, Uid};

/// Switching an instance on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Power {
    /// Start it; a machine whose state was saved goes on from there.
    Start,
    /// Start it anew: a state that was saved is given up.
    StartAnew,
    /// Stop it in an orderly way, then by force.
    Stop,
    /// Stop it by force.
    Kill,
    /// Save the state of a machine and stop it, so that it goes on from there.
    Save,
    /// Stop and start it.
    Restart,
    /// Stop it by force and start it.
    Reset,
    /// Freeze its processes.
    Freeze,
    /// Let them go on.
    Unfreeze,
    /// Stop it before the host goes down, as its `boot.hostShutdownAction` says. It is still meant to run.
    HostDown,
}

impl Power {
    /// The word of the command that does it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::StartAnew => "start without its saved state",
            Self::Stop => "stop",
            Self::Kill => "stop by force",
            Self::Save => "stop with its state",
            Self::Restart => "restart",
            Self::Reset => "restart by force",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::HostDown => "stop with the host",
        }
    }
}

/// What is done to one object. Every action is idempotent: performed again after a crash inside it, it converges.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", tag = "action")]
pub enum Verb {
    /// Makes it as the desired set says; an instance is started as well unless its `state` is `Stopped`.
    Create,
    /// Changes these fields; all that can be live is.
    Update {
        /// The fields.
        changes: Vec<FieldChange>,
    },
    /// Gives it its new name.
    Rename {
        /// The name under which it lives.
        from: Address,
    },
    /// Wipes its root file system and makes it from its image again.
    Rebuild,
    /// Deletes it and makes it again.
    Replace,
    /// Switches it.
    Power {
        /// How.
        power: Power,
    },
    /// Puts our mark on it.
    Adopt,
    /// Takes our mark off it and leaves it as it is.
    Forget,
    /// Stops it and moves it to the trash.
    Trash {
        /// When it was asked for.
        at: jiff::Timestamp,
        /// When it goes for good.
        expires_at: jiff::Timestamp,
    },
    /// Takes it out of the trash, under the same identity.
    Restore,
    /// Deletes it for good, wherever it is.
    Delete,
}

impl Verb {
    /// The word in plans as JSON.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update { .. } => "update",
            Self::Rename { .. } => "rename",
            Self::Rebuild => "rebuild",
            Self::Replace => "replace",
            Self::Power { .. } => "power",
            Self::Adopt => "adopt",
            Self::Forget => "forget",
            Self::Trash { .. } | Self::Delete => "delete",
            Self::Restore => "restore",
        }
    }
}

/// What an object was before it is made anew is kept in the trash, with its snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keep {
    /// Its identity there: the object itself keeps its own.
    pub uid: Uid,
    /// When it was asked for.
    pub at: jiff::Timestamp,
    /// When it goes for good.
    pub expires_at: jiff::Timestamp,
}

/// One deed on one object.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Action {
    /// What is done.
    #[serde(flatten)]
    pub verb: Verb,
    /// To which object, by the name that it will have.
    pub address: Address,
    /// Its identity.
    pub uid: Uid,
    /// Whose it is or becomes.
    pub mark: Mark,
    /// Of a rebuild or a replace: what becomes of what was there. None: it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
}
