//! Rules of NetworkAcls, in the words of the server and the reverse.

use manifests::observed::Unseen;
use manifests::pointer::Pointer;
use serde_json::Value;

use super::table::Absent::{Empty, Null, Text as T};
use super::table::{Codec, Keyless, Row, from_config, to_config};
use super::wire::Config;

const ACTIONS: Codec = Codec::Words(&[("allowStateless", "allow-stateless")]);

const RULE: &[Row] = &[
    // The server wants these two in every rule.
    Row("action", "action", ACTIONS, Null),
    Row("state", "state", Codec::Text, Null),
    Row("protocol", "protocol", Codec::Text, Null),
    Row("source", "source", Codec::List, Empty),
    Row("destination", "destination", Codec::List, Empty),
    Row("sourcePort", "source_port", Codec::List, Empty),
    Row("destinationPort", "destination_port", Codec::List, Empty),
    Row("icmpType", "icmp_type", Codec::Number, Null),
    Row("icmpCode", "icmp_code", Codec::Number, Null),
    Row("description", "description", Codec::Text, T("")),
];

/// The rules of one direction as the server has them.
pub(super) fn to_wire(rules: &Value) -> Result<Vec<Config>, String> {
    let rules = rules.as_array().into_iter().flatten();
    rules
        .map(|rule| {
            let mut config = Config::new();
            to_config(RULE, rule, &mut config)?;
            Ok(config)
        })
        .collect()
}

/// The rules of one direction as manifests have them.
pub(super) fn from_wire(rules: &[Config], at: &Pointer, unseen: &mut Vec<Unseen>) -> Value {
    let read = rules.iter().enumerate().map(|(index, rule)| {
        let mut value = Value::Object(serde_json::Map::new());
        from_config(
            RULE,
            rule,
            Keyless::Meant,
            &at.index(index),
            &mut value,
            unseen,
        );
        value
    });
    Value::Array(read.collect())
}
