//! Weighing, on a thread of its own that is waited for only so long.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use cel::{Context, ExecutionError, Program, Value};
use manifests::desired::Resource;
use manifests::kind::Spec;
use manifests::scalar::byte_size::ByteSize;

use super::compile::{self, BYTE_SIZE};
use crate::clock::{Clock as _, HostClock};
use crate::plan::rules::{Answer, Asked, Case, Rules};

/// All policies of a plan are weighed in this time, or what is left is in doubt. (Four of ten thousand changes take
/// about 60 ms.)
const DEADLINE: Duration = Duration::from_secs(2);

/// Compiled policies.
#[derive(Debug, Clone)]
pub struct Policies {
    /// As in [`DesiredSet::policies`](manifests::desired::DesiredSet); none for what does not compile, which
    /// [`check`](super::check) has told.
    programs: Arc<Vec<Option<Program>>>,
    deadline: Duration,
}

impl Policies {
    /// Compiles the policies of a set.
    pub fn of(policies: &[Resource]) -> Self {
        let program = |resource: &Resource| match &resource.spec {
            Spec::Policy(policy) => compile::compile(&policy.expression).ok(),
            _ => None,
        };
        Self {
            programs: Arc::new(policies.iter().map(program).collect()),
            deadline: DEADLINE,
        }
    }

    /// The same with another deadline.
    #[must_use]
    pub const fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

impl Rules for Policies {
    fn weigh(&self, asked: Asked) -> Vec<Answer> {
        let count = asked.cases.len();
        let mut answers: Vec<Answer> = Vec::with_capacity(count);
        if count == 0 {
            return answers;
        }
        let until = HostClock.instant() + self.deadline;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        let (programs, told) = (self.programs.clone(), stop.clone());
        // One case of a policy that runs away cannot be interrupted: then the thread goes on until it is through.
        std::thread::spawn(move || {
            let mut weighing = Weighing::new(&programs, &asked);
            for case in &asked.cases {
                if told.load(Ordering::Relaxed) || sender.send(weighing.one(*case)).is_err() {
                    return;
                }
            }
        });
        while answers.len() < count {
            let left = until.saturating_duration_since(HostClock.instant());
            match receiver.recv_timeout(left) {
                Ok(answer) => answers.push(answer),
                Err(failure) => {
                    let why = match failure {
                        mpsc::RecvTimeoutError::Timeout => {
                            format!("not weighed within {} s", self.deadline.as_secs_f32())
                        }
                        mpsc::RecvTimeoutError::Disconnected => "weighing it failed".to_owned(),
                    };
                    answers.resize(count, Err(why));
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        answers
    }
}

struct Weighing<'a> {
    programs: &'a [Option<Program>],
    asked: &'a Asked,
    plan: Result<Value, String>,
    /// The variables of the changes that were looked at so far.
    changes: HashMap<usize, Result<(Value, Value), String>>,
}

impl<'a> Weighing<'a> {
    fn new(programs: &'a [Option<Program>], asked: &'a Asked) -> Self {
        Self {
            programs,
            asked,
            plan: value(&asked.plan),
            changes: HashMap::new(),
        }
    }

    fn one(&mut self, case: Case) -> Answer {
        let program = self.programs.get(case.policy).and_then(Option::as_ref);
        let program = program.ok_or("its expression cannot be understood")?;
        let (change, object) = self
            .changes
            .entry(case.change)
            .or_insert_with(|| {
                let (change, object) = &self.asked.changes[case.change];
                Ok((value(change)?, value(object)?))
            })
            .clone()?;
        let mut context = Context::default();
        context.add_variable_from_value("plan", self.plan.clone()?);
        context.add_variable_from_value("change", change);
        context.add_variable_from_value("object", object);
        context
            .add_function(BYTE_SIZE, byte_size)
            .map_err(|error| error.to_string())?;
        match program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!(
                "it gives a {} and not true or false",
                other.type_of()
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn value(json: &serde_json::Value) -> Result<Value, String> {
    cel::to_value(json).map_err(|error| error.to_string())
}

/// `byteSize("4GiB")`: the number of bytes, to be compared.
#[expect(
    clippy::needless_pass_by_value,
    reason = "functions of expressions take what they are given"
)]
fn byte_size(text: Arc<String>) -> Result<i64, ExecutionError> {
    text.parse::<ByteSize>()
        .ok()
        .and_then(|size| i64::try_from(size.bytes()).ok())
        .ok_or_else(|| ExecutionError::function_error(BYTE_SIZE, format!("`{text}` is no size")))
}
