//! What QEMU sends: a greeting, answers and events, a line of JSON each (`docs/interop/qmp-spec`).

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::QmpError;
use crate::native::machine::plain::plain;

/// The longest message that is read. The longest that QEMU has, its own description (`query-qmp-schema`), is 207 KB in
/// version 7.2.
pub(super) const LONGEST: usize = 1 << 20;

/// Something happened in QEMU.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `SHUTDOWN`, `DEVICE_DELETED`, …
    pub name: String,
    /// What belongs to it; null where nothing does.
    pub data: Value,
    /// When, where QEMU could say.
    pub at: Option<Timestamp>,
}

/// Why QEMU did not do as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) class: String,
    pub(super) text: String,
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// The version of QEMU.
    Greeting(String),
    Event(Event),
    Answer {
        /// Missing where QEMU did not understand the question.
        id: Option<u64>,
        answer: Result<Value, Refusal>,
    },
}

fn strange(what: &'static str) -> QmpError {
    QmpError::Strange { what }
}

/// Understands a line.
pub(super) fn parse(line: &[u8]) -> Result<Message, QmpError> {
    let value = serde_json::from_slice(line).map_err(|source| QmpError::NotJson { source })?;
    let Value::Object(mut message) = value else {
        return Err(strange("no object"));
    };
    if let Some(greeting) = message.get("QMP") {
        return Ok(Message::Greeting(version(greeting)));
    }
    if let Some(name) = message.get("event") {
        let name = name.as_str().ok_or(strange("an event without a name"))?;
        return Ok(Message::Event(Event {
            name: plain(name),
            at: message.get("timestamp").and_then(timestamp),
            data: message.remove("data").unwrap_or_default(),
        }));
    }
    let id = match message.get("id") {
        None => None,
        Some(id) => Some(id.as_u64().ok_or(strange("an answer to nothing"))?),
    };
    let answer = match (message.remove("return"), message.get("error")) {
        (Some(value), None) => Ok(value),
        (None, Some(Value::Object(error))) => Err(refusal(error)),
        _ => return Err(strange("neither an answer nor an event")),
    };
    Ok(Message::Answer { id, answer })
}

fn version(greeting: &Value) -> String {
    let part = |name: &str| greeting["version"]["qemu"][name].as_u64().unwrap_or(0);
    format!("{}.{}.{}", part("major"), part("minor"), part("micro"))
}

/// QEMU says -1 where it does not know.
fn timestamp(value: &Value) -> Option<Timestamp> {
    let part = |name: &str| value[name].as_i64().filter(|part| *part >= 0);
    let microseconds = i32::try_from(part("microseconds")?).ok()?;
    Timestamp::new(part("seconds")?, microseconds.checked_mul(1000)?).ok()
}

fn refusal(error: &Map<String, Value>) -> Refusal {
    let word = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or("unknown");
    Refusal {
        class: plain(word("class")),
        text: plain(word("desc")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_of_qemu_7_2_are_understood() {
        let greeting = br#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}, "capabilities": ["oob"]}}"#;
        assert_eq!(
            parse(greeting).unwrap(),
            Message::Greeting("7.2.22".to_owned())
        );
        let stopped =
            br#"{"timestamp": {"seconds": 1700000000, "microseconds": 250000}, "event": "STOP"}"#;
        assert_eq!(
            parse(stopped).unwrap(),
            Message::Event(Event {
                name: "STOP".to_owned(),
                data: Value::Null,
                at: Some("2023-11-14T22:13:20.25Z".parse().unwrap()),
            })
        );
        let unknown = br#"{"id": 3, "error": {"class": "CommandNotFound", "desc": "The command nope has not been found"}}"#;
        assert_eq!(
            parse(unknown).unwrap(),
            Message::Answer {
                id: Some(3),
                answer: Err(Refusal {
                    class: "CommandNotFound".to_owned(),
                    text: "The command nope has not been found".to_owned(),
                }),
            }
        );
        assert_eq!(
            parse(b"{\"return\": null, \"id\": 9}\r").unwrap(),
            Message::Answer {
                id: Some(9),
                answer: Ok(json!(null)),
            }
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        for line in [
            &b""[..],
            b"\0\0\0",
            b"{\"return\": \"\xff\xfe\"}",
            b"{\"return\": {}",
            b"{\"return\": {}} {}",
            &deep,
        ] {
            let error = parse(line).unwrap_err();
            assert!(matches!(error, QmpError::NotJson { .. }), "{error:?}");
        }
        for line in [
            "[]",
            "7",
            "{}",
            r#"{"event": 7}"#,
            r#"{"return": {}, "error": {}}"#,
            r#"{"error": "no"}"#,
            r#"{"return": {}, "id": "1"}"#,
            r#"{"return": {}, "id": -1}"#,
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(
                matches!(error, QmpError::Strange { .. }),
                "{line}: {error:?}"
            );
        }
        // Times that no calendar has.
        for line in [
            r#"{"event": "X", "timestamp": {"seconds": -1, "microseconds": -1}}"#,
            r#"{"event": "X", "timestamp": {"seconds": 9223372036854775807, "microseconds": 0}}"#,
            r#"{"event": "X", "timestamp": {"seconds": 1, "microseconds": 2147483647}}"#,
        ] {
            let Message::Event(event) = parse(line.as_bytes()).unwrap() else {
                panic!("{line} is an event");
            };
            assert_eq!(event.at, None);
        }
    }
}
