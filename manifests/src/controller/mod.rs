//! `kind: Controller`: the settings of the controller of a host. They say which sources it follows and how; what these
//! hold is for their manifests to say.
//!
//! To add a part: a field of [`Controller`] with its type in a file of its own here, and its checks in `check.rs`.

mod api;
mod check;
mod notification;
mod pull_requests;
mod repository_url;
mod source;
mod traces;
mod wanted;
mod web_url;
mod webhook;

use serde::Deserialize as _;

use crate::decode::{self, MISSING_FIELD, UNKNOWN_WORD, WRONG_TYPE};
use crate::diagnostic::{Diagnostic, Diagnostics, Origin};
use crate::parse::parse;
use crate::pointer::Pointer;
use crate::resolve::{TWICE, api_version};
use crate::scalar::duration::Duration;
use crate::tree::{Node, Value};

pub use api::{ApiSettings, CertificateAccess, LocalAccess, Role, SocketSettings, TlsSettings};
pub use notification::{
    ExecTarget, MailTarget, MatrixTarget, Notification, SlackTarget, Trigger, WebhookTarget,
};
pub use pull_requests::{ProposalRefs, PullRequestSettings};
pub use repository_url::RepositoryUrl;
pub use source::{
    DirectorySource, GitSource, HttpsAccess, SourceSettings, SshAccess, Suspension, Token, Verify,
    VerifyMode,
};
pub use traces::TracesSettings;
pub use wanted::{CommitName, RefName, VersionRange, Wanted};
pub use web_url::WebUrl;
pub use webhook::{Forge, ListenAddress, WebhookSettings, WebhooksSettings};

/// The word in `kind`.
pub const KIND: &str = "Controller";

/// Where the settings are, unless the command line says otherwise.
pub const FILE: &str = "/etc/keel/controller.yaml";

/// What this document is.
pub const DESCRIPTION: &str = "What the controller of a host follows, and how.";

/// The keys that say what the document is.
const HEAD: [&str; 3] = ["$schema", "apiVersion", "kind"];

crate::fields! {
    /// What a controller does.
    pub struct Controller {
        /// Where manifests come from.
        sources: Vec<SourceSettings> = Vec::new(),
        /// How often the whole host is observed, though nothing was heard of it.
        interval: Duration = Duration::from_seconds(600),
        /// How it is asked.
        api: ApiSettings = ApiSettings::default(),
        /// Who is told what happens.
        notifications: Vec<Notification> = Vec::new(),
        /// Where traces go. Absent: nowhere.
        traces: Option<TracesSettings> = None,
        /// Where webhooks come in.
        webhooks: WebhooksSettings = WebhooksSettings::default(),
    }
}

/// Reads the settings. There is a value only where nothing is wrong.
pub fn read(file: &str, text: &str) -> (Option<Controller>, Diagnostics) {
    let (nodes, mut found) = parse(file, text);
    if let [first, second, ..] = nodes.as_slice() {
        found.push(
            Diagnostic::error(
                TWICE,
                second.place.origin(),
                "a controller has one document",
            )
            .related(first.place.origin(), "the first one"),
        );
    }
    let Some(node) = nodes.into_iter().next() else {
        if !found.has_errors() {
            let origin = Origin {
                file: file.into(),
                ..Origin::default()
            };
            found.push(
                Diagnostic::error(MISSING_FIELD, origin, "there is no document in here")
                    .hint(format!("write `kind: {KIND}` and its `sources`")),
            );
        }
        return (None, found);
    };
    let controller = decoded(node, &mut found);
    (controller.filter(|_| !found.has_errors()), found)
}

fn decoded(mut node: Node, found: &mut Diagnostics) -> Option<Controller> {
    if !matches!(node.value, Value::Map(_)) {
        let what = format!("the document is {}, expected a map", node.value.noun());
        found.push(Diagnostic::error(WRONG_TYPE, node.place.origin(), what));
        return None;
    }
    api_version(&node, found);
    let hint = format!("write `kind: {KIND}`");
    match node.entry("kind") {
        Some((_, kind)) if kind.text() == Some(KIND) => {}
        Some((_, kind)) => found.push(
            Diagnostic::error(
                UNKNOWN_WORD,
                kind.place.origin(),
                "the settings of a controller are of kind Controller",
            )
            .hint(hint)
            .note("manifests stand in the sources that it follows"),
        ),
        None => found.push(
            Diagnostic::error(
                MISSING_FIELD,
                node.place.origin(),
                "field `kind` is missing",
            )
            .hint(hint),
        ),
    }
    for key in HEAD {
        node.take(key);
    }
    let controller = decode::decode(&node, &Pointer::root(), |decoder| {
        Controller::deserialize(decoder)
    });
    match controller {
        Ok(controller) => {
            check::check(&controller, &node, found);
            Some(controller)
        }
        Err(wrong) => {
            found.extend(wrong);
            None
        }
    }
}

#[cfg(test)]
mod tests;
