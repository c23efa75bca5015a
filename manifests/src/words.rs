//! `words!`: enums that are written as one word each.

/// Declares an enum of documented words; the first is the default.
#[macro_export]
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $(#[$first_meta:meta])* $first:ident $first_word:literal $(, $(#[$variant_meta:meta])* $variant:ident $word:literal )* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name {
            $(#[$first_meta])* #[default] #[serde(rename = $first_word)] $first,
            $( $(#[$variant_meta])* #[serde(rename = $word)] $variant ),*
        }

        impl $name {
            /// All of them, in the order of their declaration.
            pub const ALL: &[Self] = &[Self::$first, $( Self::$variant ),*];

            /// The word as people write it.
            pub const fn word(self) -> &'static str {
                match self { Self::$first => $first_word, $( Self::$variant => $word ),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.word())
            }
        }

        $crate::compare_as_one!($name);
    };
}
