//! Secrets: where their values are, and putting sealed texts in the place of where texts come from.
//!
//! A value goes from its source into the engine's store of secrets and nowhere else; what is planned, remembered and
//! shown has its keyed digest, and people see a mask. Nothing of this is done for `validate`, `render` and `schema`,
//! which need no key.

pub mod age;
pub mod age_stream;
pub mod places;
pub mod sops;

mod fill;
pub mod masks;

use std::collections::BTreeMap;
use std::path::Path;

use manifests::attached::AttachedFiles;
use manifests::codes::Entry;
use manifests::desired::{DesiredSet, Resource};
use manifests::diagnostic::{Code, Diagnostic, Diagnostics, Origin};
use manifests::id::Address;
use manifests::kind::{Kind, Spec};
use manifests::kinds::secret::Secret;
use manifests::near_miss::nearest;
use manifests::observed::ObservedSet;
use manifests::pointer::Pointer;
use manifests::secret::{SecretValue, as_written, each_text, sealed_digest};

use self::places::Places;

/// A value that cannot be had.
const VALUE: Code = Code("S0501");

/// What the codes of this room mean.
pub const CODES: &[Entry] = &[Entry {
    code: VALUE,
    title: "the value of a secret cannot be had",
    explanation: "The source of a Secret does not give a value here: its key is not in the document, the host has no \
                  age key for it, the file or variable is not there. Keys of age are taken from `SOPS_AGE_KEY`, \
                  `SOPS_AGE_KEY_FILE`, `/etc/keel/age.keys` and the `sops/age/keys.txt` of the user's configuration.",
    example: (
        "secretRef: { name: db, key: pasword }",
        "secretRef: { name: db, key: password }",
    ),
}];

/// Makes the digest of a value and remembers the value by it.
pub type Seal<'a> = &'a mut dyn FnMut(SecretValue) -> Result<String, String>;

/// Looks up what the texts of a set take from secrets and puts sealed texts in their place. What cannot be had is told,
/// each once, and all of it.
pub fn seal(
    desired: &mut DesiredSet,
    attached: &AttachedFiles,
    places: &Places<'_>,
    seal: Seal<'_>,
) -> Diagnostics {
    let mut lookup = Lookup {
        secrets: &desired.secrets,
        root: &desired.source.root,
        attached,
        places,
        opened: BTreeMap::new(),
        found: Diagnostics::default(),
    };
    if lookup.secrets.is_empty() {
        return lookup.found;
    }
    let mut unsealed = None;
    let mut seal = |value| seal(value).map_err(|why| unsealed = Some(why)).ok();
    for resource in desired.resources.values_mut() {
        let mut spec = resource.spec.to_value();
        let mut sealed = false;
        each_text(&mut spec, &mut |text, at| {
            sealed |= fill::one(
                text,
                &mut |name, key| lookup.value(resource, at, name, key),
                &mut seal,
            );
        });
        if sealed {
            match Spec::deserialize(resource.address.kind, spec) {
                Ok(spec) => resource.spec = spec,
                Err(error) => lookup.found.push(
                    Diagnostic::error(VALUE, resource.origin.clone(), error.to_string())
                        .of(&resource.address),
                ),
            }
        }
    }
    let mut found = lookup.found;
    if let Some(why) = unsealed {
        found.push(Diagnostic::error(VALUE, Origin::default(), why));
    }
    found.tell_once();
    found
}

/// Takes the values that live for those that are wanted, where both come from the same place: for whoever plans without
/// the secrets, from what was seen on a host.
pub fn seen(desired: &mut DesiredSet, observed: &ObservedSet) {
    for item in &observed.items {
        let Some(resource) = desired.resources.get_mut(&item.address) else {
            continue;
        };
        let live = item.spec.to_value();
        let mut spec = resource.spec.to_value();
        let mut taken = false;
        each_text(&mut spec, &mut |text, at| {
            let below = at.as_str().strip_prefix("/spec").unwrap_or_default();
            let Some(sealed) = live
                .pointer(below)
                .filter(|live| sealed_digest(live).is_some())
            else {
                return;
            };
            let mut written = sealed.clone();
            as_written(&mut written);
            if written == *text {
                *text = sealed.clone();
                taken = true;
            }
        });
        if taken && let Ok(spec) = Spec::deserialize(item.address.kind, spec) {
            resource.spec = spec;
        }
    }
}

/// What was found in the source of one secret.
type Opened = Result<BTreeMap<String, SecretValue>, String>;

struct Lookup<'a> {
    secrets: &'a BTreeMap<Address, Resource>,
    root: &'a Path,
    attached: &'a AttachedFiles,
    places: &'a Places<'a>,
    /// Documents that were decrypted.
    opened: BTreeMap<Address, Opened>,
    found: Diagnostics,
}

impl Lookup<'_> {
    /// A value; none where it cannot be had, which was told.
    fn value(
        &mut self,
        user: &Resource,
        at: &Pointer,
        name: &str,
        key: &str,
    ) -> Option<SecretValue> {
        let shared = Address::new(Kind::Secret, name);
        let own = Address {
            project: user.address.project.clone(),
            ..shared.clone()
        };
        let declared = self.secrets.get_key_value(&own);
        let Some((address, resource)) = declared.or_else(|| self.secrets.get_key_value(&shared))
        else {
            let one = Diagnostic::error(
                VALUE,
                user.origin_of(at),
                format!("secret `{name}` is not declared by this source"),
            );
            self.found.push(one.of(&user.address).at(at.clone()));
            return None;
        };
        let Spec::Secret(secret) = &resource.spec else {
            return None;
        };
        match self.look_up(address, resource, secret, key) {
            Ok(value) => Some(value),
            Err(Missing::Key(known)) => {
                let message = format!("secret `{name}` has no key `{key}`");
                let one = Diagnostic::error(VALUE, user.origin_of(at), message);
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let one = match nearest(key, &known) {
                    Some(near) => one.hint(format!("did you mean `{near}`?")),
                    None => one,
                };
                self.found.push(one.of(&user.address).at(at.clone()));
                None
            }
            Err(Missing::Source(field, why)) => {
                let at = Pointer::new("/spec/source").field(field);
                let at = match field {
                    "sops" => at,
                    _ => at.field(key),
                };
                let one = Diagnostic::error(VALUE, resource.origin_of(&at), why);
                self.found.push(one.of(address).at(at));
                None
            }
        }
    }

    fn look_up(
        &mut self,
        address: &Address,
        resource: &Resource,
        secret: &Secret,
        key: &str,
    ) -> Result<SecretValue, Missing> {
        let source = &secret.source;
        let file = |path: &str| {
            let manifest = resource.origin.file.as_ref();
            places::attached(self.attached, self.root, manifest, path)
        };
        if let Some(path) = &source.sops {
            let places = self.places;
            let opened = self.opened.entry(address.clone()).or_insert_with(|| {
                let text = file(path)?;
                let identities = places.identities()?;
                sops::decrypt(path, text, &identities).map_err(|error| chain(path, &error))
            });
            return match opened {
                Ok(values) => values
                    .get(key)
                    .cloned()
                    .ok_or_else(|| Missing::Key(values.keys().cloned().collect())),
                Err(why) => Err(Missing::Source("sops", why.clone())),
            };
        }
        let missing = |field| move |why| Missing::Source(field, why);
        if let Some(path) = source.age.get(key) {
            return places::age(self.places, path, file(path).map_err(missing("age"))?)
                .map_err(missing("age"));
        }
        if let Some(variable) = source.environment.get(key) {
            return self
                .places
                .variable(variable)
                .map_err(missing("environment"));
        }
        if let Some(path) = source.files.get(key) {
            return places::host_file(path).map_err(missing("files"));
        }
        if let Some(name) = source.credentials.get(key) {
            return self.places.credential(name).map_err(missing("credentials"));
        }
        let groups = [
            &source.age,
            &source.environment,
            &source.files,
            &source.credentials,
        ];
        Err(Missing::Key(
            groups
                .iter()
                .flat_map(|group| group.keys().cloned())
                .collect(),
        ))
    }
}

enum Missing {
    /// There is no such key; there are these.
    Key(Vec<String>),
    /// The field of the source, and why it gives nothing.
    Source(&'static str, String),
}

/// An error with all its reasons in one line, after the name of the file.
fn chain(path: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{path}: {error}");
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests;
