//! Messages for rooms where people talk: as Slack has them, and as Matrix has them.

use serde_json::{Value, json};

use crate::notify::message::{Message, Stage};

/// The colour of the bar beside a message of Slack.
fn color(message: &Message) -> &'static str {
    match message.stage {
        Stage::Over => "good",
        Stage::Happened if message.is_bad() => "warning",
        Stage::Happened => "good",
        Stage::Began | Stage::Changed | Stage::GoesOn => "danger",
    }
}

/// A message of Slack. What others wrote names nobody and links nowhere: the three signs that do are written out.
pub fn slack(message: &Message) -> Value {
    let plain = |text: &str| {
        let text = text.replace('&', "&amp;");
        text.replace('<', "&lt;").replace('>', "&gt;")
    };
    let details = plain(&message.details().join("\n"));
    json!({
        "text": plain(&message.headline()),
        "attachments": [{
            "color": color(message),
            "fallback": plain(&message.headline()),
            "text": details,
            // What others wrote is no markup.
            "mrkdwn_in": [],
        }],
    })
}

/// An event of a room of Matrix.
pub fn matrix(message: &Message) -> Value {
    let plain = |text: &str| {
        let text = text.replace('&', "&amp;").replace('"', "&quot;");
        text.replace('<', "&lt;").replace('>', "&gt;")
    };
    let mut html = format!("<strong>{}</strong>", plain(&message.headline()));
    for line in message.details() {
        html.push_str("<br>");
        html.push_str(&plain(&line));
    }
    json!({
        "msgtype": if message.is_bad() { "m.text" } else { "m.notice" },
        "body": message.text(),
        "format": "org.matrix.custom.html",
        "formatted_body": html,
        // Nobody is called by a name that stands in an error.
        "m.mentions": {},
    })
}

/// The path below a server of Matrix to which a message is put. Sent twice it is there once: its identity is in it.
pub fn matrix_path(room: &str, id: &str) -> String {
    let mut escaped = String::new();
    for byte in room.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    format!("/_matrix/client/v3/rooms/{escaped}/send/m.room.message/{id}")
}
