//! JSON for machines: an event as Flux sends it, so that what takes those takes ours, and what is only ours beside it.

use ring::hmac;
use serde_json::{Value, json};

use crate::notify::message::Message;

/// The event as JSON.
pub fn event(message: &Message) -> Value {
    let name = message.source.as_deref().unwrap_or(&message.host);
    let kind = match message.source {
        Some(_) => "Source",
        None => "Host",
    };
    json!({
        "involvedObject": { "apiVersion": "evenkeel/v1", "kind": kind, "name": name },
        "severity": if message.is_bad() { "error" } else { "info" },
        "timestamp": message.at,
        "message": message.text(),
        "reason": reason(message),
        "metadata": {
            "revision": message.revision,
            "trigger": message.trigger,
            "stage": message.stage.word(),
            "since": message.since,
            "id": message.id,
        },
        "reportingController": "keel",
        "reportingInstance": message.host,
    })
}

/// One word, as conditions have them: `FailedBegan`.
fn reason(message: &Message) -> String {
    let upper = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    let trigger = upper(message.trigger.word());
    format!("{trigger}{}", upper(message.stage.word()))
}

/// What goes into `X-Signature`: the HMAC of the body.
pub fn signature(key: &[u8], body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    format!("sha256={}", hex::encode(hmac::sign(&key, body)))
}
