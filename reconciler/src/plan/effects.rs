//! What a change of a field costs: asked of a table, so that plan, editor and guards agree.

use manifests::change::FieldChange;
use manifests::desired::Resource;
use manifests::effect::Effect;
use manifests::feature::Capabilities;
use manifests::observed::Item;

/// Answers what a change costs on an engine.
pub trait Effects {
    /// The effect of one change on a live object. Whether the object runs is the caller's business.
    fn effect(
        &self,
        host: &Capabilities,
        resource: &Resource,
        live: &Item,
        change: &FieldChange,
    ) -> Effect;
}

impl<F> Effects for F
where
    F: Fn(&Capabilities, &Resource, &Item, &FieldChange) -> Effect,
{
    fn effect(
        &self,
        host: &Capabilities,
        resource: &Resource,
        live: &Item,
        change: &FieldChange,
    ) -> Effect {
        self(host, resource, live, change)
    }
}
