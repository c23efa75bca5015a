//! [`Policy`]: a rule over plans.

use crate::desired::Reference;
use crate::kind::ResourceKind;

crate::words! {
    /// What a policy does where its rule does not hold.
    pub enum PolicyAction {
        /// The change is held.
        Deny "deny",
        /// It is told.
        Warn "warn",
    }
}

crate::fields! {
    /// A rule over plans, in the Common Expression Language.
    pub struct Policy {
        /// Free text.
        description: String = String::new(),
        /// What must hold of each change: an expression that gives true or false.
        rule: String = String::new(),
        /// Said where it does not.
        message: String = String::new(),
        /// What is done then.
        action: PolicyAction = PolicyAction::Deny,
    }
}

impl ResourceKind for Policy {
    fn references(&self, _out: &mut Vec<Reference>) {}
}
