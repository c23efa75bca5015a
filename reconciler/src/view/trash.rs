//! What is in the trash, as a table.

use jiff::Timestamp;
use manifests::observed::Trashed;
use serde_json::{Value, json};

use super::history::when;
use super::text;

/// How much of an identity people read.
const SHORT: usize = 8;

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
            was: _,
        } = one;
        json!({
            "address": address, "mark": mark, "deletedAt": deleted_at, "expiresAt": expires_at, "holds": holds, "by": by,
        })
    });
    Value::Array(all.collect())
}

/// One line an object.
pub fn table(all: &[Trashed], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|one| {
            let left = one.expires_at.as_millisecond() - now.as_millisecond();
            let left = u64::try_from(left).map_or_else(
                |_| "expired".to_owned(),
                |left| format!("in {}", text::span(left)),
            );
            vec![
                text::visible(&one.address.to_string()),
                text::visible(one.mark.source.as_str()),
                one.by.word().to_owned(),
                when(one.deleted_at),
                left,
                one.mark.uid.to_string().chars().take(SHORT).collect(),
            ]
        })
        .collect();
    text::table(&["OBJECT", "SOURCE", "BY", "SINCE", "GOES", "UID"], &rows)
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
                holds: Holds::default(),
                by: TrashedBy::Delete,
                was: None,
            }
        };
        let all = [
            one("web", "2026-11-27T08:00:00Z"),
            one("old-one", "2026-11-22T08:00:00Z"),
        ];
        insta::assert_snapshot!(table(&all, at("2026-11-25T08:00:00Z")), @r"
        OBJECT             SOURCE   BY       SINCE                  GOES      UID
        instance/web       edge     delete   2026-11-20 08:00:00Z   in 2 d    01040b47
        instance/old-one   edge     delete   2026-11-20 08:00:00Z   expired   9f8220fe
        ");
    }
}
