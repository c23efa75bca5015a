//! What a change costs: [`Effect`], the eight words of the manifest language.

use std::fmt;

/// What a field change costs, mildest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// In force at once, nobody notices.
    Live,
    /// The device blinks.
    Replug,
    /// Accepted now, in force after a restart.
    NextStart,
    /// Refused while running.
    StopNeeded,
    /// The root file system is wiped; volumes stay.
    Rebuild,
    /// The object is deleted and made again.
    Replace,
    /// Data is lost.
    DataLoss,
    /// Cannot be done.
    Forbidden,
}

impl Effect {
    /// The word that people see.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Replug => "replug",
            Self::NextStart => "next start",
            Self::StopNeeded => "stop needed",
            Self::Rebuild => "rebuild",
            Self::Replace => "replace",
            Self::DataLoss => "data loss",
            Self::Forbidden => "forbidden",
        }
    }

    /// What it means for who uses the object, as the end of a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Live => "in force at once, nobody notices",
            Self::Replug => "the device blinks",
            Self::NextStart => "accepted now, in force after a restart",
            Self::StopNeeded => "refused while it runs",
            Self::Rebuild => "the root file system is wiped, volumes stay",
            Self::Replace => "it is deleted and made again",
            Self::DataLoss => "data is lost",
            Self::Forbidden => "it cannot be done",
        }
    }

    /// Replug, next start, stop needed: somebody may notice.
    pub const fn interrupts(self) -> bool {
        matches!(self, Self::Replug | Self::NextStart | Self::StopNeeded)
    }

    /// Rebuild, replace, data loss: something is gone afterwards.
    pub const fn destroys(self) -> bool {
        matches!(self, Self::Rebuild | Self::Replace | Self::DataLoss)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
