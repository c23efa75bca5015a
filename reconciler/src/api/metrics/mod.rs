//! Numbers for Prometheus: `/metrics`. `text` has the format; here is what is told. The names are those that the rules and
//! the dashboard in `examples/observability` ask for (a test holds that).

mod text;

use std::collections::BTreeMap;

use axum::extract::{Extension, State};
use axum::http::header;
use axum::response::IntoResponse;
use jiff::Timestamp;
use manifests::kind::Kind;
use manifests::path_io;

use self::text::{Page, Sort};
use super::objects::health_words;
use super::who::Caller;
use super::{Api, Problem};
use crate::controller::metrics::Counted;
use crate::controller::picture::{Accord, Picture};
use crate::controller::standing::{SourceStanding, Standing};
use crate::session::Session;
use crate::snapshots::stand::Stand;

/// The kind of text that is answered.
const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<impl IntoResponse, Problem> {
    if !caller.sees_all() {
        return Err(Problem::forbidden(
            "the numbers are of the whole host, and you see some projects only",
        ));
    }
    let (standing, picture) = (api.handle.standing(), api.handle.picture());
    let now = api.desk.session().clock.now();
    let counted = api.handle.metrics().counted();
    Ok((
        [(header::CONTENT_TYPE, KIND)],
        page(&standing, &picture, &counted, now),
    ))
}

/// All that is told.
pub(super) fn page(
    standing: &Standing,
    picture: &Picture,
    counted: &Counted,
    now: Timestamp,
) -> String {
    let mut page = Page::default();
    page.begin("keel_build_info", Sort::Gauge, "Which keel this is.")
        .add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.gauge(
        "keel_booted",
        "Whether what should run after a start of the host was started.",
        yes(standing.booted),
    );
    let mut looked = page.begin(
        "keel_last_look_timestamp_seconds",
        Sort::Gauge,
        "When the host was last looked at.",
    );
    if let Some(at) = picture.at {
        looked.add(&[], seconds(at));
    }
    sources(&mut page, standing, picture);
    objects(&mut page, standing, picture, now);
    suspensions(&mut page, standing, now);
    stores(&mut page, picture, now);
    work(&mut page, counted);
    requests(&mut page, counted);
    process(&mut page);
    page.text()
}

const fn yes(so: bool) -> f64 {
    if so { 1.0 } else { 0.0 }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "no count reaches 2^52")]
const fn number(count: u64) -> f64 {
    count as f64
}

fn count(count: usize) -> f64 {
    number(u64::try_from(count).unwrap_or(u64::MAX))
}

/// How the sources stand.
fn sources(page: &mut Page, standing: &Standing, picture: &Picture) {
    let mut info = page.begin(
        "keel_source_info",
        Sort::Gauge,
        "What is in force of a source.",
    );
    for (name, looked) in &picture.sources {
        let commit = looked.in_force.commit.as_deref().unwrap_or_default();
        let labels = [
            ("source", name.as_str()),
            ("revision", &looked.in_force.label()),
            ("commit", commit),
        ];
        info.add(&labels, 1.0);
    }
    type Of<'a> = dyn Fn(&SourceStanding) -> Option<f64> + 'a;
    let plan = |source: &SourceStanding| picture.sources.get(&source.name).map(|one| &one.plan);
    let told: [(&'static str, &str, &Of<'_>); 14] = [
        (
            "keel_source_settled",
            "Whether all that is in force was done.",
            &|one| Some(yes(one.settled)),
        ),
        (
            "keel_source_unreachable",
            "Whether a source cannot be looked at, or must not be followed.",
            &|one| Some(yes(one.unreachable.is_some())),
        ),
        (
            "keel_source_invalid",
            "Whether a newer revision has errors in it.",
            &|one| Some(yes(one.invalid.is_some())),
        ),
        (
            "keel_source_failed",
            "Whether nothing could be done as a whole.",
            &|one| Some(yes(one.failed.is_some())),
        ),
        (
            "keel_source_stopped",
            "Whether guards stop its plan until somebody answers for it.",
            &|one| plan(one).map(|plan| yes(!plan.stopping.is_empty())),
        ),
        (
            "keel_source_pinned",
            "Whether a person keeps a revision in force.",
            &|one| Some(yes(one.pinned.is_some())),
        ),
        (
            "keel_source_failures",
            "How often in a row it could not be looked at.",
            &|one| {
                let times = one.unreachable.as_ref().map_or(0, |trouble| trouble.times);
                Some(f64::from(times))
            },
        ),
        (
            "keel_source_last_fetch_timestamp_seconds",
            "When it was last looked at with success.",
            &|one| one.fetched_at.map(seconds),
        ),
        (
            "keel_source_commit_timestamp_seconds",
            "When what is in force was committed.",
            &|one| {
                let looked = picture.sources.get(&one.name)?;
                looked.in_force.about.committed_at.map(seconds)
            },
        ),
        (
            "keel_last_reconcile_timestamp_seconds",
            "When it was last brought to where it shall be, or that was tried.",
            &|one| one.reconciled_at.map(seconds),
        ),
        (
            "keel_waiting_steps",
            "How many steps are left to do.",
            &|one| plan(one).map(|plan| count(plan.steps.len())),
        ),
        (
            "keel_held_steps",
            "How many steps are held by a guard.",
            &|one| plan(one).map(|plan| count(plan.held.len())),
        ),
        (
            "keel_resting_objects",
            "How many objects failed and are left alone for a while.",
            &|one| Some(count(one.resting.len())),
        ),
        (
            "keel_contended_fields",
            "How many fields somebody else changes back each time.",
            &|one| Some(count(one.contended.len())),
        ),
    ];
    for (name, help, value) in told {
        let mut family = page.begin(name, Sort::Gauge, help);
        for source in &standing.sources {
            if let Some(value) = value(source) {
                family.add(&[("source", source.name.as_str())], value);
            }
        }
    }
}

/// How many objects stand how.
fn objects(page: &mut Page, standing: &Standing, picture: &Picture, now: Timestamp) {
    let mut states: BTreeMap<(&str, Kind, Accord), usize> = BTreeMap::new();
    for (name, looked) in &picture.sources {
        for (address, stands) in &looked.objects {
            let key = (name.as_str(), address.kind, stands.accord);
            *states.entry(key).or_default() += 1;
        }
    }
    let mut family = page.begin(
        "keel_objects",
        Sort::Gauge,
        "How many objects stand so to their manifest.",
    );
    for ((source, kind, accord), all) in &states {
        let labels = [
            ("source", *source),
            ("kind", kind.word()),
            ("state", accord.word()),
        ];
        family.add(&labels, count(*all));
    }
    let mut drifted: BTreeMap<(&str, Kind), usize> = BTreeMap::new();
    for ((source, kind, accord), all) in states {
        let is_so = matches!(accord, Accord::Drifted | Accord::Missing);
        *drifted.entry((source, kind)).or_default() += if is_so { all } else { 0 };
    }
    let mut family = page.begin(
        "keel_drift_objects",
        Sort::Gauge,
        "How many objects the world changed or removed.",
    );
    for ((source, kind), all) in drifted {
        family.add(&[("source", source), ("kind", kind.word())], count(all));
    }
    let mut healths: BTreeMap<(String, &str, &str), usize> = BTreeMap::new();
    for (source, kind, health) in health_words(standing, picture, now) {
        *healths.entry((source, kind, health)).or_default() += 1;
    }
    let mut family = page.begin(
        "keel_object_health",
        Sort::Gauge,
        "How many objects are so.",
    );
    for ((source, kind, health), all) in healths {
        let labels = [("source", &*source), ("kind", kind), ("health", health)];
        family.add(&labels, count(all));
    }
}

fn suspensions(page: &mut Page, standing: &Standing, now: Timestamp) {
    let mut family = page.begin(
        "keel_suspended_since_timestamp_seconds",
        Sort::Gauge,
        "Since when something is suspended.",
    );
    for (scope, suspension) in &standing.suspensions {
        if !suspension.is_over(now) {
            let what = scope.to_string();
            family.add(&[("what", &what)], seconds(suspension.since));
        }
    }
}

/// Pools, networks, snapshots and the trash.
fn stores(page: &mut Page, picture: &Picture, now: Timestamp) {
    let observed = picture.world.as_ref().map(|world| &world.observed);
    let of_kind = |kind: Kind| {
        let items = observed.into_iter().flat_map(|observed| &observed.items);
        items.filter(move |item| item.address.kind == kind && item.mark.is_some())
    };
    for (name, help, field) in [
        (
            "keel_pool_used_bytes",
            "How much of what a pool stands on is used.",
            "used",
        ),
        (
            "keel_pool_size_bytes",
            "How large what a pool stands on is.",
            "total",
        ),
        (
            "keel_pool_trash_bytes",
            "How much of it lies in the trash.",
            "trash",
        ),
    ] {
        let mut family = page.begin(name, Sort::Gauge, help);
        for item in of_kind(Kind::StoragePool) {
            if let Some(bytes) = item.status[field].as_f64() {
                family.add(&[("pool", &item.address.name)], bytes);
            }
        }
    }
    let mut family = page.begin(
        "keel_network_leases",
        Sort::Gauge,
        "How many leases a network has given.",
    );
    for item in of_kind(Kind::Network) {
        let leases = item.status["leases"].as_array().map_or(0, Vec::len);
        let name = item.address.to_string();
        family.add(&[("network", &name)], count(leases));
    }
    let trash = observed.map_or(0, |observed| observed.trash.len());
    page.gauge(
        "keel_trash_objects",
        "How many objects lie in the trash.",
        count(trash),
    );
    let unclear = observed.map_or(0, |observed| observed.unclear.len());
    page.gauge(
        "keel_unclear_objects",
        "Of how many objects it could not be told whether they are there.",
        count(unclear),
    );
    schedules(page, picture, now);
}

fn schedules(page: &mut Page, picture: &Picture, now: Timestamp) {
    let mut all: Vec<(String, Stand)> = Vec::new();
    if let Some(world) = &picture.world {
        let named = world.observed.items.iter();
        let names: BTreeMap<_, _> = named
            .filter_map(|item| Some((item.mark.as_ref()?.uid, item.address.to_string())))
            .collect();
        let stands = Session::stands_in(&world.known, &world.observed, now);
        let stands = stands.into_iter();
        all.extend(stands.filter_map(|(uid, stand)| Some((names.get(&uid)?.clone(), stand))));
    }
    type Of = fn(&Stand) -> Option<f64>;
    let told: [(&'static str, &str, Of); 3] = [
        (
            "keel_snapshots_missed",
            "How many snapshots and backups of a schedule are overdue.",
            |stand| Some(count(stand.missed.len())),
        ),
        (
            "keel_schedule_last_run_timestamp_seconds",
            "When a schedule ran last.",
            |stand| stand.last_run.map(seconds),
        ),
        (
            "keel_schedule_next_run_timestamp_seconds",
            "When a schedule runs next.",
            |stand| stand.next_run.map(seconds),
        ),
    ];
    for (name, help, value) in told {
        let mut family = page.begin(name, Sort::Gauge, help);
        for (schedule, stand) in &all {
            if let Some(value) = value(stand) {
                family.add(&[("schedule", schedule)], value);
            }
        }
    }
}

/// What was done.
fn work(page: &mut Page, counted: &Counted) {
    page.histograms(
        "keel_reconcile_duration_seconds",
        "How long it took to bring a source to where it shall be.",
        "source",
        counted.took.iter().map(|(name, one)| (name.as_str(), one)),
    );
    let mut family = page.begin(
        "keel_reconcile_total",
        Sort::Counter,
        "How often a source was reconciled, by how that ended.",
    );
    for ((source, result), times) in &counted.reconciles {
        family.add(
            &[("source", source.as_str()), ("result", result)],
            number(*times),
        );
    }
    let mut family = page.begin(
        "keel_last_success_timestamp_seconds",
        Sort::Gauge,
        "When all of a source was as it should be the last time.",
    );
    for (source, at) in &counted.succeeded_at {
        family.add(&[("source", source.as_str())], seconds(*at));
    }
    let mut family = page.begin(
        "keel_steps_total",
        Sort::Counter,
        "With how many objects something was done, and whether it succeeded.",
    );
    for ((source, kind, succeeded), times) in &counted.steps {
        let result = if *succeeded { "succeeded" } else { "failed" };
        let labels = [
            ("source", source.as_str()),
            ("kind", kind.word()),
            ("result", result),
        ];
        family.add(&labels, number(*times));
    }
    let mut family = page.begin(
        "keel_corrections_total",
        Sort::Counter,
        "How many fields drifted and were put back.",
    );
    for ((source, kind), times) in &counted.corrections {
        family.add(
            &[("source", source.as_str()), ("kind", kind.word())],
            number(*times),
        );
    }
    let mut family = page.begin(
        "keel_source_fetch_total",
        Sort::Counter,
        "How often a source was looked at, by how that ended.",
    );
    for ((source, result), times) in &counted.fetches {
        family.add(
            &[("source", source.as_str()), ("result", result)],
            number(*times),
        );
    }
}

/// Who asked what.
fn requests(page: &mut Page, counted: &Counted) {
    let mut family = page.begin(
        "keel_api_requests_total",
        Sort::Counter,
        "How many questions were answered.",
    );
    for ((method, route, status), times) in &counted.requests {
        let code = status.to_string();
        let labels = [("method", *method), ("route", route), ("code", &code)];
        family.add(&labels, number(*times));
    }
    page.histograms(
        "keel_api_request_duration_seconds",
        "How long answers took; of streams, until they began.",
        "route",
        counted.answered.iter().map(|(route, one)| (*route, one)),
    );
}

/// What the process itself takes, by the names that every exporter has for it.
fn process(page: &mut Page) {
    let statm = path_io::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse::<f64>().ok());
    let mut family = page.begin(
        "process_resident_memory_bytes",
        Sort::Gauge,
        "Resident memory size in bytes.",
    );
    if let Some(pages) = pages {
        family.add(&[], pages * count(rustix::param::page_size()));
    }
    let mut family = page.begin(
        "process_open_fds",
        Sort::Gauge,
        "Number of open file descriptors.",
    );
    if let Ok(open) = path_io::list("/proc/self/fd") {
        family.add(&[], count(open.len()));
    }
}

/// The names of all numbers that are told.
#[cfg(test)]
fn names() -> std::collections::BTreeSet<String> {
    let text = page(
        &Standing::default(),
        &Picture::default(),
        &Counted::default(),
        Timestamp::UNIX_EPOCH,
    );
    let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut names = std::collections::BTreeSet::new();
    for head in heads {
        let (name, sort) = head.split_once(' ').unwrap_or((head, ""));
        if sort == "histogram" {
            names.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
        } else {
            names.insert(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_rules_and_dashboard_ask_for_is_told() {
        let names = names();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/observability");
        let mut asked = 0;
        for file in path_io::list(folder).expect("the examples") {
            let text = path_io::read_to_string(&file).expect("a text");
            let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
            for word in text.split(|character| !is_part(character)) {
                if word.starts_with("keel_") {
                    assert!(names.contains(word), "{}: {word}", file.display());
                    asked += 1;
                }
            }
        }
        assert!(asked > 20, "{asked}");
    }
}
