//! [`Boot`]: when an instance starts and stops with the host.

use std::fmt;

use crate::scalar::duration::Duration;

/// Whether an instance starts with the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Autostart {
    /// If it ran when the host went down.
    #[default]
    LastState,
    /// Yes.
    Always,
    /// No.
    Never,
}

impl serde::Serialize for Autostart {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::LastState => serializer.serialize_str("lastState"),
            Self::Always => serializer.serialize_bool(true),
            Self::Never => serializer.serialize_bool(false),
        }
    }
}

struct AutostartVisitor;

impl serde::de::Visitor<'_> for AutostartVisitor {
    type Value = Autostart;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("true, false or `lastState`")
    }

    fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Autostart, E> {
        Ok(if on {
            Autostart::Always
        } else {
            Autostart::Never
        })
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Autostart, E> {
        match text {
            "lastState" => Ok(Autostart::LastState),
            other => Err(E::unknown_variant(other, &["lastState", "true", "false"])),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Autostart {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AutostartVisitor)
    }
}

crate::scalar_schema!(Autostart, "true, false or `lastState`", { "enum": ["lastState", true, false] });
crate::compare_as_one!(Autostart);

crate::words! {
    /// What happens to an instance when the host goes down.
    pub enum ShutdownAction {
        /// It is stopped in an orderly way.
        Stop "stop",
        /// It is stopped by force.
        ForceStop "forceStop",
        /// Its memory is saved, and it goes on where it was.
        StatefulStop "statefulStop",
    }
}

crate::words! {
    /// What a machine boots with.
    pub enum BootMode {
        /// UEFI with secure boot.
        UefiSecureboot "uefi-secureboot",
        /// UEFI.
        Uefi "uefi",
        /// A PC BIOS.
        Bios "bios",
        /// The kernel of the image, without firmware.
        Direct "direct",
    }
}

crate::fields! {
    /// When an instance starts and stops with the host.
    pub struct Boot {
        /// Whether it starts with the host: true, false, or `lastState` (if it ran when the host went down).
        autostart: Autostart = Autostart::LastState,
        /// Higher starts first.
        priority: i32 = 0,
        /// The pause before the next one starts.
        delay: Duration = Duration::from_seconds(0),
        /// Higher stops first.
        stop_priority: i32 = 0,
        /// Whether it is started again when its init ends by itself, with growing pauses.
        autorestart: bool = false,
        /// What happens to it when the host goes down.
        host_shutdown_action: ShutdownAction = ShutdownAction::Stop,
        /// How long it may take to stop before it is killed.
        host_shutdown_timeout: Duration = Duration::from_seconds(30),
        /// What a machine boots with; absent: `direct` where its image carries a kernel, else `uefi-secureboot`.
        mode: Option<BootMode> = None,
    }
}
