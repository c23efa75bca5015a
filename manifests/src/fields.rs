//! `fields!`: one declaration per struct of fields gives what is written, what it defaults to, its schema and how it
//! is compared.

use std::borrow::Cow;

mod absence;

/// Declares a struct of documented fields with their defaults: `name: Type = default`.
///
/// The struct is read in camelCase, refuses unknown keys, and compares field by field. Adding a field here adds it to
/// the language, the schema, the plan and the drift report. A field that is absent by default and absent now is not
/// written; all others are, also where they have their default.
#[macro_export]
macro_rules! fields {
    ($(#[$meta:meta])* pub struct $name:ident {
        $( $(#[$field_meta:meta])* $field:ident : $type:ty = $default:expr ),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type ),*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default ),* }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serde::Serializer::serialize_map(serializer, None)?;
                $crate::fields::Entries::write(self, &mut map)?;
                serde::ser::SerializeMap::end(map)
            }
        }

        impl $crate::fields::Entries for $name {
            fn write<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                // A struct may have no fields.
                let _ = &map;
                $( if !$crate::fields::left_out(&self.$field, || $default) {
                    map.serialize_entry($crate::fields::key(stringify!($field)).as_ref(), &self.$field)?;
                } )*
                Ok(())
            }
        }

        impl $crate::change::Compare for $name {
            fn compare(
                &self,
                seen: &Self,
                at: &$crate::pointer::Pointer,
                out: &mut $crate::change::Comparison,
            ) {
                // A struct may have no fields.
                let _ = (seen, at, &out);
                $( if self.$field != seen.$field {
                    $crate::change::Compare::compare(
                        &self.$field,
                        &seen.$field,
                        &at.field(&$crate::fields::key(stringify!($field))),
                        out,
                    );
                } )*
            }
        }

        impl $name {
            /// The keys of the fields, as people write them.
            pub fn keys() -> Vec<String> {
                vec![$( $crate::fields::key(stringify!($field)).into_owned() ),*]
            }
        }
    };
}

/// Writing the fields of a struct into a map that somebody else opens and closes.
pub trait Entries {
    /// Writes each field that is not left out.
    ///
    /// # Errors
    /// The serializer's.
    fn write<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

/// Whether a field need not be written: it is absent (null, or an empty map or list) and would be so by default.
pub fn left_out<T: serde::Serialize + PartialEq>(value: &T, default: impl FnOnce() -> T) -> bool {
    absence::is_absent(value) && *value == default()
}

/// The key of a field as people write it: `memory_swap` is `memorySwap`, `r#type` is `type`.
pub fn key(field: &'static str) -> Cow<'static, str> {
    let field = field.strip_prefix("r#").unwrap_or(field);
    if !field.contains('_') {
        return Cow::Borrowed(field);
    }
    let mut key = String::with_capacity(field.len());
    let mut raise = false;
    for character in field.chars() {
        match character {
            '_' => raise = true,
            other if raise => {
                key.extend(other.to_uppercase());
                raise = false;
            }
            other => key.push(other),
        }
    }
    Cow::Owned(key)
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro makes public structs")]
mod tests {
    use crate::change::{Compare as _, Comparison};
    use crate::pointer::Pointer;

    crate::fields! {
        /// A test subject.
        pub struct Subject {
            /// How many.
            memory_swap: u32 = 7,
            /// What.
            r#type: String = "plain".to_owned(),
        }
    }

    #[test]
    fn a_declaration_gives_defaults_keys_and_comparison() {
        assert_eq!(Subject::keys(), ["memorySwap", "type"]);
        let seen = Subject {
            memory_swap: 8,
            ..Subject::default()
        };
        let mut out = Comparison::default();
        Subject::default().compare(&seen, &Pointer::new("/spec"), &mut out);
        let changes = out.into_changes();
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].path.as_str(), "/spec/memorySwap");
        assert_eq!(
            (changes[0].before.as_u64(), changes[0].after.as_u64()),
            (Some(8), Some(7))
        );
    }
}
