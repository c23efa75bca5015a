//! What is managed: `/v1/objects`, and one of it with what is wanted beside what is there.

use std::collections::{BTreeMap, HashMap, HashSet};

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use jiff::Timestamp;
use manifests::desired::Resource;
use manifests::id::{Address, SourceName};
use manifests::kind::{Kind, Spec};
use manifests::kinds::instance::PowerState;
use manifests::observed::Item;
use manifests::secret::as_written;
use serde::Deserialize;
use serde_json::{Value, json};

use super::documents::{
    BecauseDocument, FieldDocument, ObjectDocument, ObjectRow, PlaceDocument, TroubleDocument, time,
};
use super::who::Caller;
use super::{Api, Problem};
use crate::controller::picture::{Accord, Looked, Picture, Stands};
use crate::controller::standing::{SourceStanding, Standing};
use crate::labels::Selector;
use crate::plan::{Plan, health_of, state_of};
use crate::view::objects;

/// Which objects.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Which {
    kind: Option<String>,
    project: Option<String>,
    source: Option<String>,
    sync: Option<String>,
    health: Option<String>,
    /// Of labels, as `-l` has it.
    selector: Option<String>,
    /// A part of the name.
    search: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<ObjectRow>>, Problem> {
    let kind = match &which.kind {
        None => None,
        Some(word) => Some(Kind::from_word(word).ok_or_else(|| no_kind(word))?),
    };
    let selector: Option<Selector> = match &which.selector {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|error| Problem::bad(format!("{error}")))?,
        ),
    };
    let (standing, picture) = (api.handle.standing(), api.handle.picture());
    let shown = Shown::new(&standing, &picture, api.desk.session().clock.now());
    let wanted = |one: &One<'_>| {
        let address = one.address;
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        caller.sees(address)
            && kind.is_none_or(|kind| address.kind == kind)
            && is(&which.project, address.project_name())
            && !(which.project.is_some() && address.kind.belongs_to_host())
            && is(&which.source, one.source.as_str())
            && is(&which.sync, one.stands.accord.word())
            && (which.search.as_ref()).is_none_or(|part| address.to_string().contains(part))
            && selector.as_ref().is_none_or(|selector| {
                one.resource
                    .is_some_and(|resource| selector.selects(&resource.labels))
            })
    };
    let rows = shown.all().filter(wanted).map(|one| shown.row(&one));
    let healthy = |row: &ObjectRow| which.health.as_ref().is_none_or(|word| *word == row.health);
    Ok(Json(rows.filter(healthy).collect()))
}

pub(super) async fn one(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<ObjectDocument>, Problem> {
    Kind::from_word(&kind).ok_or_else(|| no_kind(&kind))?;
    let address: Address = format!("{kind}/{name}")
        .parse()
        .map_err(|error| Problem::bad(format!("{error}")))?;
    let (standing, picture) = (api.handle.standing(), api.handle.picture());
    let shown = Shown::new(&standing, &picture, api.desk.session().clock.now());
    let found = shown.all().find(|one| *one.address == address);
    match found.filter(|_| caller.sees(&address)) {
        Some(one) => Ok(Json(shown.document(&one))),
        None => Err(Problem::not_there(format!("no source has {address}"))),
    }
}

fn no_kind(word: &str) -> Problem {
    let problem = Problem::bad(format!("`{word}` is no kind"));
    match Kind::nearest(word).first() {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem,
    }
}

/// One object of one source.
struct One<'a> {
    source: &'a SourceName,
    looked: &'a Looked,
    address: &'a Address,
    stands: &'a Stands,
    resource: Option<&'a Resource>,
}

/// What is shown at one moment.
struct Shown<'a> {
    standing: &'a Standing,
    picture: &'a Picture,
    live: HashMap<&'a Address, &'a Item>,
    /// Whatever a guard holds.
    held: HashSet<&'a Address>,
    now: Timestamp,
}

impl<'a> Shown<'a> {
    fn new(standing: &'a Standing, picture: &'a Picture, now: Timestamp) -> Self {
        let items = picture.world.iter().flat_map(|world| &world.observed.items);
        let held = picture
            .sources
            .values()
            .flat_map(|looked| &looked.plan.held);
        Self {
            held: held.map(|held| held.step.address()).collect(),
            standing,
            picture,
            live: items.map(|item| (&item.address, item)).collect(),
            now,
        }
    }

    fn all(&self) -> impl Iterator<Item = One<'a>> {
        self.picture.sources.iter().flat_map(|(source, looked)| {
            looked.objects.iter().map(move |(address, stands)| One {
                source,
                looked,
                address,
                stands,
                resource: looked.in_force.desired.resources.get(address),
            })
        })
    }

    fn item(&self, one: &One<'_>) -> Option<&'a Item> {
        let live = one.stands.live.as_ref()?;
        self.live.get(live).copied()
    }

    fn row(&self, one: &One<'_>) -> ObjectRow {
        let (address, item) = (one.address, self.item(one));
        let source = self.standing.source(one.source);
        let suspended = self.standing.suspends(one.source, Some(address), self.now);
        let rests = source.and_then(|source| rest(source, address));
        let why = one.stands.why.clone();
        ObjectRow {
            id: address.to_string(),
            kind: address.kind.word().to_owned(),
            project: (!address.kind.belongs_to_host()).then(|| address.project_name().to_owned()),
            name: address.name.clone(),
            source: one.source.to_string(),
            sync: one.stands.accord.word().to_owned(),
            health: health(one, item, rests.is_some()).to_owned(),
            state: item.and_then(state_of),
            labels: one
                .resource
                .map(|resource| resource.labels.clone())
                .unwrap_or_default(),
            differing: one.stands.fields.len(),
            suspended: suspended.is_some(),
            held: self.held.contains(address),
            declared: one
                .resource
                .map(|resource| PlaceDocument::from(&resource.origin)),
            why: why
                .or_else(|| rests.map(|rests| rests.why))
                .or_else(|| suspended.map(|(_, suspension)| suspension.words())),
        }
    }

    fn document(&self, one: &One<'_>) -> ObjectDocument {
        let source = self.standing.source(one.source);
        let fields = one.stands.fields.iter().map(|field| FieldDocument {
            path: field.path.to_string(),
            desired: field.desired.clone(),
            live: field.live.clone(),
            cause: json!(field.cause),
            only_told: field.only_told,
            declared: PlaceDocument::from(&field.origin),
        });
        ObjectDocument {
            row: self.row(one),
            desired: one.resource.map(wanted),
            live: self.item(one).map(objects::document),
            fields: fields.collect(),
            kept: one.stands.kept,
            held_by: holds(&one.looked.plan, one.address)
                .map(BecauseDocument::from)
                .collect(),
            lines: one.resource.map(lines).unwrap_or_default(),
            resting: source.and_then(|source| rest(source, one.address)),
            looked_at: time(one.looked.at),
        }
    }
}

/// Where each written value stands.
fn lines(resource: &Resource) -> BTreeMap<String, PlaceDocument> {
    let mut lines = BTreeMap::new();
    resource.provenance.each(&mut |at, origin| {
        lines.insert(at.to_string(), PlaceDocument::from(&origin));
    });
    lines
}

/// How each object is: its source, its kind, and a word.
pub(super) fn health_words(
    standing: &Standing,
    picture: &Picture,
    now: Timestamp,
) -> Vec<(String, &'static str, &'static str)> {
    let shown = Shown::new(standing, picture, now);
    let word = |one: One<'_>| {
        let source = standing.source(one.source);
        let rests = source.is_some_and(|source| rest(source, one.address).is_some());
        let health = health(&one, shown.item(&one), rests);
        (one.source.to_string(), one.address.kind.word(), health)
    };
    shown.all().map(word).collect()
}

/// What is wanted, as a manifest.
fn wanted(resource: &Resource) -> Value {
    let mut metadata = json!({ "name": resource.address.name });
    if let Some(project) = &resource.address.project {
        metadata["project"] = json!(project);
    }
    if let Some(pool) = &resource.address.pool {
        metadata["pool"] = json!(pool);
    }
    if !resource.labels.is_empty() {
        metadata["labels"] = json!(resource.labels);
    }
    let mut document = json!({
        "apiVersion": "evenkeel/v1",
        "kind": resource.address.kind.name(),
        "metadata": metadata,
        "spec": resource.spec.to_value(),
    });
    as_written(&mut document);
    document
}

fn rest(source: &SourceStanding, address: &Address) -> Option<TroubleDocument> {
    let rest = source
        .resting
        .iter()
        .find(|rest| rest.address == *address)?;
    Some(TroubleDocument {
        why: rest.trouble.why.clone(),
        times: rest.trouble.times,
        since: time(rest.trouble.since),
        until: Some(time(rest.until)),
        object: None,
    })
}

fn holds<'a>(plan: &'a Plan, address: &Address) -> impl Iterator<Item = &'a crate::plan::Because> {
    let held = plan
        .held
        .iter()
        .filter(move |held| held.step.address() == address);
    held.flat_map(|held| &held.because)
}

/// How an object is, in one word.
fn health(one: &One<'_>, item: Option<&Item>, failed: bool) -> &'static str {
    let Some(item) = item else {
        return match one.stands.accord {
            Accord::Unclear => "unknown",
            Accord::New if !failed => "progressing",
            _ if failed => "degraded",
            _ => "missing",
        };
    };
    if failed {
        return "degraded";
    }
    if one.stands.accord == Accord::Incomplete {
        return "progressing";
    }
    match health_of(item).as_deref() {
        None => {}
        Some("healthy") => return "healthy",
        Some("starting") => return "progressing",
        Some(_) => return "degraded",
    }
    let Some(state) = state_of(item) else {
        return "healthy";
    };
    let wanted = one.resource.and_then(|resource| match &resource.spec {
        Spec::Instance(instance) => instance.state.0,
        _ => None,
    });
    match (state.as_str(), wanted) {
        ("Running", _) => "healthy",
        (_, Some(PowerState::Running)) => "degraded",
        _ => "stopped",
    }
}
