//! Several documents as one: an archive of MIME, as cloud-init takes them apart again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What tells the parts apart. It cannot stand in one of them: they are written in base64, which has no `-`.
const BOUNDARY: &str = "keel-part";
/// How long a line of base64 may be (RFC 2045, 6.8).
const LINE: usize = 76;

/// One document of several.
pub(super) struct Part<'a> {
    /// What cloud-init calls it in its log.
    pub name: &'a str,
    /// The document.
    pub text: String,
}

/// By what a document begins, and what cloud-init then takes it for: `INCLUSION_TYPES_MAP` of its `handlers`. What begins
/// another one stands behind it.
const TYPES: [(&str, &str); 9] = [
    ("#cloud-config-archive", "text/cloud-config-archive"),
    ("#cloud-config-jsonp", "text/cloud-config-jsonp"),
    ("#cloud-config", "text/cloud-config"),
    ("#cloud-boothook", "text/cloud-boothook"),
    ("#include-once", "text/x-include-once-url"),
    ("#include", "text/x-include-url"),
    ("#part-handler", "text/part-handler"),
    ("## template: jinja", "text/jinja2"),
    ("#!", "text/x-shellscript"),
];

/// The archive.
pub(super) fn together(parts: &[Part<'_>]) -> String {
    let mut out =
        format!("Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\nMIME-Version: 1.0\n\n");
    for Part { name, text } in parts {
        out.push_str(&format!(
            "--{BOUNDARY}\nContent-Type: {}; charset=\"utf-8\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\
             Content-Disposition: attachment; filename=\"{}\"\n\n",
            content_type(text),
            file_name(name),
        ));
        let encoded = STANDARD.encode(text);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(LINE));
            out.push_str(line);
            out.push('\n');
            rest = more;
        }
    }
    out.push_str(&format!("--{BOUNDARY}--\n"));
    out
}

fn content_type(text: &str) -> &'static str {
    let begin: String = text
        .trim_start()
        .chars()
        .take(32)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    TYPES
        .iter()
        .find(|(word, _)| begin.starts_with(word))
        // cloud-init then says that it does not know it.
        .map_or("text/plain", |(_, name)| name)
}

/// A name that ends no header and no quotes.
fn file_name(name: &str) -> String {
    name.chars()
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => letter,
            _ => '_',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_known_by_its_beginning() {
        for (text, expected) in [
            ("#cloud-config\n", "text/cloud-config"),
            ("\n #Cloud-Config\n", "text/cloud-config"),
            ("#cloud-config-archive\n", "text/cloud-config-archive"),
            ("#include-once\nhttp://a", "text/x-include-once-url"),
            ("#!/bin/sh\n", "text/x-shellscript"),
            ("## template: jinja\n#cloud-config\n", "text/jinja2"),
            ("anything", "text/plain"),
            ("", "text/plain"),
        ] {
            assert_eq!(content_type(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_name_stays_within_its_quotes() {
        let part = Part {
            name: "a\"\r\nX: y",
            text: String::new(),
        };
        let text = together(&[part]);
        assert!(text.contains("filename=\"a___X__y\"\n"), "{text}");
    }
}
