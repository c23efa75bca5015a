//! [`CloudInit`]: what cloud-init finds in the guest.

use std::collections::BTreeMap;

use crate::scalar::text::Document;

crate::words! {
    /// What happens in the guest when its cloud-init data change.
    pub enum OnChange {
        /// Nothing: it counts for new instances.
        Ignore "ignore",
        /// cloud-init runs again at the next start.
        Rerun "rerun",
        /// The instance is made anew.
        Recreate "recreate",
    }
}

crate::fields! {
    /// What cloud-init finds in the guest.
    pub struct CloudInit {
        /// The user's part: a text, or a map that becomes `#cloud-config`.
        user_data: Option<Document> = None,
        /// More parts of the user's, put together in the order of their names.
        parts: BTreeMap<String, Document> = BTreeMap::new(),
        /// The vendor's part.
        vendor_data: Option<Document> = None,
        /// The network's part: a text or a map.
        network_config: Option<Document> = None,
        /// What happens in the guest when any of it changes.
        on_change: OnChange = OnChange::Ignore,
    }
}
