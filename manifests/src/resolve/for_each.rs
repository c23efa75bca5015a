//! `forEach`: one document that stands for many.

use super::*;
use crate::substitute::{Group, Known};

/// One document stands for at most so many.
pub const MOST: usize = 10_000;

/// The documents that one with `forEach` stands for; one without stands for itself.
pub(super) fn each(mut node: Node, found: &mut Diagnostics) -> Vec<Node> {
    let Some(over) = node.take("forEach") else {
        substitute::fill(&mut node, Group::Each, &Known::new(), found);
        return vec![node];
    };
    let values = match values(&over) {
        Ok(values) => values,
        // A value that is left out would be an object that is deleted: none is made.
        Err(wrong) => {
            found.push(wrong.at(Pointer::new("/forEach")));
            return Vec::new();
        }
    };
    known_of(values)
        .map(|known| {
            let mut copy = node.clone();
            substitute::fill(&mut copy, Group::Each, &known, found);
            copy
        })
        .collect()
}

/// What `${each.…}` stands for in each of the documents that this one stands for. What is wrong is told by [`each`].
pub(super) fn known(node: &Node) -> Vec<Known> {
    match node.get("forEach").map(values) {
        Some(Ok(values)) => known_of(values).collect(),
        _ => vec![Known::new()],
    }
}

fn known_of(values: Vec<Value>) -> impl Iterator<Item = Known> {
    values.into_iter().enumerate().map(|(index, value)| {
        Known::from([
            ("each.value".to_owned(), value),
            (
                "each.index".to_owned(),
                Value::Integer(index.to_string().into()),
            ),
        ])
    })
}

fn values(over: &Node) -> Result<Vec<Value>, Diagnostic> {
    let wrong = |place: &Place, message: String| {
        Diagnostic::error(BAD_EACH, place.origin(), message)
            .hint("write `[web-1, web-2]` or `{ count: 3 }`")
    };
    match &over.value {
        Value::List(items) if items.len() > MOST => Err(wrong(
            &over.place,
            format!("`forEach` makes at most {MOST} objects"),
        )),
        Value::List(items) => items
            .iter()
            .map(|item| match substitute::text(&item.value) {
                Some(_) => Ok(item.value.clone()),
                None => Err(wrong(
                    &item.place,
                    format!("{} in `forEach`: its values are words", item.value.noun()),
                )),
            })
            .collect(),
        Value::Map(entries) => {
            if let Some((key, _)) = entries.iter().find(|(key, _)| key.name != "count") {
                return Err(wrong(
                    &key.place,
                    format!("unknown field `{}` in forEach", key.name),
                ));
            }
            let count = over.get("count");
            match count.map(|count| (&count.value, count.value.noun())) {
                Some((Value::Integer(text), _)) => match text.parse::<usize>() {
                    Ok(count) if count <= MOST => Ok((0..count)
                        .map(|index| Value::Integer(index.to_string().into()))
                        .collect()),
                    _ => Err(wrong(
                        &count.unwrap_or(over).place,
                        format!("`forEach` makes 0 to {MOST} objects, not {text}"),
                    )),
                },
                Some((_, noun)) => Err(wrong(
                    &count.unwrap_or(over).place,
                    format!("`count` of forEach is {noun}, expected a whole number"),
                )),
                None => Err(wrong(&over.place, "`forEach` without `count`".to_owned())),
            }
        }
        other => Err(wrong(
            &over.place,
            format!(
                "`forEach` is {}, expected a list of words or a count",
                other.noun()
            ),
        )),
    }
}
