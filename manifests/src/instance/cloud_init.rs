//! [`CloudInit`]: what cloud-init finds in the guest.

use std::collections::BTreeMap;

use crate::scalar::text::{Document, Text};

/// What cloud-init may be given, in bytes.
pub const MOST_BYTES: usize = 8 << 20;

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

impl CloudInit {
    /// What cloud-init is given, without what happens when it changes.
    #[must_use]
    pub fn data(&self) -> Self {
        Self {
            on_change: OnChange::Ignore,
            ..self.clone()
        }
    }

    /// All that it is given.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        let named = [&self.user_data, &self.vendor_data, &self.network_config];
        named.into_iter().flatten().chain(self.parts.values())
    }

    /// How many bytes it is given; what comes from secrets is not known here.
    pub fn bytes(&self) -> usize {
        self.documents()
            .map(|document| match document {
                Document::Text(text) => text.as_plain().map_or(0, str::len),
                Document::Data(data) => data.to_string().len(),
            })
            .sum()
    }

    /// Its texts, to put what they stand for in their place.
    pub fn texts_mut(&mut self) -> impl Iterator<Item = &mut Text> {
        let named = [
            &mut self.user_data,
            &mut self.vendor_data,
            &mut self.network_config,
        ];
        let named = named.into_iter().flatten();
        named
            .chain(self.parts.values_mut())
            .filter_map(|document| match document {
                Document::Text(text) => Some(text),
                Document::Data(_) => None,
            })
    }

    /// Its texts.
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        self.documents().filter_map(|document| match document {
            Document::Text(text) => Some(text),
            Document::Data(_) => None,
        })
    }
}
