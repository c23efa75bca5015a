//! Documents as SOPS writes them, under a key that `age` of Debian encrypted.

use std::fmt::Write as _;

use super::*;

const KEY: &str = include_str!("vectors/key.txt");
const OTHER: &str = include_str!("vectors/other.txt");
/// `data_key.age` holds it.
const DATA_KEY: &str = "qWNWEkke8ylyAH6eyg9JiQZWOAO2KsobepJuJiIgpT8=";
const WRAPPED: &str = include_str!("vectors/data_key.age");

fn keys(text: &str) -> Vec<Identity> {
    Identity::parse_all(text).expect("keys")
}

/// Encrypts one value as SOPS does.
fn seal(value: &str, additional: &str, kind: &str) -> String {
    let key = STANDARD.decode(DATA_KEY).expect("base64");
    let cipher = Cipher::new_from_slice(&key).expect("a key");
    // No two values have the same nonce.
    let nonce: [u8; 32] = Sha256::digest(format!("{additional} {value}")).into();
    let mut data = value.as_bytes().to_vec();
    let tag = cipher
        .encrypt_in_place_detached(&nonce.into(), additional.as_bytes(), &mut data)
        .expect("encrypted");
    format!(
        "ENC[AES256_GCM,data:{},iv:{},tag:{},type:{kind}]",
        STANDARD.encode(data),
        STANDARD.encode(nonce),
        STANDARD.encode(tag)
    )
}

/// A document: lines before `sops`, and the values that its MAC is over, in their order.
fn document(lines: &str, values: &[&str], more: &str) -> String {
    let mut hash = Sha512::new();
    if more.contains("mac_only_encrypted: true") {
        hash.update(Sha256::digest(b"sops"));
    }
    for value in values {
        hash.update(value.as_bytes());
    }
    let when = "2026-11-26T08:00:00Z";
    let mac = seal(&hex::encode_upper(hash.finalize()), when, "str");
    let mut text =
        format!("{lines}sops:\n    age:\n        - recipient: age1x\n          enc: |\n");
    for line in WRAPPED.lines() {
        writeln!(text, "            {line}").expect("text");
    }
    write!(
        text,
        "    lastmodified: \"{when}\"\n    mac: {mac}\n{more}    version: 3.9.4\n"
    )
    .expect("text");
    text
}

/// Passwords, a list, maps in maps, a number, a truth value, and something in the clear.
fn usual() -> String {
    let lines = format!(
        "password: {}\nhosts:\n    - {}\n    - {}\ndatabase:\n    user: {}\n    port: {}\n    tls: {}\nnote_unencrypted: in the clear\n",
        seal("hunter2", "password:", "str"),
        seal("one", "hosts:", "str"),
        seal("two", "hosts:", "str"),
        seal("keel", "database:user:", "str"),
        seal("5432", "database:port:", "int"),
        seal("True", "database:tls:", "bool"),
    );
    let values = [
        "hunter2",
        "one",
        "two",
        "keel",
        "5432",
        "True",
        "in the clear",
    ];
    document(&lines, &values, "")
}

fn refusal(text: &str, keys: &[Identity]) -> String {
    match decrypt("db.sops.yaml", text, keys) {
        Ok(values) => panic!("{:?}", values.keys()),
        Err(error) => super::super::chain("db.sops.yaml", &error),
    }
}

#[test]
fn values_are_found_by_their_keys() {
    let values = decrypt("db.sops.yaml", &usual(), &keys(KEY)).expect("it opens");
    for (key, value) in [
        ("password", "hunter2"),
        ("hosts.0", "one"),
        ("hosts.1", "two"),
        ("database.user", "keel"),
        ("database.port", "5432"),
        ("database.tls", "True"),
        ("note_unencrypted", "in the clear"),
    ] {
        assert_eq!(values[key].reveal(), value, "{key}");
    }
    assert!(!format!("{values:?}").contains("hunter2"));
}

#[test]
fn a_mac_over_what_is_encrypted_alone() {
    let lines = format!("a: {}\nb: in the clear\n", seal("x", "a:", "str"));
    let text = document(&lines, &["x"], "    mac_only_encrypted: true\n");
    let values = decrypt("a.yaml", &text, &keys(KEY)).expect("it opens");
    assert_eq!(values["a"].reveal(), "x");
    let other = text.replace("in the clear", "changed");
    assert!(decrypt("a.yaml", &other, &keys(KEY)).is_ok());
}

#[test]
fn a_document_as_json() {
    let text = usual();
    let (documents, _) = parse("x", &text);
    fn json(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Map(entries) => entries
                .iter()
                .map(|(key, below)| (key.name.clone(), json(below)))
                .collect(),
            Value::List(items) => items.iter().map(json).collect(),
            _ => serde_json::json!(node.text().expect("a text")),
        }
    }
    let text = serde_json::to_string_pretty(&json(&documents[0])).expect("JSON");
    let values = decrypt("db.sops.json", &text, &keys(KEY)).expect("it opens");
    assert_eq!(values["password"].reveal(), "hunter2");
}

#[test]
fn what_was_changed_taken_away_or_moved_does_not_open() {
    let good = usual();
    let keys = keys(KEY);
    let line = |key: &str| {
        good.lines()
            .find(|line| line.trim().starts_with(key))
            .expect("a line")
    };
    for (what, text) in [
        (
            "a value in the clear",
            good.replace("in the clear", "in the cleor"),
        ),
        (
            "a value taken away",
            good.replace(&format!("{}\n", line("user:")), ""),
        ),
        (
            "a value under another key",
            good.replace("password:", "passphrase:"),
        ),
        ("two items of a list in another order", {
            let (one, two) = (
                good.lines().nth(2).expect("one"),
                good.lines().nth(3).expect("two"),
            );
            good.replace(&format!("{one}\n{two}"), &format!("{two}\n{one}"))
        }),
        (
            "another time",
            good.replace("2026-11-26T08", "2026-11-26T09"),
        ),
        ("a value added", format!("added: now\n{good}")),
    ] {
        assert_ne!(text, good, "{what}");
        assert!(
            refusal(&text, &keys).contains("changed after it was encrypted"),
            "{what}"
        );
    }
}

#[test]
fn who_has_no_key_is_told_for_whom_it_is() {
    assert_eq!(
        refusal(&usual(), &keys(OTHER)),
        "db.sops.yaml: it is encrypted for age1x, and this host has the key of none of them"
    );
    // SOPS without age: the program is asked, which is not here.
    let text = usual().replace("    age:", "    pgp: [{fp: AB}]\n    age_:");
    let said = refusal(&text, &keys(KEY));
    assert!(
        said.contains("encrypted for pgp, which takes the program `sops`"),
        "{said}"
    );
    assert!(refusal("a: 1\n", &[]).contains("it has no `sops`"));
    assert!(refusal("a: 1\n---\nb: 1\n", &[]).contains("2 documents"));
}
