//! Policies: expressions of the Common Expression Language, compiled, bounded, and weighed within a deadline.
//!
//! The language has no loops but the comprehensions over lists (`all`, `exists`, `filter`, `map`), and the interpreter
//! has no cost limit: nesting is bounded here, and what is not weighed in time is denied.

mod compile;
#[cfg(test)]
mod tests;
mod weigh;

use manifests::desired::Resource;
use manifests::diagnostic::Diagnostics;
use manifests::kind::Spec;

pub use self::compile::CODES;
pub use self::weigh::Policies;

/// What is wrong with the expressions of policies, each at its line.
pub fn check<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Diagnostics {
    let mut found = Diagnostics::default();
    for resource in resources {
        if let Spec::Policy(policy) = &resource.spec
            && !policy.expression.trim().is_empty()
            && let Err(wrong) = compile::compile(&policy.expression)
        {
            found.push(wrong.diagnostic(resource));
        }
    }
    found
}
