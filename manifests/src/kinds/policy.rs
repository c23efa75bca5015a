//! [`Policy`]: a rule over plans.

use std::collections::BTreeMap;

use crate::desired::{Reference, Resource};
use crate::id::Address;
use crate::kind::{Kind, ResourceKind};
use crate::name_pattern;

crate::words! {
    /// What a policy does where its expression does not hold.
    pub enum PolicySeverity {
        /// The change is held.
        Deny "deny",
        /// It is told.
        Warn "warn",
    }
}

crate::words! {
    /// What a plan does to an object, as policies name it.
    pub enum PlannedAction {
        /// It is made; of an image: fetched.
        Create "create",
        /// Fields change.
        Update "update",
        /// It gets another name.
        Rename "rename",
        /// Its root file system is made anew.
        Rebuild "rebuild",
        /// It is deleted and made anew.
        Replace "replace",
        /// It is started, stopped or restarted.
        Power "power",
        /// What lives becomes ours.
        Adopt "adopt",
        /// It is ours no longer and stays as it is.
        Forget "forget",
        /// It goes, into the trash or for good.
        Delete "delete",
        /// It comes back out of the trash.
        Restore "restore",
    }
}

crate::fields! {
    /// Which changes are meant: those to which all that is written applies.
    pub struct PolicyMatch {
        /// To objects of one of these kinds. None: any kind.
        kinds: Vec<Kind> = Vec::new(),
        /// To objects of one of these names; `*` stands for any characters. None: any name.
        names: Vec<String> = Vec::new(),
        /// To objects with these labels. What is no longer declared has none, so that this never matches what is deleted
        /// because its manifest is gone: name such objects by `names`.
        match_labels: BTreeMap<String, String> = BTreeMap::new(),
        /// Of one of these actions. None: any.
        actions: Vec<PlannedAction> = Vec::new(),
    }
}

crate::fields! {
    /// A rule over plans, in the Common Expression Language.
    pub struct Policy {
        /// Free text.
        description: String = String::new(),
        /// Which changes it looks at; absent: all.
        r#match: PolicyMatch = PolicyMatch::default(),
        /// What must hold of each of them: an expression that gives true or false. It has the variables `change`
        /// (`action`, `class`, `effect`, `cause`, `reason`, `fields`, `live`), `object` (`kind`, `project`, `name`,
        /// `labels`, `declared`, `spec`) and `plan` (`source`, `host`, `purpose`, `actions`, `classes`, `changes`); each
        /// of `change.fields` has `path`, `before`, `after` and `effect`, each of `plan.changes` has `action`, `class`,
        /// `kind`, `project` and `name`. Functions are `has`, `all`, `exists`,
        /// `exists_one`, `filter`, `map`, `size`, `contains`, `startsWith`, `endsWith`, `matches`, `max`, `min`, `type`,
        /// `bool`, `bytes`, `double`, `dyn`, `int`, `string`, `uint`, and `byteSize("4GiB")`. Names in it are
        /// compared as objects have them in the end: no `namePrefix` is put before them.
        expression: String = String::new(),
        /// Said where it does not.
        message: String = String::new(),
        /// What is done then.
        severity: PolicySeverity = PolicySeverity::Deny,
    }
}

impl PolicyMatch {
    /// Whether a change is meant: the object as declared, where it is, and the word of the action.
    pub fn holds_of(&self, address: &Address, declared: Option<&Resource>, action: &str) -> bool {
        let labels = declared.map(|resource| &resource.labels);
        let has = |(key, value): (&String, &String)| {
            labels.is_some_and(|labels| labels.get(key) == Some(value))
        };
        (self.kinds.is_empty() || self.kinds.contains(&address.kind))
            && (self.names.is_empty() || name_pattern::any_matches(&self.names, &address.name))
            && self.match_labels.iter().all(has)
            && (self.actions.is_empty() || self.actions.iter().any(|meant| meant.word() == action))
    }
}

impl ResourceKind for Policy {
    fn references(&self, _out: &mut Vec<Reference>) {}
}
