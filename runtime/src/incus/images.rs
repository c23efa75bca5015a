//! Images: a document is an alias on the server. Whose it is and where it came from stands in the description of the alias;
//! what it stands for is told by fingerprint.

use std::path::Path;

use manifests::action::{Action, Verb};
use manifests::desired::{DesiredSet, Resource};
use manifests::id::{Address, Mark};
use manifests::kind::{Kind, Spec};
use manifests::observed::{Holds, Item};
use manifests::path_io;
use manifests::scalar::image_ref::ImageSource;
use serde_json::{Value, json};

use super::IncusRuntime;
use super::client::{ClientError, Waiting, at};
use super::wire::{Alias, Image};
use crate::error::{Class, RuntimeError};
use crate::native::image::{ImageError, busybox_archive};
use crate::runtime::{Context, Effected};

/// The server of images where a manifest says `images`.
const IMAGES: &str = "https://images.linuxcontainers.org";

/// The property of an image that keel has sent there.
const BROUGHT: &str = "keel.brought";

/// The mark and the spec in the description of an alias.
fn described(description: &str) -> Option<(Mark, Value)> {
    let (mark, spec) = description.split_once(' ')?;
    Some((mark.parse().ok()?, serde_json::from_str(spec).ok()?))
}

/// An alias as a live object.
pub(super) fn item(image: &Image, alias: &Alias, project: &str) -> Item {
    let known = described(&alias.description);
    let (mark, mut spec) = match known {
        Some((mark, spec)) => (Some(mark), spec),
        None => (None, json!({})),
    };
    spec["autoUpdate"] = Value::Bool(image.auto_update);
    let spec =
        Spec::deserialize(Kind::Image, spec).unwrap_or_else(|_| Spec::default_of(Kind::Image));
    Item {
        address: Address::in_project(Kind::Image, project, alias.name.clone()),
        mark,
        complete: true,
        spec,
        last_told: None,
        unseen: Vec::new(),
        remembered: None,
        holds: Holds::default(),
        status: json!({
            "fingerprint": image.fingerprint,
            "type": image.kind,
            "size": image.size,
            "properties": image.properties,
        }),
    }
}

fn failed(error: ClientError) -> RuntimeError {
    error.doing("work on the image")
}

impl IncusRuntime {
    fn alias_path(address: &Address) -> String {
        at(
            &["images", "aliases", &address.name],
            &[("project", address.project_name())],
        )
    }

    /// One alias with its image.
    pub(super) fn look_at_image(&self, address: &Address) -> Result<Option<Item>, RuntimeError> {
        let alias: Option<Alias> = self
            .client
            .get(&Self::alias_path(address))
            .map_err(failed)?;
        let Some(alias) = alias else { return Ok(None) };
        let project = address.project_name();
        let image = at(&["images", &alias.target], &[("project", project)]);
        let image: Option<Image> = self.client.get(&image).map_err(failed)?;
        Ok(image.map(|image| item(&image, &alias, project)))
    }

    pub(super) fn perform_on_image(
        &self,
        action: &Action,
        resource: Option<&Resource>,
        desired: &DesiredSet,
        context: &Context<'_>,
    ) -> Result<Effected, RuntimeError> {
        let address = &action.address;
        let path = Self::alias_path(address);
        let live: Option<Alias> = self.client.get(&path).map_err(failed)?;
        let mark = live
            .as_ref()
            .and_then(|alias| described(&alias.description))
            .map(|(mark, _)| mark);
        let is_ours = mark.as_ref().is_some_and(|mark| mark.uid == action.uid);
        let write = |method, path: &str, body: Option<Value>| {
            let done = self
                .client
                .write(method, path, body.as_ref(), None, &Waiting::SHORT);
            done.map(|_| ()).map_err(failed)
        };
        match &action.verb {
            Verb::Delete | Verb::Trash { .. } => {
                if live.is_none() || !is_ours {
                    return Ok(Effected::NotNeeded);
                }
                let target = live.map(|alias| alias.target).unwrap_or_default();
                // An image takes its names with it: in one write, so that none is left behind.
                let whole = self.brought_for(&target, address)?;
                write("DELETE", whole.as_deref().unwrap_or(&path), None)?;
                Ok(Effected::Done)
            }
            Verb::Forget => {
                let Some(alias) = live.filter(|_| is_ours) else {
                    return Ok(Effected::NotNeeded);
                };
                write(
                    "PUT",
                    &path,
                    Some(json!({"target": alias.target, "description": ""})),
                )?;
                Ok(Effected::Done)
            }
            Verb::Create | Verb::Update { .. } | Verb::Replace | Verb::Adopt => {
                if live.is_some() && !is_ours && !matches!(action.verb, Verb::Adopt) {
                    let why = "another image has this alias";
                    return Err(RuntimeError::new("make", Class::Conflict, why).of(address));
                }
                let Some(Spec::Image(image)) = resource.map(|resource| &resource.spec) else {
                    return Err(super::wrong_kind(address));
                };
                let target = match (&action.verb, &live) {
                    (Verb::Adopt, Some(alias)) => alias.target.clone(),
                    _ => self.fetch(
                        image.source.as_ref(),
                        image.auto_update,
                        address.project_name(),
                        &desired.source.root,
                        context,
                    )?,
                };
                let mut spec = manifests::change::shown(image.as_ref());
                if let Some(fields) = spec.as_object_mut() {
                    fields.shift_remove("autoUpdate");
                }
                let description = format!("{} {spec}", action.mark);
                let body =
                    json!({"name": address.name, "target": target, "description": description});
                match live {
                    Some(_) => write("PUT", &path, Some(body))?,
                    None => {
                        let all = at(
                            &["images", "aliases"],
                            &[("project", address.project_name())],
                        );
                        write("POST", &all, Some(body))?;
                    }
                }
                Ok(Effected::Done)
            }
            other => Err(super::cannot(other, address)),
        }
    }

    /// Where an image is that keel brought there, and that has no other name. One without our property stays on the server:
    /// it may have been there before, without a name.
    fn brought_for(
        &self,
        fingerprint: &str,
        address: &Address,
    ) -> Result<Option<String>, RuntimeError> {
        let project = [("project", address.project_name())];
        let path = at(&["images", fingerprint], &project);
        let found: Option<Image> = self.client.get(&path).map_err(failed)?;
        let is_only_ours = |image: &Image| {
            let mut names = image.aliases.iter();
            image.properties.contains_key(BROUGHT) && names.all(|alias| alias.name == address.name)
        };
        Ok(found.filter(is_only_ours).map(|_| path))
    }

    /// Brings an image to the server; its fingerprint.
    pub(super) fn fetch(
        &self,
        source: Option<&ImageSource>,
        auto_update: bool,
        project: &str,
        root: &Path,
        context: &Context<'_>,
    ) -> Result<String, RuntimeError> {
        let unsupported = |why: &str| {
            let why = why.to_owned();
            Err(RuntimeError::new(
                "fetch the image",
                Class::Unsupported,
                why,
            ))
        };
        match source {
            Some(ImageSource::Builtin(_)) => {
                (context.progress)("uploading");
                let archive = busybox_archive().map_err(unreadable)?;
                self.upload(&archive, project, context)
            }
            Some(ImageSource::File {
                file,
                sha256: wanted,
                metadata: None,
            }) => {
                (context.progress)("uploading");
                let archive = path_io::read(root.join(file)).map_err(|error| {
                    RuntimeError::new("read the image", Class::NeedsOperator, error)
                })?;
                if let Some(wanted) = wanted {
                    let found = sha256(&archive);
                    if !found.eq_ignore_ascii_case(wanted) {
                        let wanted = wanted.clone();
                        let why = ImageError::WrongFingerprint { wanted, found };
                        return Err(unreadable(why));
                    }
                }
                self.upload(&archive, project, context)
            }
            Some(ImageSource::Alias { alias, server }) => {
                (context.progress)("downloading");
                let server = match server.as_str() {
                    "images" => IMAGES,
                    other => other,
                };
                let body = json!({
                    "auto_update": auto_update,
                    "source": {
                        "type": "image", "mode": "pull", "server": server,
                        "protocol": "simplestreams", "alias": alias,
                    },
                });
                let all = at(&["images"], &[("project", project)]);
                let done = self
                    .client
                    .write("POST", &all, Some(&body), None, &waiting(context));
                let facts = done.map_err(failed)?.metadata.unwrap_or_default();
                match facts["fingerprint"].as_str() {
                    Some(fingerprint) => Ok(fingerprint.to_owned()),
                    None => Err(failed(ClientError::Vanished)),
                }
            }
            _ => unsupported("this engine does not bring images of this source to the server yet"),
        }
    }

    /// Sends an archive, unless the server has it; its fingerprint.
    fn upload(
        &self,
        mut archive: &[u8],
        project: &str,
        context: &Context<'_>,
    ) -> Result<String, RuntimeError> {
        let fingerprint = sha256(archive);
        let image = at(&["images", &fingerprint], &[("project", project)]);
        if self.client.get::<Image>(&image).map_err(failed)?.is_some() {
            return Ok(fingerprint);
        }
        let headers = vec![
            ("Content-Type", "application/octet-stream".to_owned()),
            ("X-Incus-properties", format!("{BROUGHT}=true")),
            ("X-LXD-properties", format!("{BROUGHT}=true")),
        ];
        let all = at(&["images"], &[("project", project)]);
        let length = archive.len() as u64;
        let done = self
            .client
            .upload(&all, headers, length, &mut archive, &waiting(context));
        match (done, self.client.get::<Image>(&image).map_err(failed)?) {
            (_, Some(_)) => Ok(fingerprint),
            (Err(error), None) => Err(failed(error)),
            (Ok(_), None) => Err(failed(ClientError::Vanished)),
        }
    }
}

/// As long as the deed may take.
pub(super) fn waiting<'a>(context: &'a Context<'_>) -> Waiting<'a> {
    Waiting {
        cancel: Some(context.cancel),
        timeout: context.timeout,
        progress: Some(context.progress),
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

fn unreadable(error: ImageError) -> RuntimeError {
    RuntimeError::new("make the image", Class::NeedsOperator, error)
}
