//! The settings of an editor (`.vscode/settings.json`): ours are put into what people keep there, and nothing else of it
//! changes. They are JSON with comments and commas too many, so that text is inserted and not written anew.

use serde_json::{Map, Value, json};

/// Which schema is for which files.
const SCHEMAS: &str = "yaml.schemas";
/// Whether `apiVersion` is looked up among those of Kubernetes, by network.
const FOREIGN_KINDS: &str = "yaml.kubernetesCRDStore.enable";

/// What becomes of the settings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Merged {
    /// They say all that they should.
    Current,
    /// The new text of the file.
    Written(String),
    /// They are somebody else's and cannot be added to safely: why, and what is to be added by hand.
    ByHand(String, String),
}

/// Puts the schema for files that match the globs into the settings that are there, if any.
pub(super) fn merge(there: Option<&str>, schema: &str, globs: &[String]) -> Merged {
    let ours = json!({ SCHEMAS: { schema: globs }, FOREIGN_KINDS: false });
    let Some(text) = there.filter(|text| !text.trim().is_empty()) else {
        return Merged::Written(format!("{ours:#}\n"));
    };
    let by_hand = |why: &str| Merged::ByHand(why.to_owned(), format!("{ours:#}"));
    let plain = plain(text);
    let Ok(Value::Object(settings)) = serde_json::from_str(&plain) else {
        return by_hand("it is no JSON with comments");
    };
    let mut wanted = settings.clone();
    let mut inserts = Vec::new();
    match settings.get(SCHEMAS) {
        None => {
            wanted.insert(SCHEMAS.to_owned(), ours[SCHEMAS].clone());
            inserts.push((object_in(&plain, None), SCHEMAS, &ours[SCHEMAS]));
        }
        Some(Value::Object(schemas)) => match schemas.get(schema) {
            None => {
                wanted[SCHEMAS][schema] = ours[SCHEMAS][schema].clone();
                inserts.push((
                    object_in(&plain, Some(SCHEMAS)),
                    schema,
                    &ours[SCHEMAS][schema],
                ));
            }
            Some(Value::Array(there)) if globs.iter().all(|glob| there.contains(&json!(glob))) => {}
            Some(_) => return by_hand("it has the schema for other files"),
        },
        Some(_) => return by_hand("its `yaml.schemas` is no map"),
    }
    if settings.get(FOREIGN_KINDS).is_none() {
        wanted.insert(FOREIGN_KINDS.to_owned(), false.into());
        inserts.push((object_in(&plain, None), FOREIGN_KINDS, &ours[FOREIGN_KINDS]));
    }
    if inserts.is_empty() {
        return Merged::Current;
    }
    match inserted(text, &plain, inserts) {
        // Whatever the text looks like: what it says afterwards is what was there and what is ours.
        Some(text) if says(&text, &wanted) => Merged::Written(text),
        _ => by_hand("keel does not understand how it is written"),
    }
}

fn says(text: &str, wanted: &Map<String, Value>) -> bool {
    serde_json::from_str::<Map<String, Value>>(&plain(text)).is_ok_and(|said| said == *wanted)
}

/// Inserts each key at its place, behind the bracket that opens its object.
fn inserted(
    text: &str,
    plain: &str,
    mut inserts: Vec<(Option<usize>, &str, &Value)>,
) -> Option<String> {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut text = text.to_owned();
    // From the end, so that places stay where they are; what comes to one place comes in front of what was put there.
    inserts.reverse();
    let mut last = None;
    inserts.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    for (at, key, value) in inserts {
        let at = at?;
        let rest = plain.get(at..)?;
        let line = rest
            .find(|c: char| !c.is_whitespace())
            .and_then(|first| rest[..first].rfind('\n'))
            .map_or("", |end| &text[at + end + 1..]);
        let indent: String = line
            .chars()
            .take_while(|c| [' ', '\t'].contains(c))
            .collect();
        let indent = if indent.is_empty() { "  " } else { &indent };
        let is_only = rest.trim_start().starts_with('}') && last != Some(at);
        last = Some(at);
        let end = if is_only { newline } else { "," };
        let value = format!("{value:#}").replace('\n', &format!("{newline}{indent}"));
        text.insert_str(
            at,
            &format!("{newline}{indent}{}: {value}{end}", json!(key)),
        );
    }
    Some(text)
}

/// The text without comments, commas before a closing bracket and a byte order mark: blanks stand in their places.
fn plain(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    if text.starts_with('\u{feff}') {
        out[..3].fill(b' ');
    }
    let (mut at, mut comma) = (0, None);
    while at < out.len() {
        match (out[at], out.get(at + 1)) {
            (b'"', _) => {
                at = after_string(&out, at);
                comma = None;
                continue;
            }
            (b'/', Some(b'/' | b'*')) => {
                let line = out[at + 1] == b'/';
                let rest = &text[at + 2..];
                let length = match line {
                    true => rest.find('\n').unwrap_or(rest.len()),
                    false => rest.find("*/").map_or(rest.len(), |end| end + 2),
                };
                let end = at + 2 + length;
                for byte in &mut out[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                at = end;
                continue;
            }
            (b',', _) => comma = Some(at),
            (b'}' | b']', _) => {
                if let Some(comma) = comma.take() {
                    out[comma] = b' ';
                }
            }
            (byte, _) if byte.is_ascii_whitespace() => {}
            _ => comma = None,
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where a string that begins at a quote has ended.
fn after_string(text: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// Behind the bracket that opens the whole object, or the object under a key of it.
fn object_in(plain: &str, key: Option<&str>) -> Option<usize> {
    let text = plain.as_bytes();
    let (mut at, mut depth, mut last) = (0, 0_usize, None);
    while at < text.len() {
        match text[at] {
            b'"' => {
                let end = after_string(text, at);
                last = (depth == 1).then(|| plain.get(at..end)).flatten();
                at = end;
                continue;
            }
            b'{' => {
                let named = last.and_then(|name| serde_json::from_str::<String>(name).ok());
                match (key, depth) {
                    (None, 0) => return Some(at + 1),
                    (Some(key), 1) if named.as_deref() == Some(key) => return Some(at + 1),
                    _ => depth += 1,
                }
            }
            b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => last = None,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(there: &str) -> Merged {
        merge(
            Some(there),
            "./.keel/v1/all.json",
            &["keel.yaml".to_owned()],
        )
    }

    #[track_caller]
    fn written(there: &str) -> String {
        match merged(there) {
            Merged::Written(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_of_its_own_says_what_it_should() {
        let text = written(" \n");
        assert_eq!(
            text,
            "{\n  \"yaml.schemas\": {\n    \"./.keel/v1/all.json\": [\n      \"keel.yaml\"\n    ]\n  },\n  \
             \"yaml.kubernetesCRDStore.enable\": false\n}\n"
        );
        assert_eq!(merged(&text), Merged::Current);
    }

    #[test]
    fn what_people_wrote_stays_as_they_wrote_it() {
        let there = "// mine {\n{\n    /* \"yaml.schemas\": {} */\n    \"a\": \"// no comment, }\", // why\n    \
                     \"yaml.schemas\": {\n        \"b.json\": \"b.yaml\",\n    },\n    \"c\": [1, 2, ],\n}\n";
        let text = written(there);
        let lines: Vec<&str> = text.lines().collect();
        assert!(there.lines().all(|line| lines.contains(&line)), "{text}");
        assert!(
            text.contains("\n        \"./.keel/v1/all.json\": [\n"),
            "{text}"
        );
        assert_eq!(merged(&text), Merged::Current);
        for there in [
            "{}",
            "{ }",
            "{\"a\":{}}",
            "\u{feff}{\r\n\t\"a\": 1\r\n}\r\n",
            "{\"yaml.schemas\":{}}",
        ] {
            let text = written(there);
            assert_eq!(merged(&text), Merged::Current, "{text}");
            assert_eq!(text.contains("\r\n"), there.contains("\r\n"));
            assert_eq!(
                text.matches('\n').count(),
                text.matches("\r\n").count().max(text.matches('\n').count())
            );
        }
    }

    #[test]
    fn what_cannot_be_added_to_is_left() {
        for there in [
            "{",
            "[]",
            "{\"a\": 1 \"b\": 2}",
            "{\"yaml.schemas\": []}",
            "{\"yaml.schemas\": {\"./.keel/v1/all.json\": \"web.yaml\"}}",
            "{\"yaml.schemas\": {\"x\": \"y\"}, \"yaml.schemas\": {\"z\": \"y\"}}",
            "{ \"a\": \"open }",
            "{} /* open",
        ] {
            match merged(there) {
                Merged::ByHand(_, add) => assert!(add.contains("keel.yaml")),
                // A comment that is never closed hides nothing.
                Merged::Written(text) if there == "{} /* open" => {
                    assert!(text.ends_with("} /* open"));
                }
                other => panic!("{there}: {other:?}"),
            }
        }
        let kept = "{\"yaml.kubernetesCRDStore.enable\": true, \"yaml.schemas\": {\"./.keel/v1/all.json\": [\"keel.yaml\", \"b\"]}}";
        assert_eq!(merged(kept), Merged::Current);
    }
}
