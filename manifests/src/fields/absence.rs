//! Whether a value is written as null or as an empty map or list, found by a serializer that writes nothing.

use serde::ser::{
    Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer, StdError,
};

/// Whether the value says nothing: null, `{}`, `[]`.
pub(super) fn is_absent<T: Serialize + ?Sized>(value: &T) -> bool {
    value.serialize(Absence).unwrap_or(false)
}

/// Answers `true` for what is absent; stops at the first thing that is there.
struct Absence;

/// Something is there.
#[derive(Debug)]
struct Present;

impl std::fmt::Display for Present {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("something is there")
    }
}

impl StdError for Present {}

impl serde::ser::Error for Present {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! present {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, _: $type) -> Result<bool, Present> { Ok(false) })*
    };
}

impl Serializer for Absence {
    type Ok = bool;
    type Error = Present;
    type SerializeSeq = Self;
    type SerializeTuple = Impossible<bool, Present>;
    type SerializeTupleStruct = Impossible<bool, Present>;
    type SerializeTupleVariant = Impossible<bool, Present>;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<bool, Present>;

    present!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_f32(f32),
        serialize_f64(f64),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str)
    );

    fn collect_str<T: std::fmt::Display + ?Sized>(self, _: &T) -> Result<bool, Present> {
        Ok(false)
    }

    fn serialize_none(self) -> Result<bool, Present> {
        Ok(true)
    }

    fn serialize_unit(self) -> Result<bool, Present> {
        Ok(true)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<bool, Present> {
        Ok(false)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<bool, Present> {
        Ok(false)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<bool, Present> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<bool, Present> {
        Ok(false)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Present> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Present> {
        Err(Present)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Present> {
        Err(Present)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Present> {
        Err(Present)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Present> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Present> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Present> {
        Err(Present)
    }
}

impl SerializeSeq for Absence {
    type Ok = bool;
    type Error = Present;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Present> {
        Err(Present)
    }

    fn end(self) -> Result<bool, Present> {
        Ok(true)
    }
}

impl SerializeMap for Absence {
    type Ok = bool;
    type Error = Present;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Present> {
        Err(Present)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Present> {
        Err(Present)
    }

    fn end(self) -> Result<bool, Present> {
        Ok(true)
    }
}

impl SerializeStruct for Absence {
    type Ok = bool;
    type Error = Present;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _: &'static str,
        _: &T,
    ) -> Result<(), Present> {
        Err(Present)
    }

    fn end(self) -> Result<bool, Present> {
        Ok(true)
    }
}
