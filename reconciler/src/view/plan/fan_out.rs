//! One edit that reaches many objects, told once: a profile, a base, a document with `forEach`.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use manifests::action::{Power, Verb};
use manifests::diagnostic::Origin;
use manifests::kind::Kind;
use manifests::parse::parse;
use manifests::tree::Node;

use super::words::kind_of;
use crate::plan::{Because, Held, Plan, Step, StepId};
use crate::view::text;

/// What stands on a page: one object, or an edit with all objects that it reaches.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::view) enum Block<'a> {
    /// A step of its own.
    One(&'a Step),
    /// Steps with the same fields, declared in the same lines.
    Many(FanOut<'a>),
}

/// An edit that reaches several objects.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::view) struct FanOut<'a> {
    /// What is done, the worst first; at least two.
    pub(in crate::view) steps: Vec<&'a Step>,
    /// How many more objects it would reach if nothing held them.
    pub(in crate::view) held: usize,
    /// The line of the edit.
    pub(in crate::view) origin: &'a Origin,
}

impl<'a> FanOut<'a> {
    /// The worst of its steps.
    pub(in crate::view) fn worst(&self) -> &'a Step {
        self.steps[0]
    }

    /// `14 instances`, those that are held among them.
    pub(in crate::view) fn reach(&self) -> String {
        let kind = self.worst().address().kind;
        let alike = self.steps.iter().all(|step| step.address().kind == kind);
        let noun = if alike { kind.word() } else { "object" };
        text::counted(self.steps.len() + self.held, noun)
    }

    /// How many objects it reaches with each effect, the worst first: `4 next-start`, `9 live`, `1 held`.
    pub(in crate::view) fn effects(&self) -> Vec<(String, Vec<&'a Step>)> {
        let mut all: Vec<(String, Vec<&Step>)> = Vec::new();
        for step in &self.steps {
            let word = step.effect.map_or(step.deed(), |effect| effect.word());
            match all.iter_mut().find(|(known, _)| known == word) {
                Some((_, steps)) => steps.push(step),
                None => all.push((word.to_owned(), vec![step])),
            }
        }
        all
    }

    /// What it is called: `profile/web`, where its document has a name.
    pub(in crate::view) fn name(&self, documents: &Documents<'_>) -> Option<String> {
        documents.name(self.origin)
    }

    /// `4 next-start, 9 live, 1 held`.
    pub(in crate::view) fn effect_counts(&self) -> String {
        let mut words: Vec<String> = self
            .effects()
            .into_iter()
            .map(|(word, steps)| format!("{} {word}", steps.len()))
            .collect();
        if self.held > 0 {
            words.push(format!("{} held", self.held));
        }
        words.join(", ")
    }
}

/// What must be equal for two steps to come from one edit.
type Edit<'a> = (&'static str, String, Vec<(&'a str, u32)>);

fn edit_of(step: &Step) -> Option<Edit<'_>> {
    let foldable = matches!(
        step.action.verb,
        Verb::Update { .. }
            | Verb::Rebuild
            | Verb::Replace
            | Verb::Power {
                power: Power::Restart
            }
    );
    if !foldable || step.changes.is_empty() {
        return None;
    }
    let mut fields = String::new();
    let mut places = Vec::new();
    for planned in &step.changes {
        let origin = planned.origin.as_ref().filter(|origin| origin.line > 0)?;
        let change = &planned.change;
        fields.push_str(&format!(
            "{}\0{}\0{}\0{:?}\0",
            change.path, change.before, change.after, change.cause
        ));
        places.push((&*origin.file, origin.line));
    }
    Some((step.deed(), fields, places))
}

/// All steps of a plan, the worst first; those of one edit together.
pub(in crate::view) fn blocks(plan: &Plan) -> Vec<Block<'_>> {
    let mut held: BTreeMap<Edit<'_>, usize> = BTreeMap::new();
    for edit in plan.held.iter().filter_map(|held| edit_of(&held.step)) {
        *held.entry(edit).or_default() += 1;
    }
    let mut edits: BTreeMap<Edit<'_>, Vec<&Step>> = BTreeMap::new();
    let mut blocks: Vec<(u8, StepId, Block<'_>)> = Vec::new();
    for step in &plan.steps {
        match edit_of(step) {
            Some(edit) => edits.entry(edit).or_default().push(step),
            None => blocks.push((kind_of(step).rank, step.id, Block::One(step))),
        }
    }
    for (edit, mut steps) in edits {
        steps.sort_by_key(|step| (kind_of(step).rank, std::cmp::Reverse(step.effect), step.id));
        let worst = steps[0];
        let place = worst
            .changes
            .iter()
            .find_map(|planned| planned.origin.as_ref());
        let block = match place {
            Some(origin) if steps.len() > 1 => Block::Many(FanOut {
                held: held.get(&edit).copied().unwrap_or_default(),
                origin,
                steps,
            }),
            _ => Block::One(worst),
        };
        blocks.push((kind_of(worst).rank, worst.id, block));
    }
    blocks.sort_by_key(|(rank, id, _)| (*rank, *id));
    blocks.into_iter().map(|(_, _, block)| block).collect()
}

/// Held steps: those of one edit that the same guards hold stand together.
pub(in crate::view) fn held_together(held: &[Held]) -> Vec<Vec<&Held>> {
    let mut all: Vec<Vec<&Held>> = Vec::new();
    let mut known: HashMap<(Edit<'_>, &[Because]), usize> = HashMap::new();
    for one in held {
        let at = edit_of(&one.step).map(|edit| {
            let next = all.len();
            *known.entry((edit, &one.because)).or_insert(next)
        });
        match at.and_then(|at| all.get_mut(at)) {
            Some(together) => together.push(one),
            None => all.push(vec![one]),
        }
    }
    all
}

/// The first line of a document, and what it declares.
type Begin = (u32, Option<String>);

/// The names of documents by their places. A file is read when somebody asks about it.
pub struct Documents<'a> {
    files: &'a [(String, String)],
    read: RefCell<HashMap<&'a str, Vec<Begin>>>,
}

impl<'a> Documents<'a> {
    /// Of the files of a source.
    pub fn of(files: &'a [(String, String)]) -> Self {
        Self {
            files,
            read: RefCell::default(),
        }
    }

    /// The object that is declared where something was written: `profile/web`.
    pub fn name(&self, origin: &Origin) -> Option<String> {
        let (file, text) = self.files.iter().find(|(name, _)| **name == *origin.file)?;
        let mut read = self.read.borrow_mut();
        let documents = read.entry(file).or_insert_with(|| {
            let (nodes, _) = parse(file, text);
            nodes
                .iter()
                .map(|node| (node.place.line, named(node)))
                .collect()
        });
        let own = documents.iter().rfind(|(line, _)| *line <= origin.line);
        own.and_then(|(_, name)| name.clone())
    }
}

fn named(node: &Node) -> Option<String> {
    let kind = Kind::from_word(node.get("kind")?.text()?)?;
    let name = node.get("metadata")?.get("name")?.text()?;
    Some(text::visible(&format!("{}/{name}", kind.word())))
}
