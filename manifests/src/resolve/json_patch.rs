//! The operations of a JSON patch (RFC 6902), made on trees in which each value keeps its place.

use super::*;
use patches::BAD_PATCH;

/// One operation.
pub(super) struct Operation {
    deed: Deed,
    path: Spot,
}

enum Deed {
    Add(Node),
    Remove,
    Replace(Node),
    Move(Spot),
    Copy(Spot),
    Test(Node),
}

/// A pointer as it was written.
struct Spot {
    steps: Vec<String>,
    place: Place,
}

const WORDS: [&str; 6] = ["add", "remove", "replace", "move", "copy", "test"];

/// Reads a list of operations; none where something is wrong with one of them.
pub(super) fn read(
    items: &[Node],
    at: &Pointer,
    found: &mut Diagnostics,
) -> Option<Vec<Operation>> {
    let mut all = Some(Vec::new());
    for (index, item) in items.iter().enumerate() {
        match one(item, found) {
            Ok(operation) => {
                if let Some(all) = &mut all {
                    all.push(operation);
                }
            }
            Err(wrong) => {
                found.push(wrong.at(at.index(index)));
                all = None;
            }
        }
    }
    all
}

fn one(item: &Node, found: &mut Diagnostics) -> Result<Operation, Diagnostic> {
    let Value::Map(_) = &item.value else {
        return Err(wrong_type("an operation", item, "a map")
            .hint("write `{ op: replace, path: /spec/limits/memory, value: 1GiB }`"));
    };
    unknown_keys(item, &["op", "path", "from", "value"], found);
    let needed = |field: &str| {
        item.get(field).ok_or_else(|| {
            let message = format!("field `{field}` is missing in an operation");
            Diagnostic::error(MISSING_FIELD, item.place.origin(), message)
        })
    };
    let op = needed("op")?;
    let word = substitute::text(&op.value).unwrap_or_default();
    let path = Spot::read("path", needed("path")?)?;
    let deed = match word {
        "add" => Deed::Add(needed("value")?.clone()),
        "remove" => Deed::Remove,
        "replace" => Deed::Replace(needed("value")?.clone()),
        "move" => Deed::Move(Spot::read("from", needed("from")?)?),
        "copy" => Deed::Copy(Spot::read("from", needed("from")?)?),
        "test" => Deed::Test(needed("value")?.clone()),
        _ => {
            let message = format!("`{word}` is no operation of a patch");
            let one = Diagnostic::error(UNKNOWN_WORD, op.place.origin(), message);
            return Err(hinted(one, word, &WORDS).note(format!("possible: {}", WORDS.join(", "))));
        }
    };
    Ok(Operation { deed, path })
}

impl Spot {
    fn read(field: &str, node: &Node) -> Result<Self, Diagnostic> {
        let text = node
            .text()
            .ok_or_else(|| wrong_type(field, node, "a path such as `/spec/limits/memory`"))?;
        if !text.starts_with('/') || text == "/" {
            let message = format!("`{text}` is no path of a value");
            return Err(Diagnostic::error(BAD_PATCH, node.place.origin(), message)
                .hint("write all steps from the document, such as `/spec/limits/memory`"));
        }
        Ok(Self {
            steps: Pointer::new(text).steps().collect(),
            place: node.place.clone(),
        })
    }

    fn wrong(&self, message: String) -> Diagnostic {
        Diagnostic::error(BAD_PATCH, self.place.origin(), message)
    }

    /// The map or list that the value is in, and the step from there.
    fn above<'a>(&self, document: &'a mut Node) -> Result<(&'a mut Node, &str), Diagnostic> {
        let mut node = document;
        let mut at = Pointer::root();
        let (last, above) = match self.steps.split_last() {
            Some((last, above)) => (last.as_str(), above),
            None => ("", &[][..]),
        };
        for step in above {
            at = at.field(step);
            if node.child(step).is_none() {
                return Err(self.missing(&at, node, step));
            }
            let below = match &mut node.value {
                Value::Map(entries) => entries
                    .iter_mut()
                    .find(|(key, _)| key.name == *step)
                    .map(|(_, below)| below),
                Value::List(items) => step.parse().ok().and_then(|at: usize| items.get_mut(at)),
                _ => None,
            };
            node = below.ok_or_else(|| self.wrong(format!("`{at}` is not there")))?;
        }
        Ok((node, last))
    }

    fn missing(&self, at: &Pointer, above: &Node, step: &str) -> Diagnostic {
        let one = self.wrong(format!("`{at}` is not there"));
        let keys: Vec<&str> = match &above.value {
            Value::Map(entries) => entries.iter().map(|(key, _)| key.name.as_str()).collect(),
            _ => Vec::new(),
        };
        match nearest(step, &keys) {
            Some(near) => one.hint(format!("did you mean `{near}`?")),
            None => one.hint("a patch that is merged makes what is not there"),
        }
    }

    /// The pointer, for messages.
    fn pointer(&self) -> Pointer {
        let root = Pointer::root();
        self.steps.iter().fold(root, |at, step| at.field(step))
    }

    fn get(&self, document: &Node) -> Result<Node, Diagnostic> {
        let mut node = document;
        let mut at = Pointer::root();
        for step in &self.steps {
            at = at.field(step);
            node = node
                .child(step)
                .ok_or_else(|| self.missing(&at, node, step))?;
        }
        Ok(node.clone())
    }

    fn take(&self, document: &mut Node) -> Result<Node, Diagnostic> {
        let taken = self.get(document)?;
        document.prune(&self.pointer());
        Ok(taken)
    }

    fn add(&self, document: &mut Node, value: Node) -> Result<(), Diagnostic> {
        let (above, step) = self.above(document)?;
        match &mut above.value {
            Value::Map(entries) => {
                let key = Key {
                    place: self.place.clone(),
                    name: step.to_owned(),
                };
                match entries.iter_mut().find(|(known, _)| known.name == step) {
                    Some(entry) => *entry = (key, value),
                    None => entries.push((key, value)),
                }
                Ok(())
            }
            Value::List(items) => {
                let index = if step == "-" {
                    Some(items.len())
                } else {
                    step.parse().ok()
                };
                match index.filter(|index| *index <= items.len()) {
                    Some(index) => {
                        items.insert(index, value);
                        Ok(())
                    }
                    None => Err(self
                        .wrong(format!("`{step}` is no place in a list of {}", items.len()))
                        .hint("`-` is the end of a list")),
                }
            }
            other => {
                let noun = other.noun();
                Err(self.wrong(format!("`{}` stands below {noun}", self.pointer())))
            }
        }
    }
}

impl Operation {
    /// Makes the operation.
    ///
    /// # Errors
    /// What it names is not there, or is not what a `test` says.
    pub(super) fn apply(&self, document: &mut Node) -> Result<(), Diagnostic> {
        let path = &self.path;
        match &self.deed {
            Deed::Add(value) => path.add(document, value.clone()),
            Deed::Remove => path.take(document).map(drop),
            Deed::Replace(value) => {
                path.get(document)?;
                let (above, step) = path.above(document)?;
                match &mut above.value {
                    Value::List(items) => {
                        if let Some(item) =
                            step.parse().ok().and_then(|at: usize| items.get_mut(at))
                        {
                            *item = value.clone();
                        }
                        Ok(())
                    }
                    _ => path.add(document, value.clone()),
                }
            }
            Deed::Move(from) => {
                if from.pointer() != path.pointer() && from.pointer().covers(&path.pointer()) {
                    return Err(path.wrong(format!("`{}` cannot move into itself", from.pointer())));
                }
                let value = from.take(document)?;
                path.add(document, value)
            }
            Deed::Copy(from) => {
                let value = from.get(document)?;
                path.add(document, value)
            }
            Deed::Test(value) => {
                let there = path.get(document)?;
                if same(&there, value) {
                    return Ok(());
                }
                let said = match substitute::text(&there.value) {
                    Some(text) => format!(
                        "`{}`",
                        text.chars().take(60).collect::<String>().escape_debug()
                    ),
                    None => there.value.noun().to_owned(),
                };
                Err(path
                    .wrong(format!(
                        "`{}` is {said}, and not what this tests",
                        path.pointer()
                    ))
                    .related(there.place.origin(), "written here"))
            }
        }
    }
}

/// Whether two values are the same wherever they were written.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, node)| other.get(&key.name).is_some_and(|other| same(node, other)))
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b,
    }
}
