//! `fields!`: one declaration per struct of fields gives what is written, what it defaults to, its schema and how it
//! is compared.

/// Declares a struct of documented fields with their defaults: `name: Type = default`.
///
/// The struct is read in camelCase, refuses unknown keys, and compares field by field. Adding a field here adds it to
/// the language, the schema, the plan and the drift report.
#[macro_export]
macro_rules! fields {
    ($(#[$meta:meta])* pub struct $name:ident {
        $( $(#[$field_meta:meta])* $field:ident : $type:ty = $default:expr ),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type ),*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default ),* }
            }
        }

        impl $crate::change::Compare for $name {
            fn compare(
                &self,
                seen: &Self,
                at: &$crate::pointer::Pointer,
                out: &mut $crate::change::Comparison,
            ) {
                $( $crate::change::Compare::compare(
                    &self.$field,
                    &seen.$field,
                    &at.field(&$crate::fields::key(stringify!($field))),
                    out,
                ); )*
            }
        }

        impl $name {
            /// The keys of the fields, as people write them.
            pub fn keys() -> Vec<String> {
                vec![$( $crate::fields::key(stringify!($field)) ),*]
            }
        }
    };
}

/// The key of a field as people write it: `memory_swap` is `memorySwap`, `r#type` is `type`.
pub fn key(field: &str) -> String {
    let mut key = String::with_capacity(field.len());
    let mut raise = false;
    for character in field.strip_prefix("r#").unwrap_or(field).chars() {
        match character {
            '_' => raise = true,
            other if raise => {
                key.extend(other.to_uppercase());
                raise = false;
            }
            other => key.push(other),
        }
    }
    key
}

#[cfg(test)]
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
