//! A letter (RFC 5322). Its heads are ASCII, and nothing that others wrote makes a head of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::notify::message::Message;

/// Bytes of text in one encoded word of a head, so that the word has at most 75 characters.
const IN_WORD: usize = 42;
/// Characters in a line of the body.
const LINE: usize = 76;

/// The letter.
pub fn letter(message: &Message, from: Option<&str>, to: &[String]) -> String {
    let date = message.at.strftime("%a, %d %b %Y %H:%M:%S +0000");
    let mut heads = vec![
        format!("Date: {date}"),
        format!("To: {}", to.join(", ")),
        format!("Subject: {}", words(&message.headline())),
        format!("Message-ID: <{}@keel.invalid>", message.id),
        // Nobody's absence answers it.
        "Auto-Submitted: auto-generated".to_owned(),
        "MIME-Version: 1.0".to_owned(),
        "Content-Type: text/plain; charset=utf-8".to_owned(),
        "Content-Transfer-Encoding: base64".to_owned(),
    ];
    if let Some(from) = from {
        heads.insert(0, format!("From: {from}"));
    }
    format!("{}\n\n{}", heads.join("\n"), body(&message.text()))
}

/// Text in a head: as it is, or in encoded words (RFC 2047).
fn words(text: &str) -> String {
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if plain && text.len() <= 200 && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(IN_WORD);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (word, after) = rest.split_at(end);
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    words.join("\n ")
}

fn body(text: &str) -> String {
    let encoded = STANDARD.encode(format!("{text}\n").replace('\n', "\r\n"));
    let mut body = String::new();
    for (index, character) in encoded.chars().enumerate() {
        if index > 0 && index.is_multiple_of(LINE) {
            body.push('\n');
        }
        body.push(character);
    }
    body.push('\n');
    body
}
