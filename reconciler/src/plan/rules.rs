//! What policies say: the expressions are weighed by somebody who has a clock, since weighing may take too long.

use serde_json::Value;

/// One expression that is to be weighed of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The policy, as an index into [`DesiredSet::policies`](manifests::desired::DesiredSet).
    pub policy: usize,
    /// The change, as an index into [`Asked::changes`].
    pub change: usize,
}

/// Everything that is weighed in one plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// The variable `plan` of all expressions.
    pub plan: Value,
    /// The variables `change` and `object` of the expressions that look at a change.
    pub changes: Vec<(Value, Value)>,
    /// Which expressions of which changes.
    pub cases: Vec<Case>,
}

/// Whether the expression of a case holds, or why that cannot be said.
pub type Answer = Result<bool, String>;

/// Weighs the expressions of policies.
pub trait Rules {
    /// One answer a case, in their order.
    fn weigh(&self, asked: Asked) -> Vec<Answer>;
}

/// For plans without policies: nothing can be said of any.
#[derive(Debug, Clone, Copy)]
pub struct NoRules;

impl Rules for NoRules {
    fn weigh(&self, asked: Asked) -> Vec<Answer> {
        let unknown = |_| Err("there is nobody who weighs policies".to_owned());
        asked.cases.into_iter().map(unknown).collect()
    }
}
