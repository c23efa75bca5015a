//! Live objects as documents and as tables: `keel get`, `keel describe`.

use jiff::Timestamp;
use manifests::id::Address;
use manifests::kind::Kind;
use manifests::observed::{Holds, Item};
use manifests::secret::as_written;
use serde_json::{Map, Value, json};

use super::text;
use crate::plan::health_of;

/// The envelope of a live object: `spec` is the live value, `status` is read from the world. Texts from secrets say where
/// they come from, as in a manifest.
pub fn document(item: &Item) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(item.address.name));
    if let Some(project) = &item.address.project {
        metadata.insert("project".to_owned(), json!(project));
    }
    let mut status = match &item.status {
        Value::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    if let Some(mark) = &item.mark {
        status
            .entry("uid")
            .or_insert_with(|| json!(mark.uid.to_string()));
        status.insert("source".to_owned(), json!(mark.source));
    }
    if !item.unseen.is_empty() {
        status.insert("unseen".to_owned(), json!(item.unseen));
    }
    if item.holds != Holds::default() {
        status.insert("holds".to_owned(), json!(item.holds));
    }
    let mut document = json!({
        "apiVersion": "evenkeel/v1",
        "kind": item.address.kind.name(),
        "metadata": metadata,
        "spec": item.spec.to_value(),
        "status": status,
    });
    as_written(&mut document);
    document
}

/// A list is one document.
pub fn list(items: &[&Item]) -> Value {
    let items: Vec<Value> = items.iter().map(|item| document(item)).collect();
    json!({ "apiVersion": "evenkeel/v1", "kind": "List", "items": items })
}

/// One column of a table.
struct Column {
    header: &'static str,
    wide: bool,
    cell: fn(&Item, Timestamp) -> String,
}

const fn column(header: &'static str, cell: fn(&Item, Timestamp) -> String) -> Column {
    Column {
        header,
        wide: false,
        cell,
    }
}

const fn wide(header: &'static str, cell: fn(&Item, Timestamp) -> String) -> Column {
    Column {
        header,
        wide: true,
        cell,
    }
}

/// The columns of a kind between its name and its owner.
fn columns(kind: Kind) -> &'static [Column] {
    const INSTANCE: &[Column] = &[
        column("STATE", |item, _| word(item, "state")),
        column("ADDRESSES", |item, _| words(item, "addresses")),
        column("HEALTH", |item, _| health_of(item).unwrap_or_default()),
        column("RESTARTS", |item, _| word(item, "restarts")),
        column("AGE", |item, now| age(item, "startedAt", now)),
        wide("PID", |item, _| word(item, "pid")),
        wide("LAST-EXIT", |item, _| {
            let exit = item.status.get("lastExit").unwrap_or(&Value::Null);
            if exit.is_null() {
                String::new()
            } else {
                text::shown(exit)
            }
        }),
    ];
    const NETWORK: &[Column] = &[
        column("INTERFACE", |item, _| word(item, "interface")),
        column("ADDRESSES", |item, _| words(item, "addresses")),
        column("PORTS", |item, _| count(item, "ports")),
        wide("LEASES", |item, _| count(item, "leases")),
    ];
    const POOL: &[Column] = &[
        column("DRIVER", |item, _| word(item, "driver")),
        column("USED", |item, _| size(item, "used")),
        column("TOTAL", |item, _| size(item, "total")),
        wide("PATH", |item, _| word(item, "path")),
    ];
    const VOLUME: &[Column] = &[
        column("USED", |item, _| size(item, "used")),
        column("ATTACHED-TO", |item, _| words(item, "attachedTo")),
        wide("PATH", |item, _| word(item, "path")),
    ];
    const IMAGE: &[Column] = &[
        column("FINGERPRINT", |item, _| {
            let fingerprint = word(item, "fingerprint");
            let hex = fingerprint.strip_prefix("sha256:").unwrap_or(&fingerprint);
            hex.chars().take(12).collect()
        }),
        column("SIZE", |item, _| size(item, "size")),
        column("USED-BY", |item, _| count(item, "usedBy")),
    ];
    match kind {
        Kind::Instance => INSTANCE,
        Kind::Network => NETWORK,
        Kind::StoragePool => POOL,
        Kind::Volume => VOLUME,
        Kind::Image => IMAGE,
        _ => &[],
    }
}

/// A table for each kind that occurs, in the order in which things are made; names sorted.
pub fn tables(items: &[&Item], show_wide: bool, now: Timestamp) -> String {
    let mut out = String::new();
    for &kind in Kind::ALL {
        let mut of_kind: Vec<&Item> = items
            .iter()
            .copied()
            .filter(|item| item.address.kind == kind)
            .collect();
        if of_kind.is_empty() {
            continue;
        }
        of_kind.sort_by(|a, b| a.address.cmp(&b.address));
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&table(kind, &of_kind, show_wide, now));
    }
    out
}

fn table(kind: Kind, items: &[&Item], show_wide: bool, now: Timestamp) -> String {
    let columns: Vec<&Column> = columns(kind)
        .iter()
        .filter(|column| show_wide || !column.wide)
        .collect();
    let mut header = vec!["NAME"];
    header.extend(columns.iter().map(|column| column.header));
    header.push("SOURCE");
    if show_wide {
        header.push("UID");
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            let mut row = vec![text::visible(&short_name(&item.address))];
            row.extend(columns.iter().map(|column| {
                let cell = text::visible(&(column.cell)(item, now));
                if cell.is_empty() {
                    "-".to_owned()
                } else {
                    cell
                }
            }));
            row.push(owner(item));
            if show_wide {
                let uid = item.mark.as_ref().map(|mark| mark.uid.to_string());
                row.push(uid.unwrap_or_else(|| "-".to_owned()));
            }
            row
        })
        .collect();
    text::table(&header, &rows)
}

/// Whose an object is, in a word.
pub fn owner(item: &Item) -> String {
    match &item.mark {
        Some(mark) => text::visible(mark.source.as_str()),
        None => "(foreign)".to_owned(),
    }
}

/// The address without its kind: `web-1`, `shop/web-1`, `fast/pg-data`.
fn short_name(address: &Address) -> String {
    let full = address.to_string();
    full.split_once('/')
        .map_or_else(|| full.clone(), |(_, rest)| rest.to_owned())
}

/// A field of the status as text; empty where there is none.
fn word(item: &Item, key: &str) -> String {
    match item.status.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => text::shown(other),
    }
}

/// A list of the status as words; an element that is a map is shown by its `address` or `name`.
fn words(item: &Item, key: &str) -> String {
    let Some(Value::Array(all)) = item.status.get(key) else {
        return word(item, key);
    };
    let words: Vec<String> = all
        .iter()
        .map(|element| match element {
            Value::String(text) => text.clone(),
            Value::Object(fields) => ["address", "name"]
                .iter()
                .find_map(|key| fields.get(*key)?.as_str())
                .map_or_else(|| text::shown(element), str::to_owned),
            other => text::shown(other),
        })
        .collect();
    words.join(", ")
}

fn count(item: &Item, key: &str) -> String {
    match item.status.get(key) {
        Some(Value::Array(all)) => all.len().to_string(),
        Some(Value::Object(all)) => all.len().to_string(),
        _ => word(item, key),
    }
}

fn size(item: &Item, key: &str) -> String {
    item.status
        .get(key)
        .and_then(Value::as_u64)
        .map_or_else(|| word(item, key), text::bytes)
}

fn age(item: &Item, key: &str, now: Timestamp) -> String {
    word(item, key)
        .parse()
        .map_or_else(|_| String::new(), |then| text::ago(then, now))
}

/// Everything about one object, for a person.
pub fn describe(item: &Item, now: Timestamp) -> String {
    let mut out = format!("{}\n", text::visible(&item.address.to_string()));
    let mut line = |key: &str, value: &str| {
        out.push_str("  ");
        out.push_str(&text::pad(key, 12));
        out.push_str(value);
        out.push('\n');
    };
    line("source", &owner(item));
    if let Some(mark) = &item.mark {
        line("uid", &mark.uid.to_string());
    }
    if !item.complete {
        line(
            "note",
            "was not made to its end: the next apply finishes it",
        );
    }
    if let Some(remembered) = item.remembered {
        let prune = json!(remembered.prune);
        line("prune", prune.as_str().unwrap_or_default());
        if remembered.protect {
            line("protect", "yes");
        }
    }
    if item.holds != Holds::default() {
        let snapshots = text::counted(item.holds.snapshots as usize, "snapshot");
        line(
            "holds",
            &format!("{}, {snapshots}", text::bytes(item.holds.bytes)),
        );
    }
    let document = document(item);
    section(&mut out, "spec", &document["spec"], now);
    section(&mut out, "status", &document["status"], now);
    if !item.unseen.is_empty() {
        out.push_str("\nunseen\n");
        for unseen in &item.unseen {
            let path = text::pad(&unseen.path.dotted(), 28);
            out.push_str(&format!("  {path}{}\n", text::visible(&unseen.why)));
        }
    }
    out
}

/// A block of fields, one line a leaf; what is unset or empty is left out.
pub(super) fn section(out: &mut String, title: &str, value: &Value, now: Timestamp) {
    let mut rows = Vec::new();
    leaves(String::new(), value, &mut rows);
    if rows.is_empty() {
        return;
    }
    let widest = rows.iter().map(|(key, _)| text::width(key)).max();
    let column = widest.unwrap_or(0).min(36) + 2;
    out.push_str(&format!("\n{title}\n"));
    for (key, value) in rows {
        let since = match value.parse::<Timestamp>() {
            Ok(then) if then <= now => format!("  ({} ago)", text::ago(then, now)),
            _ => String::new(),
        };
        out.push_str(&format!("  {}{value}{since}\n", text::pad(&key, column)));
    }
}

/// The leaves of a value by their dotted names.
pub fn leaves(at: String, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |key: &str| {
        let key = text::visible(key);
        if at.is_empty() {
            key
        } else {
            format!("{at}.{key}")
        }
    };
    match value {
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        Value::Object(fields) => {
            for (key, value) in fields {
                leaves(below(key), value, rows);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, value) in items.iter().enumerate() {
                leaves(below(&index.to_string()), value, rows);
            }
        }
        other => rows.push((at, text::shown(other))),
    }
}

#[cfg(test)]
mod tests {
    use manifests::id::{Mark, SourceName};
    use manifests::kind::Spec;

    use super::*;

    const UID: &str = "0192f0c1-0000-7000-8000-000000000001";

    fn item(kind: Kind, name: &str, marked: bool, status: Value) -> Item {
        Item {
            address: Address::new(kind, name),
            mark: marked.then(|| Mark {
                source: SourceName::new("edge"),
                uid: UID.parse().expect("a UUID"),
            }),
            complete: true,
            spec: Spec::default_of(kind),
            unseen: Vec::new(),
            last_told: None,
            remembered: None,
            holds: Holds::default(),
            status,
        }
    }

    fn world() -> Vec<Item> {
        vec![
            item(
                Kind::Instance,
                "web-1",
                true,
                json!({"state": "Running", "pid": 4711, "addresses": ["10.20.0.10"], "restarts": 0,
                       "startedAt": "2026-11-23T09:00:00Z", "lastExit": null}),
            ),
            item(
                Kind::Instance,
                "a\u{1b}[2J",
                false,
                json!({"state": "Stopped", "lastExit": {"code": 3, "signal": null}}),
            ),
            item(
                Kind::StoragePool,
                "fast",
                true,
                json!({"driver": "dir", "used": 1_610_612_736_u64, "total": 10_737_418_240_u64, "path": "/p"}),
            ),
        ]
    }

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_table_for_each_kind() {
        let world = world();
        let items: Vec<&Item> = world.iter().collect();
        insta::assert_snapshot!(tables(&items, false, now()), @r"
        NAME   DRIVER   USED      TOTAL    SOURCE
        fast   dir      1.5 GiB   10 GiB   edge

        NAME    STATE     ADDRESSES    HEALTH   RESTARTS   AGE   SOURCE
        a␛[2J   Stopped   -            -        -          -     (foreign)
        web-1   Running   10.20.0.10   -        0          3h    edge
        ");
        insta::assert_snapshot!(tables(&items[..1], true, now()), @r"
        NAME    STATE     ADDRESSES    HEALTH   RESTARTS   AGE   PID    LAST-EXIT   SOURCE   UID
        web-1   Running   10.20.0.10   -        0          3h    4711   -           edge     0192f0c1-0000-7000-8000-000000000001
        ");
    }

    #[test]
    fn a_document_is_the_envelope_with_live_spec_and_status() {
        let world = world();
        let one = document(&world[0]);
        assert_eq!(one["apiVersion"], "evenkeel/v1");
        assert_eq!(one["kind"], "Instance");
        assert_eq!(one["metadata"], json!({"name": "web-1"}));
        assert_eq!(one["status"]["uid"], UID);
        assert_eq!(one["status"]["pid"], 4711);
        assert_eq!(one["status"]["source"], "edge");
        let all: Vec<&Item> = world.iter().collect();
        assert_eq!(list(&all)["items"].as_array().map(Vec::len), Some(3));
        assert_eq!(list(&[])["kind"], "List");
    }

    #[test]
    fn a_description_tells_leaves_and_times() {
        let text = describe(&world()[0], now());
        assert!(
            text.starts_with("instance/web-1\n  source      edge\n"),
            "{text}"
        );
        assert!(
            text.contains("  startedAt  2026-11-23T09:00:00Z  (3h ago)\n"),
            "{text}"
        );
        assert!(text.contains("  addresses  [10.20.0.10]\n"), "{text}");
    }
}
