//! G117: what lies in the trash counts in the limits of a project.

use std::collections::BTreeMap;

use manifests::action::Verb;
use manifests::diagnostic::Code;
use manifests::kind::Spec;
use manifests::kinds::project::ProjectLimits;
use manifests::quota::disk_of;
use manifests::scalar::byte_size::ByteSize;

use super::{Check, Findings, Gate, Subject};
use crate::plan::{Because, PlanInput, Step};

pub(super) const GATE: Gate = Gate {
    code: Code("G117"),
    title: "a project would have more on disk than it may, with its trash",
    explanation: "What is declared fits the limits of the project. With what of it lies in the trash, and what this plan \
                  puts there, it would have more than `limits.disk` or `limits.diskPools` say, so nothing that takes more is \
                  made. `keel trash empty KIND/NAME` makes room, `--approve G117` lets this plan do it.",
    approvable: true,
    check: Check::Together(check),
};

/// Bytes by pool.
type ByPool<'a> = BTreeMap<&'a str, u64>;

fn add<'a>(sums: &mut ByPool<'a>, spec: &'a Spec) {
    if let Some(disk) = disk_of(spec) {
        let sum = sums.entry(disk.pool).or_default();
        *sum = sum.saturating_add(disk.size.unwrap_or(0));
    }
}

fn check(subjects: &[Subject<'_>], input: &PlanInput<'_>) -> Findings {
    let mut found = Findings::new();
    for project in &input.desired.projects {
        if let Spec::Project(spec) = &project.spec {
            one(
                subjects,
                input,
                &project.address.name,
                &spec.limits,
                &mut found,
            );
        }
    }
    found
}

fn one(
    subjects: &[Subject<'_>],
    input: &PlanInput<'_>,
    project: &str,
    limits: &ProjectLimits,
    found: &mut Findings,
) {
    if limits.disk.is_none() && limits.disk_pools.is_empty() {
        return;
    }
    let source = &input.desired.source.name;
    let (mut wanted, mut trash) = (ByPool::new(), ByPool::new());
    for resource in input.desired.declared() {
        if resource.address.project_name() == project {
            add(&mut wanted, &resource.spec);
        }
    }
    for trashed in &input.observed.trash {
        if trashed.mark.source == *source
            && trashed.address.project_name() == project
            && let Some(was) = &trashed.was
        {
            add(&mut trash, &was.spec);
        }
    }
    let of_it = |subject: &&Subject<'_>| subject.step.address().project_name() == project;
    for subject in subjects.iter().filter(of_it) {
        if let (Verb::Trash { .. }, Some(live)) = (&subject.step.action.verb, subject.live()) {
            add(&mut trash, &live.spec);
        }
        // It is there once, under the name that it had.
        if let (Verb::Restore, Some(resource)) = (
            &subject.step.action.verb,
            input.desired.resources.get(subject.step.address()),
        ) && let Some(disk) = disk_of(&resource.spec)
            && let Some(sum) = trash.get_mut(disk.pool)
        {
            *sum = sum.saturating_sub(disk.size.unwrap_or(0));
        }
    }
    let total = |sums: &ByPool<'_>| {
        sums.values()
            .fold(0, |sum: u64, one| sum.saturating_add(*one))
    };
    let most = limits
        .disk
        .as_ref()
        .map(|most| (None, most, total(&wanted), total(&trash)));
    let by_pool = limits.disk_pools.iter().map(|(pool, most)| {
        let of = |sums: &ByPool<'_>| sums.get(pool.as_str()).copied().unwrap_or(0);
        (Some(pool.as_str()), most, of(&wanted), of(&trash))
    });
    for (pool, most, wanted, trash) in most.into_iter().chain(by_pool) {
        if trash == 0 || wanted.saturating_add(trash) <= most.bytes() {
            continue;
        }
        let of = pool.map_or_else(|| "disk".to_owned(), |pool| format!("pool {pool}"));
        let size = |bytes| ByteSize::from_bytes(bytes).to_string();
        let message = format!(
            "project {project} may have {most} of {of}: {} are declared, and its trash holds {} by then",
            size(wanted),
            size(trash)
        );
        for (index, subject) in subjects.iter().enumerate() {
            if of_it(&subject) && takes_more(subject.step, input, pool) {
                let because = Because {
                    code: GATE.code,
                    message: message.clone(),
                    until: None,
                };
                found.push((index, because));
            }
        }
    }
}

/// Whether a step makes a disk or changes the size of one, in this pool where one is named.
fn takes_more(step: &Step, input: &PlanInput<'_>, pool: Option<&str>) -> bool {
    let wanted = input.desired.resources.get(step.address());
    let Some(disk) = wanted.and_then(|resource| disk_of(&resource.spec)) else {
        return false;
    };
    let changes_it = || {
        step.changes
            .iter()
            .any(|planned| planned.change.path == disk.at)
    };
    pool.is_none_or(|pool| pool == disk.pool)
        && match &step.action.verb {
            Verb::Create => true,
            Verb::Update { .. } => changes_it(),
            _ => false,
        }
}
