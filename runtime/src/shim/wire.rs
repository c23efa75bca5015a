//! Bytes of the messages between keel and its companion: little-endian integers, lengths before lists.
//!
//! Small on purpose: the companion stays under 300 KiB only without a serialisation framework.

/// A message that does not mean anything here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// It ends before its last field.
    Short,
    /// A number that no variant or flag has.
    Unknown(u32),
    /// Text that is not UTF-8.
    NotText,
    /// Bytes are left after its last field.
    Long,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.write_str("message ends too early"),
            Self::Unknown(tag) => write!(f, "message has an unknown variant {tag}"),
            Self::NotText => f.write_str("message has text that is not UTF-8"),
            Self::Long => f.write_str("message goes on after its end"),
        }
    }
}

impl std::error::Error for WireError {}

/// A value with one spelling in bytes: `take(put(x)) == x`.
pub trait Wire: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads the value from the front of `from` and moves `from` behind it.
    ///
    /// # Errors
    /// [`WireError`] for bytes that no `put` wrote.
    fn take(from: &mut &[u8]) -> Result<Self, WireError>;

    /// The value alone, as bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// The value that these bytes are, all of them.
    ///
    /// # Errors
    /// [`WireError`] for bytes that no `put` wrote.
    fn from_bytes(mut bytes: &[u8]) -> Result<Self, WireError> {
        let value = Self::take(&mut bytes)?;
        if bytes.is_empty() {
            Ok(value)
        } else {
            Err(WireError::Long)
        }
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Wire for $integer {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(from: &mut &[u8]) -> Result<Self, WireError> {
                let (bytes, rest) = from.split_first_chunk().ok_or(WireError::Short)?;
                *from = rest;
                Ok(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, i32, i64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    fn take(from: &mut &[u8]) -> Result<Self, WireError> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Unknown(other.into())),
        }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        for item in self {
            item.put(out);
        }
    }

    fn take(from: &mut &[u8]) -> Result<Self, WireError> {
        let length = u32::take(from)?;
        // Every item takes at least one byte: a lying length must not reserve memory.
        if length as usize > from.len() {
            return Err(WireError::Short);
        }
        (0..length).map(|_| T::take(from)).collect()
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(from: &mut &[u8]) -> Result<Self, WireError> {
        Self::from_utf8(Vec::take(from)?).map_err(|_| WireError::NotText)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut &[u8]) -> Result<Self, WireError> {
        Ok(if bool::take(from)? {
            Some(T::take(from)?)
        } else {
            None
        })
    }
}

/// Declares structs whose fields are sent in the order written.
macro_rules! message {
    ($($(#[$about:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_about:meta])* pub $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        $visibility struct $name {
            $($(#[$field_about])* pub $field: $type,)*
        }

        impl $crate::shim::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::shim::wire::Wire::put(&self.$field, out);)*
            }

            fn take(from: &mut &[u8]) -> Result<Self, $crate::shim::wire::WireError> {
                Ok(Self { $($field: <$type as $crate::shim::wire::Wire>::take(from)?,)* })
            }
        }
    )*};
}

/// Declares enums whose variants are sent as their number and then their fields. Numbers are never used again.
macro_rules! choice {
    ($($(#[$about:meta])* $visibility:vis enum $name:ident {
        $($(#[$variant_about:meta])* $number:literal => $variant:ident
            $({ $($(#[$field_about:meta])* $field:ident: $type:ty,)* })?,)*
    })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[$variant_about])* $variant $({ $($(#[$field_about])* $field: $type,)* })?,)*
        }

        impl $crate::shim::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $({ $($field,)* })? => {
                        $crate::shim::wire::Wire::put(&($number as u8), out);
                        $($($crate::shim::wire::Wire::put($field, out);)*)?
                    })*
                }
            }

            fn take(from: &mut &[u8]) -> Result<Self, $crate::shim::wire::WireError> {
                match <u8 as $crate::shim::wire::Wire>::take(from)? {
                    $($number => Ok(Self::$variant
                        $({ $($field: <$type as $crate::shim::wire::Wire>::take(from)?,)* })?),)*
                    other => Err($crate::shim::wire::WireError::Unknown(other.into())),
                }
            }
        }
    )*};
}

pub(crate) use {choice, message};
