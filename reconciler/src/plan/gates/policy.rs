//! G106: what a policy denies is not done.

use manifests::desired::Resource;
use manifests::diagnostic::Code;
use manifests::kind::Spec;
use manifests::kinds::policy::{PlannedAction, Policy, PolicySeverity};
use serde_json::{Map, Value, json};

use super::{Check, Gate, Subject, Weighed};
use crate::plan::rules::{Asked, Case};
use crate::plan::{Allow, Because, Note, PlanInput, Step};

pub(super) const GATE: Gate = Gate {
    code: Code("G106"),
    title: "a policy denies the change",
    explanation: "A Policy of the source looks at changes of this kind, and its expression does not hold of this one; or \
                  it could not be weighed (a field that is not there, too long): what is in doubt is denied. The object's \
                  other changes wait with it, the rest goes on. Change what the manifest asks for, or the policy, in git: \
                  nothing on the command line passes it.",
    approvable: false,
    check: Check::Weighs(weigh),
};

fn weigh(subjects: &[Subject<'_>], input: &PlanInput<'_>) -> Weighed {
    let policies: Vec<(&Resource, &Policy)> = input
        .desired
        .policies
        .iter()
        .filter_map(|resource| match &resource.spec {
            Spec::Policy(policy) => Some((resource, &**policy)),
            _ => None,
        })
        .collect();
    if policies.is_empty() {
        return Weighed::default();
    }
    let declared = |step: &Step| input.desired.declares(step.address());
    let mut cases = Vec::new();
    for (change, Subject { step, .. }) in subjects.iter().enumerate() {
        for (policy, (_, rule)) in policies.iter().enumerate() {
            if rule
                .r#match
                .holds_of(step.address(), declared(step), step.action.verb.word())
            {
                cases.push(Case { policy, change });
            }
        }
    }
    let asked = Asked {
        plan: plan(subjects, input),
        changes: subjects
            .iter()
            .map(|subject| (change(subject), object(subject, declared(subject.step))))
            .collect(),
        cases: cases.clone(),
    };
    let mut weighed = Weighed::default();
    for (case, answer) in cases.into_iter().zip(input.rules.weigh(asked)) {
        let (resource, policy) = policies[case.policy];
        let why = match answer {
            Ok(true) => continue,
            Ok(false) => policy.message.clone(),
            Err(why) => format!("{} ({why})", policy.message),
        };
        let message = format!("policy {}: {why}", resource.address.name);
        match policy.severity {
            PolicySeverity::Deny => {
                let because = Because {
                    code: GATE.code,
                    message,
                    until: None,
                };
                weighed.held.push((case.change, because));
            }
            PolicySeverity::Warn => weighed.notes.push(Note {
                address: subjects[case.change].step.address().clone(),
                text: message,
            }),
        }
    }
    weighed
}

/// `plan` in expressions.
fn plan(subjects: &[Subject<'_>], input: &PlanInput<'_>) -> Value {
    let steps = || subjects.iter().map(|subject| subject.step);
    let mut actions = Map::new();
    for word in PlannedAction::ALL.iter().map(|action| action.word()) {
        let count = steps()
            .filter(|step| step.action.verb.word() == word)
            .count();
        actions.insert(word.to_owned(), json!(count));
    }
    let mut classes = Map::new();
    for class in Allow::ALL {
        let count = steps().filter(|step| step.class() == class).count();
        classes.insert(class.word().to_owned(), json!(count));
    }
    let changes: Vec<Value> = steps()
        .map(|step| {
            json!({
                "action": step.action.verb.word(),
                "class": step.class().word(),
                "kind": step.address().kind.name(),
                "project": step.address().project,
                "name": step.address().name,
            })
        })
        .collect();
    json!({
        "source": input.desired.source.name,
        "host": input.host.host,
        "purpose": input.purpose,
        "actions": actions,
        "classes": classes,
        "changes": changes,
    })
}

/// `change` in expressions.
fn change(subject: &Subject<'_>) -> Value {
    let step = subject.step;
    let fields: Vec<Value> = step
        .changes
        .iter()
        .map(|planned| {
            json!({
                "path": planned.change.path,
                "before": planned.change.before,
                "after": planned.change.after,
                "effect": planned.effect.word(),
            })
        })
        .collect();
    json!({
        "action": step.action.verb.word(),
        "class": step.class().word(),
        "effect": step.effect.map_or("", |effect| effect.word()),
        "cause": step.cause,
        "reason": step.reason,
        "fields": fields,
        "live": subject.live().map(|item| item.spec.to_value()),
    })
}

/// `object` in expressions: as declared, or as it lives where it is no longer declared.
fn object(subject: &Subject<'_>, declared: Option<&Resource>) -> Value {
    let spec = declared
        .map(|resource| &resource.spec)
        .or_else(|| subject.live().map(|item| &item.spec));
    let address = subject.step.address();
    json!({
        "kind": address.kind.name(),
        "project": address.project,
        "name": address.name,
        "labels": declared.map(|resource| &resource.labels).cloned().unwrap_or_default(),
        "declared": declared.is_some(),
        "spec": spec.map(Spec::to_value),
    })
}
