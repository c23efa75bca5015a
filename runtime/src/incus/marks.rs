//! Marks on objects of the server, in `user.keel.*`: whose an object is, how it is treated when its manifest is gone, and the
//! names that the server does not keep. Nothing of what it should be is written there: that is compared with what it is.

use manifests::action::Action;
use manifests::desired::Resource;
use manifests::id::{Address, Mark};
use manifests::kind::Kind;
use manifests::lifecycle::Prune;
use manifests::observed::Remembered;
use serde_json::Value;

use super::wire::Config;

/// All keys of ours begin with it.
pub(super) const PREFIX: &str = "user.keel.";
/// Whose it is.
pub(super) const MARK: &str = "user.keel.mark";
/// Where the volume lies that the mark was put on. The server copies marks, and a volume has no identity of its own.
pub(super) const PLACE: &str = "user.keel.place";
const PRUNE: &str = "user.keel.prune";
const PROTECT: &str = "user.keel.protect";
/// The name of what the server knows by something else.
pub(super) const NAME: &str = "user.keel.name";
/// The image of an instance as its manifest names it: the server knows a fingerprint.
pub(super) const IMAGE: &str = "user.keel.image";
/// The profiles that were put together in it.
pub(super) const PROFILES: &str = "user.keel.profiles";
/// The word of `cloudInit.onChange`.
pub(super) const ON_CHANGE: &str = "user.keel.on-change";
/// Where texts come from that are secrets, by their keys.
pub(super) const SECRETS: &str = "user.keel.secrets";
/// Keys that a manifest gives, of those that the server fills in where none does.
pub(super) const ASKED: &str = "user.keel.asked";
/// Keys that a manifest gives for single members of a cluster: `n1:size,n2:size`.
pub(super) const MEMBERS: &str = "user.keel.members";
/// Where in a cluster an instance was to be made: that is a hint, and the server moves it as it likes.
pub(super) const PLACEMENT: &str = "user.keel.placement";
/// Of what lies in the trash: since when, until when, under which name it lived.
pub(super) const TRASH: &str = "user.keel.trash";

/// The mark on an object.
pub(super) fn mark(config: &Config) -> Option<Mark> {
    config.get(MARK)?.parse().ok()
}

/// The mark on an object, unless that is a copy of the one that it was put on.
pub(super) fn own(config: &Config, address: &Address) -> Option<Mark> {
    let is_there = || {
        let places = config.get(PLACE).map_or("", String::as_str);
        let place = place(address);
        places.split(',').any(|one| one == place)
    };
    mark(config).filter(|_| address.kind != Kind::Volume || is_there())
}

/// Says that a volume may be at another place too: it is on its way there.
pub(super) fn put_also(config: &mut Config, to: &Address) {
    let places = config.entry(PLACE.to_owned()).or_default();
    let to = place(to);
    if !places.split(',').any(|one| one == to) {
        places.push(',');
        places.push_str(&to);
    }
}

/// No name on a server has a stroke or a comma in it.
fn place(address: &Address) -> String {
    let pool = address.pool.as_deref().unwrap_or_default();
    format!("{}/{pool}/{}", address.project_name(), address.name)
}

/// What is remembered on it.
pub(super) fn remembered(config: &Config) -> Option<Remembered> {
    let prune = config.get(PRUNE)?;
    let prune: Prune = serde_json::from_value(Value::from(prune.as_str())).ok()?;
    Some(Remembered {
        prune,
        protect: config.get(PROTECT).is_some_and(|text| text == "true"),
    })
}

/// Puts the mark of a deed on it, and what is remembered of its manifest.
pub(super) fn put(config: &mut Config, action: &Action, resource: Option<&Resource>) {
    config.insert(MARK.to_owned(), action.mark.to_string());
    if action.address.kind == Kind::Volume {
        config.insert(PLACE.to_owned(), place(&action.address));
    }
    let Some(resource) = resource else { return };
    let prune = manifests::change::shown(&resource.lifecycle.prune);
    config.insert(
        PRUNE.to_owned(),
        prune.as_str().unwrap_or_default().to_owned(),
    );
    match resource.lifecycle.protect {
        true => config.insert(PROTECT.to_owned(), "true".to_owned()),
        false => config.remove(PROTECT),
    };
}

/// Takes all that is ours off it.
pub(super) fn take_off(config: &mut Config) {
    config.retain(|key, _| !key.starts_with(PREFIX));
}

/// Whether a manifest gave a key that the server fills in otherwise.
pub(super) fn was_asked(config: &Config, key: &str) -> bool {
    let asked = config.get(ASKED).map_or("", String::as_str);
    // Of what nobody owns, all that is there was given by somebody.
    mark(config).is_none() || asked.split(',').any(|word| word == key)
}
