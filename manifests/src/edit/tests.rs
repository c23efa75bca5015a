//! Edits of small texts, some thought out and many at random.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Changes what stands at a pointer of the first document; inserts what does not.
fn changed(text: &str, at: &str, was: &Json, is: &Json) -> Result<String, EditError> {
    let mut draft = Draft::of(text)?;
    let spot = |at: &str| Spot {
        document: 0,
        at: Pointer::new(at),
    };
    if draft.node(&spot(at)).is_some() {
        draft.change(&spot(at), was, is)?;
    } else {
        let steps: Vec<String> = Pointer::new(at).steps().collect();
        draft.insert(&spot(""), &steps, is)?;
    }
    Ok(draft.text().to_owned())
}

#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the values stand where they are meant"
)]
fn becomes(text: &str, at: &str, was: Json, is: Json, expected: &str) {
    assert_eq!(
        changed(text, at, &was, &is).as_deref(),
        Ok(expected),
        "{text}"
    );
}

#[test]
fn one_value_changes_and_nothing_else() {
    for (text, was, is, expected) in [
        (
            "# one\na: 64MiB   # why\nb: 2\n",
            json!("64MiB"),
            json!("128MiB"),
            "# one\na: 128MiB   # why\nb: 2\n",
        ),
        ("a: 2\r\nb: 2\r\n", json!(2), json!(4), "a: 4\r\nb: 2\r\n"),
        ("a: 2\n", json!("2"), json!("4"), "a: 4\n"),
        ("a: x\n", json!("x"), json!("4"), "a: \"4\"\n"),
        ("a: x\n", json!("x"), json!("null"), "a: \"null\"\n"),
        (
            "\u{feff}a: true\n",
            json!(true),
            json!(false),
            "\u{feff}a: false\n",
        ),
        (
            "{ b: 1, a: 'x', c: 2 }\n",
            json!("x"),
            json!("it's"),
            "{ b: 1, a: 'it''s', c: 2 }\n",
        ),
        ("a: \"x\"\n", json!("x"), json!("y"), "a: \"y\"\n"),
        (
            "{a: x, b: 1}\n",
            json!("x"),
            json!("y, z"),
            "{a: \"y, z\", b: 1}\n",
        ),
        (
            "a: x\n",
            json!("x"),
            json!("y: z # no"),
            "a: \"y: z # no\"\n",
        ),
        (
            "c: 2\na: x\n",
            json!("x"),
            json!("- y"),
            "c: 2\na: \"- y\"\n",
        ),
        ("ü: 1\na: x\n", json!("x"), json!("ü"), "ü: 1\na: ü\n"),
        (
            "a: ${HOME}/x $${PATH\n",
            json!("${HOME}/x $${PATH"),
            json!("${HOME}/y"),
            "a: \"${HOME}/y\"\n",
        ),
        (
            "a:   # why\nb: 1\n",
            json!(null),
            json!("x"),
            "a: x   # why\nb: 1\n",
        ),
        (
            "a: ~ # why\n",
            json!(null),
            json!([1, "b c"]),
            "a: [1, b c] # why\n",
        ),
    ] {
        becomes(text, "/a", was, is, expected);
    }
}

#[test]
fn blocks_of_lines_stay_blocks() {
    let text = "x:\n  a: |  # motd\n    one\n\n    two\n\n  b: 1\n";
    let was = json!("one\n\ntwo\n");
    becomes(
        text,
        "/x/a",
        was.clone(),
        json!("one\n\n  three\n"),
        "x:\n  a: |  # motd\n    one\n\n      three\n\n  b: 1\n",
    );
    becomes(
        text,
        "/x/a",
        was.clone(),
        json!("end"),
        "x:\n  a: |-  # motd\n    end\n\n  b: 1\n",
    );
    becomes(
        text,
        "/x/a",
        was,
        json!(" begins with a space"),
        "x:\n  a: \" begins with a space\"  # motd\n\n  b: 1\n",
    );
    // What is folded cannot say two lines.
    becomes(
        "a: >-\n  one\n  two\n",
        "/a",
        json!("one two"),
        json!("one\ntwo\n"),
        "a: |\n  one\n  two\n",
    );
    becomes(
        "a: >-\r\n  one\r\n  two\r\nb: 1\r\n",
        "/a",
        json!("one two"),
        json!("three"),
        "a: >-\r\n  three\r\nb: 1\r\n",
    );
}

#[test]
fn keys_are_written_behind_the_last_one() {
    for (text, at, is, expected) in [
        (
            "a:\n    b: 1 # b\n# end\n",
            "/a/c",
            json!("x"),
            "a:\n    b: 1 # b\n    c: x\n# end\n",
        ),
        ("a: 1", "/b", json!(2), "a: 1\nb: 2\n"),
        ("a: 1\r\n", "/b", json!(2), "a: 1\r\nb: 2\r\n"),
        (
            "a: { b: 1 } # x\n",
            "/a/c",
            json!("d, e"),
            "a: { b: 1, c: \"d, e\" } # x\n",
        ),
        ("a: {} # x\n", "/a/c", json!(1), "a: { c: 1 } # x\n"),
        (
            "a: # x\nb: 1\n",
            "/a/c",
            json!(1),
            "a: { c: 1 } # x\nb: 1\n",
        ),
        (
            "s:\n  a: |\n    one\n\n# end\n",
            "/s/x/y",
            json!({ "p": "q", "l": ["a", "b"] }),
            "s:\n  a: |\n    one\n  x:\n    y:\n      p: q\n      l: [a, b]\n\n# end\n",
        ),
        (
            "l:\n- a: 1\n  b:\n  - 2\n  # c\n- d\n",
            "/l/0/e",
            json!(3),
            "l:\n- a: 1\n  b:\n  - 2\n  e: 3\n  # c\n- d\n",
        ),
        (
            "a: &x 1\nb: *x # alias\n",
            "/c d",
            json!("one\ntwo\n"),
            "a: &x 1\nb: *x # alias\nc d: |\n  one\n  two\n",
        ),
    ] {
        becomes(text, at, json!(null), is, expected);
    }
}

#[test]
fn what_is_gone_goes_with_its_lines() {
    for (text, at, expected) in [
        (
            "a: 1 # a\n# of b\nb:\n  c: 1\n\n# d\nd: 2\n",
            "/b",
            "a: 1 # a\n# of b\n\n# d\nd: 2\n",
        ),
        ("a: 1\nb:\n- 1\n- 2\nc: 3\n", "/b", "a: 1\nc: 3\n"),
        ("a: 1\nb: |\n  x\n\nc: 3\n", "/b", "a: 1\n\nc: 3\n"),
        ("a:\n  b: 1 # b\nc: 2\n", "/a/b", "a: {}\nc: 2\n"),
        ("a: { b: 1, c: 2, d: 3 }\n", "/a/c", "a: { b: 1, d: 3 }\n"),
        ("a: { b: 1, c: 2, d: 3 }\n", "/a/d", "a: { b: 1, c: 2 }\n"),
        ("a: { b: 1 } # x\n", "/a/b", "a: {} # x\n"),
        ("a: {\n  b: 1,\n  c: 2\n}\n", "/a/b", "a: {\n  c: 2\n}\n"),
        ("l:\n  - a: 1\n    b: 2\n", "/l/0/a", "l:\n  - b: 2\n"),
    ] {
        becomes(text, at, json!("was"), json!(null), expected);
    }
}

#[test]
fn of_lists_and_maps_only_what_differs_is_touched() {
    let list = "a:\n  - 'x'   # x\n  # of y\n  - y\n  - z\nb: 1\n";
    let was = json!(["x", "y", "z"]);
    for (is, expected) in [
        (json!(["x", "q", "z"]), list.replace("- y", "- q")),
        (json!(["x", "z"]), list.replace("  - y\n", "")),
        (
            json!(["x", "y", "z", "1"]),
            list.replace("- z\n", "- z\n  - \"1\"\n"),
        ),
        (
            json!(["o", "x", "y", "z"]),
            list.replace("  - 'x'", "  - o\n  - 'x'"),
        ),
        (json!([]), "a: []\n  # of y\nb: 1\n".to_owned()),
    ] {
        becomes(list, "/a", was.clone(), is, &expected);
    }
    let flow = "a: [\"x\", y, z] # l\n";
    for (is, expected) in [
        (json!(["x", "q", "z"]), "a: [\"x\", q, z] # l\n"),
        (json!(["x", "z"]), "a: [\"x\", z] # l\n"),
        (
            json!(["y, y", "x", "y", "z"]),
            "a: [\"y, y\", \"x\", y, z] # l\n",
        ),
        (json!([]), "a: [] # l\n"),
    ] {
        becomes(flow, "/a", was.clone(), is, expected);
    }
    becomes("a: [] # l\n", "/a", json!([]), json!([1]), "a: [1] # l\n");
    becomes(
        "a:\n  b: '1' # b\n  # c\n  c: 2\n  d: 3\n",
        "/a",
        json!({ "b": "1", "c": 2, "d": 3 }),
        json!({ "b": "4", "d": 3, "e": "f" }),
        "a:\n  b: '4' # b\n  # c\n  d: 3\n  e: f\n",
    );
    // An item that a variable says and that is as it was is left.
    becomes(
        "a: [\"${var.x}\", y]\n",
        "/a",
        json!(["x", "y"]),
        json!(["x", "z"]),
        "a: [\"${var.x}\", z]\n",
    );
}

#[test]
fn what_stands_for_something_else_is_left() {
    let aliased = "b: &x { y: 1 }\na: *x\n";
    for (text, at, was, is, why) in [
        (
            "a: ${var.size}\n",
            "/a",
            json!("x"),
            json!("y"),
            EditError::Filled("${var.size}".to_owned()),
        ),
        (
            "a: w-${each.index}\n",
            "/a",
            json!("w-0"),
            json!("y"),
            EditError::Filled("w-${each.index}".to_owned()),
        ),
        (
            "b: &x 1\na: *x\n",
            "/a",
            json!(1),
            json!(2),
            EditError::Shared,
        ),
        (
            "a: 1\nb: &x 2\nc: *x\n",
            "/c",
            json!(2),
            json!(null),
            EditError::Shared,
        ),
        (aliased, "/a/y", json!(1), json!(2), EditError::Shared),
        (aliased, "/a/z", json!(null), json!(2), EditError::Shared),
        (
            "a: { file: ./motd }\n",
            "/a",
            json!("x"),
            json!("y"),
            EditError::Taken("./motd".to_owned()),
        ),
        (
            "a: x\n",
            "/a",
            json!("x"),
            json!("${var.y}"),
            EditError::Variable("${var.y}".to_owned()),
        ),
        (
            "a: { b: 1 }\n",
            "/a",
            json!({ "b": 1 }),
            json!("y"),
            EditError::Form {
                written: "a map",
                lives: "one value",
            },
        ),
        (
            "a: [1]\n",
            "/a",
            json!([1, 2]),
            json!([3]),
            EditError::Form {
                written: "a list",
                lives: "another list",
            },
        ),
        (
            "a: { b: 1 }\n",
            "/a",
            json!({ "b": 1, "c": 1 }),
            json!({ "b": 1 }),
            EditError::NotWritten,
        ),
        // A comment would go with the first key.
        (
            "l:\n- a: 1 # a\n  b: 1\n",
            "/l/0/a",
            json!(1),
            json!(null),
            EditError::Unsure,
        ),
    ] {
        assert_eq!(changed(text, at, &was, &is), Err(why), "{text}");
    }
}

#[test]
fn a_value_is_found_by_its_place() {
    for (text, at) in [
        ("x: 1\n---\nl:\n- a", "/l"),
        ("x: 1\n---\nl:\n- a", "/l/0"),
        ("x: 1\n---\nl: { a: , b: 2 }\n", "/l/a"),
    ] {
        let draft = Draft::of(text).expect("a draft");
        let spot = Spot {
            document: 1,
            at: Pointer::new(at),
        };
        let node = draft.node(&spot).expect("a node").clone();
        assert_eq!(draft.find(&node), Ok(spot), "{text}");
    }
    let draft = Draft::of("a: &x 1\nb: *x\n").expect("a draft");
    let node = draft.documents[0].get("b").expect("b").clone();
    assert_eq!(draft.find(&node), Err(EditError::Shared));
}

/// A small tree of maps, lists and texts.
fn tree() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        (0..100_u32).prop_map(|number| json!(number)),
        any::<bool>().prop_map(|truth| json!(truth)),
        "[a-z]{1,4}".prop_map(|text| json!(text)),
        "\\PC{0,8}".prop_map(|text| json!(text)),
        Just(json!("one\ntwo: # no\n")),
    ];
    leaf.prop_recursive(3, 24, 4, |below| {
        prop_oneof![
            prop::collection::vec(below.clone(), 0..4).prop_map(Json::Array),
            prop::collection::btree_map("[a-e]", below, 1..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

/// Writes a tree as people do: with comments, in lines or in brackets, in one of the ways to quote.
fn written(value: &Json, indent: usize, ways: &mut dyn FnMut(usize) -> usize, out: &mut String) {
    let pad = " ".repeat(indent);
    let entry =
        |key: &str, value: &Json, ways: &mut dyn FnMut(usize) -> usize, out: &mut String| {
            if ways(3) == 0 {
                out.push_str(&format!("{pad}# of {key}{indent}\n"));
            }
            match value {
                Json::Object(map) if !map.is_empty() && ways(3) > 0 => {
                    out.push_str(&format!("{pad}{key}\n"));
                    written(value, indent + 1 + ways(3), ways, out);
                }
                Json::Array(list) if !list.is_empty() && ways(3) > 0 => {
                    out.push_str(&format!("{pad}{key}\n"));
                    written(value, indent + 1 + ways(3), ways, out);
                }
                Json::String(text) if text.ends_with('\n') && ways(2) > 0 => {
                    let lines = text.trim_end().replace('\n', &format!("\n{pad}  "));
                    out.push_str(&format!("{pad}{key} |\n{pad}  {lines}\n"));
                }
                Json::String(text) if !text.contains('\n') && ways(2) > 0 => {
                    out.push_str(&format!("{pad}{key} '{}'\n", text.replace('\'', "''")));
                }
                _ => {
                    let comment = [" # why", "", ""][ways(3)];
                    out.push_str(&format!("{pad}{key} {}{comment}\n", spell::flow(value)));
                }
            }
            if ways(5) == 0 {
                out.push('\n');
            }
        };
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                entry(&format!("{key}:"), value, ways, out);
            }
        }
        Json::Array(items) => {
            for item in items {
                out.push_str(&format!("{pad}- {}\n", spell::flow(item)));
            }
        }
        _ => {}
    }
}

/// All pointers in a tree but the root.
fn pointers(value: &Json, at: &str, out: &mut Vec<String>) {
    let mut below = |key: &str, value: &Json| {
        let at = format!("{at}/{key}");
        out.push(at.clone());
        pointers(value, &at, out);
    };
    match value {
        Json::Object(map) => map.iter().for_each(|(key, value)| below(key, value)),
        Json::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                below(&index.to_string(), value);
            }
        }
        _ => {}
    }
}

/// The first and the last byte of the lines of what stands at a pointer and is written in lines; of the root: all.
fn lines_of_entry(draft: &Draft, at: &Pointer) -> std::ops::Range<usize> {
    let spot = |at: &Pointer| Spot {
        document: 0,
        at: at.clone(),
    };
    let entry = at
        .parent()
        .zip(at.steps().last())
        .and_then(|(parent, name)| {
            let (key, node) = draft.node(&spot(&parent))?.entry(&name)?;
            let begin = draft.line_start(key.place.bytes.0 as usize);
            Some(begin..draft.next_line(draft.end_of_entry(key, node)?))
        });
    match (entry, at.parent()) {
        (Some(lines), _) => lines,
        (None, Some(parent)) => lines_of_entry(draft, &parent),
        (None, None) => 0..draft.text.len(),
    }
}

fn is_one(value: &Json) -> bool {
    !matches!(value, Json::Array(_) | Json::Object(_))
}

/// Whether a tree says what a value says, in whatever order its maps are.
fn means(node: &Node, value: &Json) -> bool {
    match (&node.value, value) {
        (Value::Map(entries), Json::Object(map)) => {
            let is_there = |(key, node): &(crate::tree::Key, Node)| {
                map.get(&key.name).is_some_and(|value| means(node, value))
            };
            entries.len() == map.len() && entries.iter().all(is_there)
        }
        (Value::List(items), Json::Array(list)) => {
            items.len() == list.len() && items.iter().zip(list).all(|(a, b)| means(a, b))
        }
        (scalar, value) => text(scalar).map(str::to_owned) == spell::spelling(value),
    }
}

/// Comments of a text.
fn comments(text: &str) -> usize {
    text.matches("# of ").count() + text.matches(" # why").count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn only_the_lines_of_what_changes_differ(
        document in prop::collection::btree_map("[a-z]", tree(), 2..5),
        choice in any::<prop::sample::Index>(),
        is in tree(),
        deed in 0..3_usize,
        crlf in any::<bool>(),
        ways in prop::collection::vec(0..60_usize, 40),
    ) {
        let document = Json::Object(document.into_iter().collect());
        let mut text = "# begin\n".to_owned();
        let mut ways = ways.into_iter().cycle();
        written(&document, 0, &mut |most| ways.next().unwrap_or(0) % most, &mut text);
        text.push_str("# end\n");
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        let mut draft = Draft::of(&text).expect("a document");
        prop_assert!(says_same(&draft.documents[0], &made(&document)), "{}", text);
        let mut all = Vec::new();
        pointers(&document, "", &mut all);
        let at = Pointer::new(&all[choice.index(all.len())]);
        let spot = Spot { document: 0, at: at.clone() };
        let was = document.pointer(at.as_str()).expect("a value");
        let parent = at.parent().expect("a parent");
        let is_item = matches!(document.pointer(parent.as_str()), Some(Json::Array(_)));
        let deed = if is_item { 0 } else { deed };
        let mut wanted = document.clone();
        let sure = match deed {
            // Another value: one value stays one, a list of values stays a list.
            0 => {
                *wanted.pointer_mut(at.as_str()).expect("a value") = is.clone();
                is_one(was) && is_one(&is)
                    || is.is_array() && was.as_array().is_some_and(|items| items.iter().all(is_one))
            }
            // None.
            1 => {
                let map = wanted.pointer_mut(parent.as_str()).and_then(Json::as_object_mut);
                map.expect("a map").remove(&at.steps().last().expect("a step"));
                true
            }
            // One more.
            _ => {
                let map = wanted.pointer_mut(parent.as_str()).and_then(Json::as_object_mut);
                map.expect("a map").insert("new".to_owned(), is.clone());
                true
            }
        };
        let lines = lines_of_entry(&draft, if deed == 0 { &at } else { &parent });
        let result = match deed {
            0 => draft.change(&spot, was, &is),
            1 => draft.change(&spot, was, &Json::Null),
            _ => {
                let map = Spot { document: 0, at: parent };
                draft.insert(&map, &["new".to_owned()], &is)
            }
        };
        let after = draft.text().to_owned();
        if result.is_err() {
            prop_assert_eq!(&after, &text);
            prop_assert!(!sure, "{:?} {} {:?}\n{}", result, at, is, text);
            return Ok(());
        }
        let (documents, found) = parse("", &after);
        prop_assert!(!found.has_errors(), "{}", after);
        prop_assert!(means(&documents[0], &wanted), "{}\n{}\n{}", at, text, after);
        let (before, behind) = (&text[..lines.start], &text[lines.end..]);
        prop_assert!(after.starts_with(before), "{}\n{}\n{}", at, text, after);
        prop_assert!(after.ends_with(behind), "{}\n{}\n{}", at, text, after);
        if deed == 2 || deed == 0 && is_one(was) && is_one(&is) {
            prop_assert_eq!(comments(&text), comments(&after), "{}\n{}", text, after);
        }
    }

    #[test]
    fn what_is_written_is_read_back(value in "\\PC{0,20}", quote in 0..4_usize) {
        let text = ["{a: x, b: 1}\n", "{a: 'x', b: 1}\n", "{a: \"x\", b: 1}\n", "a: x\nb: 1\n"][quote];
        let after = changed(text, "/a", &json!("x"), &json!(value)).expect("changed");
        let (documents, found) = parse("x", &after);
        prop_assert!(!found.has_errors(), "{after}");
        prop_assert_eq!(documents[0].get("a").and_then(Node::text), Some(value.as_str()));
        prop_assert!(documents[0].get("b").is_some());
    }
}
