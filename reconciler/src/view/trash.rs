//! What is in the trash, as a table.

use jiff::Timestamp;
use manifests::observed::Trashed;
use serde_json::{Value, json};

use super::history::when;
use super::text;

/// As JSON: what and when. What each of them was like is not in it.
pub fn document(all: &[Trashed]) -> Value {
    let all = all.iter().map(|one| {
        let Trashed {
            address,
            mark,
            deleted_at,
            expires_at,
            holds,
            by,
            pool,
            was: _,
        } = one;
        json!({
            "address": address, "mark": mark, "deletedAt": deleted_at, "expiresAt": expires_at, "holds": holds, "by": by,
            "pool": pool,
        })
    });
    Value::Array(all.collect())
}

/// When something goes: `in 2 d`.
fn left(one: &Trashed, now: Timestamp) -> String {
    let left = one.expires_at.as_millisecond() - now.as_millisecond();
    u64::try_from(left).map_or_else(
        |_| "expired".to_owned(),
        |left| format!("in {}", text::span(left)),
    )
}

/// One line an object.
pub fn table(all: &[Trashed], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|one| {
            vec![
                text::visible(&one.address.to_string()),
                text::visible(one.mark.source.as_str()),
                text::visible(one.pool.as_deref().unwrap_or_default()),
                one.by.word().to_owned(),
                when(one.deleted_at),
                left(one, now),
                text::bytes(one.holds.bytes),
                one.holds.snapshots.to_string(),
                one.mark.uid.short(),
            ]
        })
        .collect();
    let heads = [
        "OBJECT",
        "SOURCE",
        "POOL",
        "BY",
        "SINCE",
        "GOES",
        "SIZE",
        "SNAPSHOTS",
        "UID",
    ];
    text::table(&heads, &rows)
}

/// What the trash of one pool holds, in a line: `3 objects, 1.2 GiB, the next goes in 2 d`.
pub fn in_a_line(all: &[&Trashed], now: Timestamp) -> String {
    let bytes = all.iter().map(|one| one.holds.bytes).sum();
    let mut line = format!(
        "{}, {}",
        text::counted(all.len(), "object"),
        text::bytes(bytes)
    );
    if let Some(next) = all.iter().min_by_key(|one| one.expires_at) {
        let next = match left(next, now).as_str() {
            "expired" => ", some of it expired".to_owned(),
            left => format!(", the next goes {left}"),
        };
        line.push_str(&next);
    }
    line
}

#[cfg(test)]
mod tests {
    use manifests::id::{Address, Mark, SourceName, Uid};
    use manifests::kind::Kind;
    use manifests::observed::{Holds, TrashedBy};

    use super::*;

    #[test]
    fn what_is_deleted_and_when_it_goes() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let one = |name: &str, expires: &str| {
            let address = Address::new(Kind::Instance, name);
            Trashed {
                mark: Mark {
                    source: SourceName::new("edge"),
                    uid: Uid::derive(&uuid::Uuid::nil(), &address),
                },
                address,
                deleted_at: at("2026-11-20T08:00:00Z"),
                expires_at: at(expires),
                holds: Holds {
                    bytes: 3 << 20,
                    snapshots: 2,
                },
                by: TrashedBy::Delete,
                pool: Some("fast".to_owned()),
                was: None,
            }
        };
        let all = [
            one("web", "2026-11-27T08:00:00Z"),
            one("old-one", "2026-11-22T08:00:00Z"),
        ];
        insta::assert_snapshot!(table(&all, at("2026-11-25T08:00:00Z")), @r"
        OBJECT             SOURCE   POOL   BY       SINCE                  GOES      SIZE    SNAPSHOTS   UID
        instance/web       edge     fast   delete   2026-11-20 08:00:00Z   in 2 d    3 MiB   2           01040b47
        instance/old-one   edge     fast   delete   2026-11-20 08:00:00Z   expired   3 MiB   2           9f8220fe
        ");
    }
}
