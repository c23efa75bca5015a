//! [`NetworkAcl`]: rules of who may talk to whom.

use std::collections::BTreeMap;

use crate::desired::Reference;
use crate::kind::ResourceKind;
use crate::scalar::text::Text;
use crate::scalar::word_list::WordList;

crate::words! {
    /// What is done with packets that match.
    pub enum AclAction {
        /// Let through, with the answers to them.
        Allow "allow",
        /// Let through, without remembering the connection.
        AllowStateless "allowStateless",
        /// Refused with an answer.
        Reject "reject",
        /// Dropped without one.
        Drop "drop",
    }
}

crate::words! {
    /// Whether a rule counts.
    pub enum AclState {
        /// Yes.
        Enabled "enabled",
        /// No.
        Disabled "disabled",
        /// Yes, and matches are logged.
        Logged "logged",
    }
}

crate::words! {
    /// Which packets.
    pub enum AclProtocol {
        /// TCP.
        Tcp "tcp",
        /// UDP.
        Udp "udp",
        /// ICMP.
        Icmp4 "icmp4",
        /// ICMPv6.
        Icmp6 "icmp6",
    }
}

crate::fields! {
    /// One rule. Order never matters: drop beats reject beats allow.
    pub struct AclRule {
        /// What is done.
        action: AclAction = AclAction::Allow,
        /// Whether it counts.
        state: AclState = AclState::Enabled,
        /// Of which protocol; absent: all.
        protocol: Option<AclProtocol> = None,
        /// From which addresses, prefixes or NetworkAcls; none: all.
        source: WordList = WordList::default(),
        /// To which addresses, prefixes or NetworkAcls; none: all.
        destination: WordList = WordList::default(),
        /// From which ports; none: all.
        source_port: WordList = WordList::default(),
        /// To which ports; none: all.
        destination_port: WordList = WordList::default(),
        /// The type of ICMP; absent: all.
        icmp_type: Option<u8> = None,
        /// The code of ICMP; absent: all.
        icmp_code: Option<u8> = None,
        /// Free text.
        description: String = String::new(),
    }
}

crate::fields! {
    /// Rules of who may talk to whom.
    pub struct NetworkAcl {
        /// Free text.
        description: String = String::new(),
        /// Into instances.
        ingress: Vec<AclRule> = Vec::new(),
        /// Out of instances.
        egress: Vec<AclRule> = Vec::new(),
        /// Keys of Incus that are newer than this language; refused by the native engine.
        config: BTreeMap<String, Text> = BTreeMap::new(),
    }
}

impl ResourceKind for NetworkAcl {
    fn references(&self, _out: &mut Vec<Reference>) {}
}
