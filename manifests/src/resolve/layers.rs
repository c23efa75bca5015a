//! Layers: the documents of bases, changed by patches, with a prefix before their names, and those of the source itself.
//!
//! A base is a folder of manifests, with a `keel.yaml` of its own if it has something to say. In each layer the documents
//! of its bases come first and its own then; its patches change all of them, then its `namePrefix` is put before their
//! names. `forEach` comes last, so that patches may change it.
//!
//! What `keel.yaml` of a layer says counts for the documents of the layer and of all under it: `lifecycle`, `defaults`
//! and `project` of the outer one win. Variables have one value in the whole source: that of the outermost layer that
//! declares them; two bases that differ are an error until a layer over both says which. `host`, `budget`, `windows` and `trash`
//! are those of the outermost layer that has them, `external` those of all together; `name` is only the source's own.
//!
//! A base that comes in twice, by two others, is made twice: with different prefixes these are two sets of objects. Where
//! both ways make the same of a document it counts once, else it is declared twice, which is an error.

use super::*;
use crate::folder;
use crate::substitute::{Group, Known};
use source::Source;
use variables::Variables;

/// A base that cannot be taken.
pub const BAD_BASE: Code = Code("E0117");

/// Layers are made at most so often, counting each way to one.
const MOST_WAYS: usize = 1000;

/// One document on its way through the layers.
pub(super) struct Written {
    pub(super) node: Node,
    /// What counts for it, by index.
    pub(super) scope: usize,
}

/// What the layers of a document say about all of theirs.
#[derive(Default, PartialEq)]
pub(super) struct Scope {
    /// Each counts over those before it.
    pub(super) lifecycle: Vec<WrittenLifecycle>,
    /// What specs of a kind have where they do not say.
    pub(super) defaults: BTreeMap<Kind, Node>,
    /// The project of what names none.
    pub(super) project: Option<String>,
}

/// What a layer and all under it come to.
#[derive(Default)]
pub(super) struct Layered {
    pub(super) documents: Vec<Written>,
    pub(super) scopes: Vec<Scope>,
}

impl Layered {
    fn append(&mut self, other: Self) {
        let before = self.scopes.len();
        self.scopes.extend(other.scopes);
        let moved = other.documents.into_iter().map(|one| Written {
            scope: one.scope + before,
            ..one
        });
        self.documents.extend(moved);
    }
}

/// A source with its layers put together.
pub(super) struct Whole {
    pub(super) layered: Layered,
    pub(super) written: WrittenSource,
    /// Referenced here, owned elsewhere.
    pub(super) external: BTreeSet<Address>,
    /// As bases say; another layer may declare it.
    pub(super) external_to_bases: BTreeSet<Address>,
    /// How many documents there are in all files.
    pub(super) count: usize,
}

/// One folder.
#[derive(Default)]
struct Layer {
    /// The document of its `keel.yaml`.
    source: Option<Node>,
    bases: Vec<String>,
    documents: Vec<Node>,
    said: Source,
}

/// Parses all files and puts the layers together.
pub(super) fn put_together(texts: &Texts, found: &mut Diagnostics) -> Whole {
    let mut sources = BTreeMap::new();
    let mut others = Vec::new();
    for (file, text) in &texts.files {
        let (documents, wrong) = parse(file, text);
        found.extend(wrong);
        let folder = folder::of(file);
        if file[folder.len()..].trim_start_matches('/') == SOURCE_FILE {
            sources.insert(folder.to_owned(), documents);
        } else {
            others.push((file.as_str(), documents));
        }
    }
    let mut finder = Finder {
        texts,
        sources,
        layers: BTreeMap::new(),
        order: Vec::new(),
    };
    finder.find(String::new(), &mut Vec::new(), found);
    let Finder {
        sources,
        mut layers,
        order,
        ..
    } = finder;
    for folder in sources.keys() {
        if owner(&layers, folder).is_some() {
            found.push(nested(folder));
        }
    }
    let mut count = 0;
    for (file, documents) in others {
        let owner = owner(&layers, file).map(str::to_owned);
        if let Some(layer) = owner.and_then(|folder| layers.get_mut(&folder)) {
            let documents = documents.into_iter().filter(|one| !is_encrypted(one));
            let before = layer.documents.len();
            layer.documents.extend(documents);
            count += layer.documents.len() - before;
        }
    }
    let known = known(&layers, &order, found);
    for layer in layers.values_mut() {
        if let Some(node) = &layer.source {
            layer.said = source::read_source(node.clone(), &known, found);
        }
        for node in &mut layer.documents {
            substitute::fill(node, Group::Variables, &known, found);
        }
    }
    let mut ways = 0;
    let mut layered = made("", &mut layers, &mut ways, found);
    if ways > MOST_WAYS {
        let message = format!("there are more than {MOST_WAYS} ways to the bases of this source");
        found.push(
            Diagnostic::error(BAD_BASE, beginning(SOURCE_FILE), message)
                .hint("name a base in one layer over all that need it"),
        );
    }
    for one in &mut layered.documents {
        paths::from_root(&mut one.node, &texts.root);
    }
    let mut whole = Whole {
        layered,
        written: WrittenSource::default(),
        external: BTreeSet::new(),
        external_to_bases: BTreeSet::new(),
        count,
    };
    // The source itself is the last of the order.
    for folder in order.iter().rev() {
        if let Some(layer) = layers.remove(folder) {
            whole.say(folder.is_empty(), layer.said);
        }
    }
    whole
}

impl Whole {
    /// Takes what a layer says of the source as a whole; where an outer one has said it, that counts.
    fn say(&mut self, is_source: bool, said: Source) {
        let written = said.written;
        if is_source {
            self.written = written;
            self.external = said.external;
            return;
        }
        self.external_to_bases.extend(said.external);
        self.written.host = self.written.host.take().or(written.host);
        self.written.budget = self.written.budget.take().or(written.budget);
        self.written.windows = self.written.windows.take().or(written.windows);
        self.written.trash = self.written.trash.take().or(written.trash);
    }
}

/// The folder of the innermost layer that a file belongs to.
fn owner<'a>(layers: &'a BTreeMap<String, Layer>, name: &str) -> Option<&'a str> {
    let holders = layers
        .keys()
        .filter(|folder| folder::holds(folder, name))
        .map(String::as_str);
    holders.reduce(|outer, other| {
        if folder::holds(outer, other) {
            other
        } else {
            outer
        }
    })
}

fn beginning(file: &str) -> Origin {
    Origin {
        file: file.into(),
        line: 1,
        ..Origin::default()
    }
}

fn nested(folder: &str) -> Diagnostic {
    let origin = beginning(&format!("{folder}/{SOURCE_FILE}"));
    Diagnostic::error(NESTED, origin, "a source within a source")
        .hint("name its folder in .keelignore, or take this keel.yaml away")
        .note("each object has one source: the folder above has a keel.yaml as well")
}

/// Finds the layers by what each names under `bases`.
struct Finder<'a> {
    texts: &'a Texts,
    /// The documents of each `keel.yaml` that was not asked yet, by folder.
    sources: BTreeMap<String, Vec<Node>>,
    layers: BTreeMap<String, Layer>,
    /// Each layer after those under it.
    order: Vec<String>,
}

impl Finder<'_> {
    fn find(&mut self, folder: String, chain: &mut Vec<String>, found: &mut Diagnostics) {
        let nodes = self.sources.remove(&folder).unwrap_or_default();
        let source = source::the_one(nodes, found);
        let mut bases = Vec::new();
        chain.push(folder.clone());
        let written = source.as_ref().and_then(|node| node.get("bases"));
        if let Some(Value::List(items)) = written.map(|bases| &bases.value) {
            for (index, item) in items.iter().enumerate() {
                // What is no text is told when keel.yaml is read.
                let Some(text) = substitute::text(&item.value) else {
                    continue;
                };
                match self.base(&folder, text, chain) {
                    Ok(base) => {
                        if !self.layers.contains_key(&base) {
                            self.find(base.clone(), chain, found);
                        }
                        bases.push(base);
                    }
                    Err(why) => found.push(
                        Diagnostic::error(BAD_BASE, item.place.origin(), why)
                            .at(Pointer::new("/bases").index(index)),
                    ),
                }
            }
        }
        chain.pop();
        let layer = Layer {
            source,
            bases,
            ..Layer::default()
        };
        self.layers.insert(folder.clone(), layer);
        self.order.push(folder);
    }

    /// The folder that a base is, or what is wrong with it.
    fn base(&self, folder: &str, text: &str, chain: &[String]) -> Result<String, String> {
        let short: String = text.chars().take(60).collect();
        let short = short.escape_debug();
        if text.contains("${var.") {
            return Err(format!(
                "`{short}`: the path of a base has no variables in it"
            ));
        }
        let Some(base) = folder::join(&self.texts.root, folder, text) else {
            return Err(format!(
                "`{short}` is a place of the host: a base is named relative to the keel.yaml that stands on it"
            ));
        };
        if let Some(begin) = chain.iter().position(|above| *above == base) {
            let circle = chain[begin..].iter().chain([&base]);
            let circle: Vec<&str> = circle.map(|folder| folder::shown(folder)).collect();
            return Err(format!(
                "these layers stand on each other: {}",
                circle.join(" → ")
            ));
        }
        if let Some(why) = self.texts.refused.get(&base) {
            return Err(format!("`{short}` {why}"));
        }
        let mut files = self.texts.files.iter();
        if !files.any(|(file, _)| folder::holds(&base, file)) {
            return Err(format!("`{short}` has no manifests"));
        }
        Ok(base)
    }
}

/// What variables stand for in the whole source.
fn known(layers: &BTreeMap<String, Layer>, order: &[String], found: &mut Diagnostics) -> Known {
    let mut declared: BTreeMap<&str, Variables> = BTreeMap::new();
    for folder in order {
        let mut variables = Variables::default();
        let Some(layer) = layers.get(folder) else {
            continue;
        };
        for below in layer
            .bases
            .iter()
            .filter_map(|base| declared.get(base.as_str()))
        {
            variables.add(below);
        }
        variables.declare(layer.source.as_ref(), found);
        declared.insert(folder, variables);
    }
    declared.remove("").unwrap_or_default().known()
}

/// What a layer and all under it come to.
fn made(
    folder: &str,
    layers: &mut BTreeMap<String, Layer>,
    ways: &mut usize,
    found: &mut Diagnostics,
) -> Layered {
    let mut all = Layered::default();
    *ways += 1;
    if *ways > MOST_WAYS {
        return all;
    }
    let bases = layers.get(folder).map(|layer| layer.bases.clone());
    for base in bases.unwrap_or_default() {
        all.append(made(&base, layers, ways, found));
    }
    let Some(layer) = layers.get_mut(folder) else {
        return all;
    };
    let scope = all.scopes.len();
    all.scopes.push(Scope::default());
    let own = if folder.is_empty() {
        std::mem::take(&mut layer.documents)
    } else {
        layer.documents.clone()
    };
    all.documents
        .extend(own.into_iter().map(|node| Written { node, scope }));
    for patch in &layer.said.patches {
        patch.apply(&mut all.documents, found);
    }
    let said = &layer.said;
    for scope in &mut all.scopes {
        if said.written.lifecycle != WrittenLifecycle::default() {
            scope.lifecycle.push(said.written.lifecycle.clone());
        }
        for (kind, defaults) in &said.defaults {
            match scope.defaults.get_mut(kind) {
                Some(below) => merge::spec(below, defaults),
                None => {
                    scope.defaults.insert(*kind, defaults.clone());
                }
            }
        }
        if said.written.project.is_some() {
            scope.project.clone_from(&said.written.project);
        }
    }
    if !said.written.name_prefix.is_empty() {
        prefix::put(&said.written.name_prefix, &mut all);
    }
    all
}

/// A document that SOPS encrypted lies among manifests and is none: a Secret names it.
fn is_encrypted(document: &Node) -> bool {
    let is_map = |node: &Node| matches!(node.value, Value::Map(_));
    document.get("sops").is_some_and(is_map) && document.get("apiVersion").is_none()
}
