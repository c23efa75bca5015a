//! What differs between what is wanted and what is there: [`FieldChange`], and the [`Compare`] that finds it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::pointer::Pointer;

/// Why a field differs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// We changed our mind: the manifest says something else than was last applied.
    Edited,
    /// The world moved under us: the manifest says what was last applied.
    Drifted,
    /// An image alias moved.
    Image,
    /// Another object's change makes this one necessary.
    Dependency,
    /// Its manifest is gone.
    Orphaned,
    /// A person asked for it by a command.
    Asked,
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct FieldChange {
    /// Where: `/spec/limits/memory`.
    pub path: Pointer,
    /// What is there; null where nothing is.
    pub before: Value,
    /// What is wanted; null where nothing is.
    pub after: Value,
    /// Why it differs.
    pub cause: Cause,
}

/// Collects the fields that differ.
#[derive(Debug, Default)]
pub struct Comparison {
    changes: Vec<FieldChange>,
}

impl Comparison {
    /// Records that a field differs. The cause is `Edited` until the floor above, which knows what was last applied,
    /// says otherwise.
    pub fn differs(&mut self, path: Pointer, before: Value, after: Value) {
        self.changes.push(FieldChange {
            path,
            before,
            after,
            cause: Cause::Edited,
        });
    }

    /// What was found, in the order of the declaration of the fields.
    pub fn into_changes(self) -> Vec<FieldChange> {
        self.changes
    }
}

/// Comparing what is wanted with what was seen, field by field. Implemented by `fields!` for structs and by
/// [`compare_as_one!`](crate::compare_as_one) for values that change as a whole.
pub trait Compare {
    /// Records each difference below `at`.
    fn compare(&self, seen: &Self, at: &Pointer, out: &mut Comparison);
}

/// A value as plans and reports show it.
pub fn shown<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// Declares types whose values change as a whole: equal or not.
#[macro_export]
macro_rules! compare_as_one {
    ($($type:ty),* $(,)?) => {
        $(impl $crate::change::Compare for $type {
            fn compare(
                &self,
                seen: &Self,
                at: &$crate::pointer::Pointer,
                out: &mut $crate::change::Comparison,
            ) {
                if self != seen {
                    out.differs(at.clone(), $crate::change::shown(seen), $crate::change::shown(self));
                }
            }
        })*
    };
}

compare_as_one!(
    bool,
    String,
    u8,
    u16,
    u32,
    u64,
    i32,
    i64,
    std::net::IpAddr,
    std::net::Ipv4Addr,
    std::net::Ipv6Addr,
    Value
);

impl<T: Serialize + PartialEq> Compare for Vec<T> {
    fn compare(&self, seen: &Self, at: &Pointer, out: &mut Comparison) {
        if self != seen {
            out.differs(at.clone(), shown(seen), shown(self));
        }
    }
}

impl<T: Compare + Serialize> Compare for Option<T> {
    fn compare(&self, seen: &Self, at: &Pointer, out: &mut Comparison) {
        match (self, seen) {
            (None, None) => {}
            (Some(wanted), Some(there)) => wanted.compare(there, at, out),
            (wanted, there) => out.differs(at.clone(), shown(there), shown(wanted)),
        }
    }
}

impl<T: Compare + Serialize> Compare for BTreeMap<String, T> {
    fn compare(&self, seen: &Self, at: &Pointer, out: &mut Comparison) {
        for (key, wanted) in self {
            match seen.get(key) {
                Some(there) => wanted.compare(there, &at.field(key), out),
                None => out.differs(at.field(key), Value::Null, shown(wanted)),
            }
        }
        for (key, there) in seen.iter().filter(|(key, _)| !self.contains_key(*key)) {
            out.differs(at.field(key), shown(there), Value::Null);
        }
    }
}

impl<T: Compare> Compare for Box<T> {
    fn compare(&self, seen: &Self, at: &Pointer, out: &mut Comparison) {
        self.as_ref().compare(seen, at, out);
    }
}

/// A value of which absence means "hands off": what is there is left alone (`state`, `files`).
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct HandsOff<T>(pub Option<T>);

impl<T> Default for HandsOff<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Compare + Serialize> Compare for HandsOff<T> {
    fn compare(&self, seen: &Self, at: &Pointer, out: &mut Comparison) {
        if self.0.is_some() {
            self.0.compare(&seen.0, at, out);
        }
    }
}
