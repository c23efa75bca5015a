//! Listening to a server. It tells each that listens what was done and by whom, and nothing a second time: so events only
//! say that something moved, and whoever begins to listen looks at all there is.

use manifests::id::Address;
use manifests::kind::Kind;
use rustix::event::{PollFd, PollFlags, poll};
use serde::Deserialize;

use super::IncusRuntime;
use super::client::{ClientError, at};
use crate::error::RuntimeError;
use crate::watch::{Bell, Deed, Moved};

/// How names of deeds end that change something. All others look, or are within an instance.
const CHANGES: [&str; 16] = [
    "-added",
    "-changed",
    "-created",
    "-deleted",
    "-detached",
    "-paused",
    "-refreshed",
    "-removed",
    "-renamed",
    "-restarted",
    "-restored",
    "-resumed",
    "-shutdown",
    "-started",
    "-stopped",
    "-updated",
];

/// So many messages are heard before what they say is told.
const AT_ONCE: usize = 1000;

/// A message of `/1.0/events`.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    project: String,
    metadata: Lifecycle,
}

#[derive(Deserialize)]
struct Lifecycle {
    #[serde(default)]
    action: String,
    /// Of what: its address in the API.
    #[serde(default)]
    source: String,
    /// None: the server itself.
    requestor: Option<Requestor>,
}

#[derive(Deserialize)]
struct Requestor {
    #[serde(default)]
    username: String,
}

impl IncusRuntime {
    /// Listens until the bell says that it is enough, and tells what moves. Some of it comes from the caller's own deeds.
    ///
    /// # Errors
    /// The server is out of reach, or ends the conversation.
    pub fn watch(&self, bell: &Bell, moved: &dyn Fn(Moved)) -> Result<(), RuntimeError> {
        self.listen(bell, moved)
            .map_err(|error| error.doing("listen to the server"))
    }

    fn listen(&self, bell: &Bell, moved: &dyn Fn(Moved)) -> Result<(), ClientError> {
        let what = [("type", "lifecycle"), ("all-projects", "true")];
        let mut socket = self.client.socket(&at(&["events"], &what))?;
        moved(Moved::Server);
        loop {
            let (mut any, mut deeds, mut heard) = (false, Vec::new(), 0);
            // Whoever is told without a break still says what it heard, and hears the bell.
            while heard < AT_ONCE
                && let Some(text) = socket.next_text()?
            {
                heard += 1;
                let Ok(told) = serde_json::from_str::<Told>(&text) else {
                    // Of another form than is known: something happened.
                    any = true;
                    continue;
                };
                let action = &told.metadata.action;
                any |= CHANGES.iter().any(|change| action.ends_with(change));
                deeds.extend(deed(told));
            }
            match deeds.is_empty() {
                false => moved(Moved::Deeds(deeds)),
                true if any => moved(Moved::Server),
                true => {}
            }
            let mut waiting = [
                PollFd::new(bell, PollFlags::IN),
                PollFd::from_borrowed_fd(socket.stream().descriptor(), PollFlags::IN),
            ];
            // Whatever wakes it: both are looked at.
            let no_time = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let _ = poll(&mut waiting, (heard == AT_ONCE).then_some(&no_time));
            if !waiting[0].revents().is_empty() {
                bell.heard();
                if bell.is_ending() {
                    return Ok(());
                }
            }
        }
    }
}

/// Who did what to which object; none where that is nobody, or no object that has a manifest.
fn deed(told: Told) -> Option<Deed> {
    let Lifecycle {
        action,
        source,
        requestor,
    } = told.metadata;
    let by = requestor?.username;
    let changes = CHANGES.iter().any(|change| action.ends_with(change));
    if by.is_empty() || !changes {
        return None;
    }
    Some(Deed {
        address: address(&source, &told.project)?,
        what: action,
        by,
    })
}

/// `/1.0/instances/web?project=shop` as we name it.
fn address(source: &str, project: &str) -> Option<Address> {
    let (path, query) = source.split_once('?').unwrap_or((source, ""));
    let said = query
        .split('&')
        .find_map(|one| one.strip_prefix("project="));
    let project = match said.unwrap_or(project) {
        "" => "default",
        project => project,
    };
    // No name of an object that we could have made is written with escapes.
    if path.contains('%') || project.contains('%') {
        return None;
    }
    let steps: Vec<&str> = path.strip_prefix("/1.0/")?.split('/').collect();
    Some(match steps[..] {
        ["instances", name] => Address::in_project(Kind::Instance, project, name),
        ["networks", name] => Address::in_project(Kind::Network, project, name),
        ["network-acls", name] => Address::in_project(Kind::NetworkAcl, project, name),
        ["projects", name] => Address::new(Kind::Project, name),
        ["storage-pools", name] => Address::new(Kind::StoragePool, name),
        ["storage-pools", pool, "volumes", "custom", name] => Address {
            pool: Some(pool.to_owned()),
            ..Address::in_project(Kind::Volume, project, name)
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(action: &str, source: &str, by: Option<&str>) -> Option<Deed> {
        let text = serde_json::json!({
            "type": "lifecycle",
            "timestamp": "2026-07-05T12:00:00.5+02:00",
            "project": "default",
            "location": "none",
            "metadata": {
                "action": action,
                "source": source,
                "requestor": by.map(|by| serde_json::json!({"username": by, "protocol": "unix", "address": "@"})),
            },
        });
        deed(serde_json::from_value(text).expect("a message"))
    }

    #[test]
    fn who_did_what_is_understood() {
        for (action, source, object) in [
            ("instance-updated", "/1.0/instances/web", "instance/web"),
            (
                "instance-stopped",
                "/1.0/instances/web?project=shop",
                "instance/shop/web",
            ),
            ("network-updated", "/1.0/networks/lan", "network/lan"),
            (
                "storage-volume-updated",
                "/1.0/storage-pools/fast/volumes/custom/data?project=shop",
                "volume/shop/fast/data",
            ),
        ] {
            let deed = told(action, source, Some("alice")).expect("a deed");
            assert_eq!(
                (deed.address.to_string().as_str(), deed.by.as_str()),
                (object, "alice")
            );
            assert_eq!(deed.what, action);
        }
    }

    #[test]
    fn what_changes_nothing_has_no_object_or_is_done_by_nobody_is_no_deed() {
        for (action, source, by) in [
            ("instance-exec", "/1.0/instances/web", Some("alice")),
            (
                "instance-file-retrieved",
                "/1.0/instances/web/files",
                Some("alice"),
            ),
            (
                "instance-snapshot-created",
                "/1.0/instances/web/snapshots/one",
                Some("alice"),
            ),
            ("image-created", "/1.0/images/0123", Some("alice")),
            ("instance-updated", "/1.0/instances/a%20b", Some("alice")),
            ("instance-updated", "/1.0/instances/web", None),
            ("instance-updated", "elsewhere", Some("alice")),
        ] {
            assert_eq!(told(action, source, by), None, "{action} {source} {by:?}");
        }
    }
}
