//! The language of Evenkeel: what people write, what it means, what was seen, how the two differ.

pub mod path_io;
