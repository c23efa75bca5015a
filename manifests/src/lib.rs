//! The language of Evenkeel: what people write, what it means, what was seen, how the two differ.
//!
//! Text becomes a tree with a place for every key and value, the tree becomes a typed [`kind::Spec`] after profiles
//! and defaults, and a [`desired::DesiredSet`] is what all of them want. An engine answers with an
//! [`observed::ObservedSet`] in the same types, so that comparing is [`kind::Spec::compare`] and nothing else.
//!
//! Invariants: this crate reads files only in [`path_io`] and `read`; it knows no clock, no engine and no database.

pub mod action;
pub mod attached;
pub mod change;
pub mod codes;
pub mod controller;
pub mod decode;
pub mod desired;
pub mod devices;
pub mod diagnostic;
pub mod edit;
pub mod effect;
pub mod effect_table;
pub mod envelope;
pub mod explain;
pub mod feature;
pub mod fields;
pub mod files;
pub mod folder;
pub mod ground;
pub mod id;
pub mod instance;
pub mod kind;
pub mod kinds;
pub mod lifecycle;
pub mod merge;
pub mod name_pattern;
pub mod near_miss;
pub mod observed;
pub mod overlay;
pub mod parse;
pub mod path_io;
pub mod pointer;
pub mod quota;
pub mod read;
pub mod repository;
pub mod resolve;
pub mod rules;
pub mod scalar;
pub mod schema;
pub mod secret;
pub mod substitute;
pub mod support;
pub mod tagged;
pub mod tree;
pub mod visible;
pub mod words;
