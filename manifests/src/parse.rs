//! Text to trees: YAML 1.2 (core schema, no tags, aliases within a budget) by the parser events of granit-parser, which
//! is known to no other file.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use crate::diagnostic::{Code, Diagnostic, Diagnostics, Origin};
use crate::tree::{Key, Node, Place, Value};

/// A text that is no YAML.
pub const SYNTAX: Code = Code("E0101");
/// A key that is written twice in one map.
pub const DUPLICATE_KEY: Code = Code("E0102");
/// A tag, a key that is no text, an alias bomb: YAML that this language does not have.
pub const NOT_IN_THE_LANGUAGE: Code = Code("E0103");

/// Deeper nesting is refused.
const DEPTH: usize = 64;
/// Aliases may make a document at most so many nodes larger.
const ALIAS_NODES: usize = 10_000;
/// A larger file is no manifest.
const FILE_BYTES: usize = 16 << 20;

/// The documents of a file. A document with an error in it is left out, and those after it are still read.
pub fn parse(file: &str, text: &str) -> (Vec<Node>, Diagnostics) {
    let mut out = Diagnostics::default();
    let file: Arc<str> = Arc::from(file);
    if text.len() > FILE_BYTES {
        let origin = Origin {
            file: file.clone().into(),
            ..Origin::default()
        };
        out.push(Diagnostic::error(
            SYNTAX,
            origin,
            "the file has more than 16 MiB",
        ));
        return (Vec::new(), out);
    }
    // The byte-order mark is not a character of the document; byte offsets count from behind it.
    let (text, skipped) = match text.strip_prefix('\u{feff}') {
        Some(rest) => (rest, 3),
        None => (text, 0),
    };
    let mut options = Options::default();
    options.flow_nesting_limit = DEPTH;
    options.block_nesting_limit = DEPTH;
    options.emit_comments = false;
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents = Vec::new();
    let mut builder = Builder::new(&file, skipped);
    loop {
        match parser.next_event() {
            None => break,
            Some(Ok((event, span))) => {
                if let Some(document) = builder.take(event, span) {
                    documents.push(document);
                }
                // What is wrong in a document is told once; its other events are passed over.
                out.extend(std::mem::take(&mut builder.found));
            }
            Some(Err(error)) => {
                let marker = *error.marker();
                let place = builder.place(Span::new(marker, marker));
                out.push(Diagnostic::error(
                    SYNTAX,
                    place.origin(),
                    said(&error.kind().to_string()),
                ));
                builder = Builder::new(&file, skipped);
                if !parser.proceed_next_document().unwrap_or(false) {
                    break;
                }
            }
        }
    }
    (documents, out)
}

/// The parser's words in those of people.
fn said(words: &str) -> String {
    match words {
        "recursion limit exceeded" => format!("this is nested deeper than {DEPTH} levels"),
        words if words.starts_with("tabs disallowed") => {
            "a tab in the indentation: lines are indented by spaces".to_owned()
        }
        words => words.to_owned(),
    }
}

/// What is open while events come.
enum Frame {
    List(Place, usize, Vec<Node>),
    Map(Place, usize, Vec<(Key, Node)>, Option<Key>),
}

struct Builder<'a> {
    file: &'a Arc<str>,
    skipped: u32,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    copied: usize,
    /// The document has an error and is not handed out.
    broken: bool,
    root: Option<Node>,
    found: Diagnostics,
}

impl<'a> Builder<'a> {
    fn new(file: &'a Arc<str>, skipped: u32) -> Self {
        Self {
            file,
            skipped,
            stack: Vec::new(),
            anchors: HashMap::new(),
            copied: 0,
            broken: false,
            root: None,
            found: Diagnostics::default(),
        }
    }

    fn place(&self, span: Span) -> Place {
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let byte = |marker: granit_parser::Marker| {
            narrow(marker.byte_offset().unwrap_or_else(|| marker.index())) + self.skipped
        };
        Place {
            file: self.file.clone(),
            line: narrow(span.start.line()),
            column: narrow(span.start.col()) + 1,
            bytes: (byte(span.start), byte(span.end).max(byte(span.start))),
        }
    }

    fn complain(&mut self, code: Code, place: &Place, message: String) -> &mut Diagnostics {
        self.broken = true;
        self.found
            .push(Diagnostic::error(code, place.origin(), message));
        &mut self.found
    }

    /// Takes one event; answers with a document that it completes.
    fn take(&mut self, event: Event<'_>, span: Span) -> Option<Node> {
        let place = self.place(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place);
                // It would end a text where it is handed to the kernel.
                if text.contains('\0') {
                    let message = "a NUL character: no text of a manifest has one".to_owned();
                    self.complain(NOT_IN_THE_LANGUAGE, &place, message);
                }
                let value = if style == ScalarStyle::Plain {
                    core_schema(&text)
                } else {
                    Value::Text(text.into())
                };
                self.add(Node { place, value }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place);
                self.stack.push(Frame::List(place, anchor, Vec::new()));
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place);
                self.stack.push(Frame::Map(place, anchor, Vec::new(), None));
            }
            Event::SequenceEnd => {
                if let Some(Frame::List(mut start, anchor, items)) = self.stack.pop() {
                    start.bytes.1 = place.bytes.1;
                    self.add(
                        Node {
                            place: start,
                            value: Value::List(items),
                        },
                        anchor,
                    );
                }
            }
            Event::MappingEnd => {
                if let Some(Frame::Map(mut start, anchor, entries, _)) = self.stack.pop() {
                    start.bytes.1 = place.bytes.1;
                    self.add(
                        Node {
                            place: start,
                            value: Value::Map(entries),
                        },
                        anchor,
                    );
                }
            }
            Event::Alias(anchor) => {
                let copy = self.anchors.get(&anchor).cloned();
                match copy {
                    Some(node) => {
                        node.walk(&crate::pointer::Pointer::root(), &mut |_, _| {
                            self.copied += 1;
                        });
                        if self.copied <= ALIAS_NODES {
                            self.add(node, 0);
                            return None;
                        }
                        if !self.broken {
                            self.complain(
                                NOT_IN_THE_LANGUAGE,
                                &place,
                                format!("aliases make this document more than {ALIAS_NODES} values larger"),
                            );
                        }
                    }
                    None => {
                        self.complain(
                            NOT_IN_THE_LANGUAGE,
                            &place,
                            "an alias of a value that is not finished or not known".to_owned(),
                        );
                    }
                }
                self.add(
                    Node {
                        place,
                        value: Value::Null,
                    },
                    0,
                );
            }
            Event::DocumentEnd => {
                let root = self.root.take();
                let broken = std::mem::take(&mut self.broken);
                self.anchors.clear();
                self.copied = 0;
                return root.filter(|node| !broken && node.value != Value::Null);
            }
            _ => {}
        }
        None
    }

    fn refuse_tag(&mut self, tag: Option<&granit_parser::Tag>, place: &Place) {
        if let Some(tag) = tag {
            self.complain(
                NOT_IN_THE_LANGUAGE,
                place,
                format!("tag `{}`: manifests have no tags", tag.original()),
            );
        }
    }

    fn add(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List(_, _, items)) => items.push(node),
            Some(Frame::Map(_, _, entries, waiting @ Some(_))) => {
                if let Some(key) = waiting.take() {
                    entries.push((key, node));
                }
            }
            Some(Frame::Map(_, _, entries, waiting)) => {
                let place = node.place;
                let name = match node.value {
                    Value::Text(text) => String::from(text),
                    // A key `8080:` or `true:` is meant as its spelling.
                    Value::Integer(text) | Value::Float(text) => String::from(text),
                    Value::Bool(yes) => yes.to_string(),
                    other => {
                        *waiting = Some(Key {
                            place: place.clone(),
                            name: String::new(),
                        });
                        let message = format!("{} as a key: keys are texts", other.noun());
                        self.complain(NOT_IN_THE_LANGUAGE, &place, message);
                        return;
                    }
                };
                let first = entries.iter().find(|(key, _)| key.name == name);
                let first = first.map(|(key, _)| key.place.clone());
                *waiting = Some(Key {
                    place: place.clone(),
                    name: name.clone(),
                });
                if let Some(first) = first {
                    self.broken = true;
                    self.found.push(
                        Diagnostic::error(
                            DUPLICATE_KEY,
                            place.origin(),
                            format!(
                                "key `{name}` is written twice, first in line {}",
                                first.line
                            ),
                        )
                        .related(first.origin(), "first written here"),
                    );
                }
            }
        }
    }
}

/// What a plain scalar means (YAML 1.2, chapter 10.3.2): `yes`, `on` and `012` are a text, a text and a number.
fn core_schema(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    if digits(unsigned, 10)
        || unsigned
            .strip_prefix("0x")
            .is_some_and(|hex| digits(hex, 16))
        || unsigned
            .strip_prefix("0o")
            .is_some_and(|octal| digits(octal, 8))
    {
        return Value::Integer(text.into());
    }
    let begins_as_number = unsigned.starts_with(|c: char| c.is_ascii_digit())
        || (unsigned.starts_with('.') && unsigned[1..].starts_with(|c: char| c.is_ascii_digit()));
    if begins_as_number
        && unsigned
            .bytes()
            .all(|c| matches!(c, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+'))
        && unsigned.parse::<f64>().is_ok()
    {
        return Value::Float(text.into());
    }
    Value::Text(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        let (mut documents, found) = parse("a.yaml", text);
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(documents.len(), 1);
        documents.remove(0)
    }

    fn messages(text: &str) -> Vec<String> {
        let (_, found) = parse("a.yaml", text);
        found
            .sorted()
            .iter()
            .map(|d| {
                format!(
                    "{}:{} {} {}",
                    d.origin.line, d.origin.column, d.code, d.message
                )
            })
            .collect()
    }

    #[test]
    fn every_key_and_value_has_its_place() {
        let node = one("a: 1\nb:\n  cd: [x, 'y']\n");
        let (key, value) = node.get("b").and_then(|b| b.entry("cd")).expect("cd");
        assert_eq!((key.place.line, key.place.column), (3, 3));
        assert_eq!((value.place.line, value.place.column), (3, 7));
        let Value::List(items) = &value.value else {
            panic!("a list")
        };
        assert_eq!(
            (items[1].place.column, items[1].place.bytes),
            (11, (18, 21))
        );
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let cases = [
            ("no", Value::Text("no".into())),
            ("yes", Value::Text("yes".into())),
            ("12:30:45", Value::Text("12:30:45".into())),
            ("1_000", Value::Text("1_000".into())),
            ("0x1F", Value::Integer("0x1F".into())),
            ("-7", Value::Integer("-7".into())),
            ("1.10", Value::Float("1.10".into())),
            ("1.2.3", Value::Text("1.2.3".into())),
            ("512MiB", Value::Text("512MiB".into())),
            ("~", Value::Null),
            ("True", Value::Bool(true)),
        ];
        for (text, expected) in cases {
            assert_eq!(core_schema(text), expected, "{text}");
        }
    }

    #[test]
    fn a_mistake_in_one_document_does_not_hide_the_next() {
        let text = "a: [1\n---\nb: 1\nb: 2\n---\nc: !!python/object x\n---\nd: 4\n";
        let (documents, _) = parse("a.yaml", text);
        assert_eq!(documents.len(), 1);
        assert!(documents[0].get("d").is_some());
        let found = messages(text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(
            found[1],
            "4:1 E0102 key `b` is written twice, first in line 3"
        );
        assert!(found[2].starts_with("6:"), "{}", found[2]);
    }

    #[test]
    fn aliases_work_within_a_budget() {
        let node = one("base: &b {x: 1}\nother: *b\n");
        assert_eq!(
            node.get("other").and_then(|o| o.get("x")).map(|x| &x.value),
            Some(&Value::Integer("1".into()))
        );
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = format!("*a{}, ", level - 1).repeat(9);
            bomb.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                below.trim_end_matches(", ")
            ));
        }
        let found = messages(&bomb);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("E0103"), "{}", found[0]);
    }

    #[test]
    fn depth_is_limited() {
        for text in ["[".repeat(20_000), "a: {".repeat(5_000), "- ".repeat(5_000)] {
            let found = messages(&text);
            assert_eq!(found.len(), 1, "{:?}", found.first());
        }
    }

    #[test]
    fn marks_and_line_ends_of_other_systems_are_understood() {
        let node = one("\u{feff}a: 1\r\nb: 2\r\n");
        let (key, _) = node.entry("b").expect("b");
        assert_eq!(
            (key.place.line, key.place.column, key.place.bytes.0),
            (2, 1, 9)
        );
    }
}
