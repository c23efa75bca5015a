//! [`ImageRef`]: what an instance starts from; [`ImageSource`]: where an image comes from.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, MapAccess, Visitor};

use super::BadScalar;
use crate::kinds::instance::InstanceType;

/// What `image` of an instance says.
#[derive(Debug, Clone, PartialEq)]
pub enum ImageRef {
    /// An alias of an Image document or of the store, or of a remote: `debian/12`, `images:debian/12`.
    Alias {
        /// The remote before the colon.
        remote: Option<String>,
        /// The alias.
        alias: String,
    },
    /// The SHA-256 of its files in hexadecimal, or at least the first 12 digits of it.
    Fingerprint(String),
    /// Written in place.
    Source(Box<ImageSource>),
}

impl FromStr for ImageRef {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        if let Some(digits) = text.strip_prefix("sha256:") {
            let hexadecimal = digits.bytes().all(|b| b.is_ascii_hexdigit());
            return match digits.len() {
                12..=64 if hexadecimal => Ok(Self::Fingerprint(digits.to_ascii_lowercase())),
                _ => Err(BadScalar::new(format!(
                    "`{text}` is no fingerprint: write 12 to 64 hexadecimal digits after `sha256:`"
                ))),
            };
        }
        let (remote, alias) = match text.split_once(':') {
            Some((remote, alias)) => (Some(remote), alias),
            None => (None, text),
        };
        if alias.is_empty()
            || remote == Some("")
            || text.len() > 255
            || text.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(BadScalar::new(
                "this is no image: write an alias such as `debian/12`",
            ));
        }
        if alias.split('/').any(|step| step == "..") {
            return Err(BadScalar::new(format!(
                "`{text}` is no image: `..` is not taken"
            )));
        }
        Ok(Self::Alias {
            remote: remote.map(str::to_owned),
            alias: alias.to_owned(),
        })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias {
                remote: Some(remote),
                alias,
            } => write!(formatter, "{remote}:{alias}"),
            Self::Alias {
                remote: None,
                alias,
            } => formatter.write_str(alias),
            Self::Fingerprint(digits) => write!(formatter, "sha256:{digits}"),
            Self::Source(source) => source.fmt(formatter),
        }
    }
}

impl serde::Serialize for ImageRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        match self {
            Self::Source(source) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("source", source)?;
                map.end()
            }
            other => serializer.collect_str(other),
        }
    }
}

crate::fields! {
    /// An image written in place.
    pub struct InPlace {
        /// Where it comes from.
        source: Option<ImageSource> = None,
    }
}

struct ImageVisitor;

impl<'de> Visitor<'de> for ImageVisitor {
    type Value = ImageRef;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an image such as `debian/12`, or {source: …}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ImageRef, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ImageRef, A::Error> {
        let place: InPlace =
            serde::Deserialize::deserialize(de::value::MapAccessDeserializer::new(map))?;
        match place.source {
            Some(source) => Ok(ImageRef::Source(Box::new(source))),
            None => Err(de::Error::custom("an image in place needs `source`")),
        }
    }
}

impl<'de> serde::Deserialize<'de> for ImageRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ImageVisitor)
    }
}

impl schemars::JsonSchema for ImageRef {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImageRef".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let place = generator.subschema_for::<InPlace>();
        schemars::json_schema!({
            "anyOf": [{ "type": "string", "minLength": 1 }, place],
            "errorMessage": "expected an image such as `debian/12`, or {source: …}",
            "examples": ["debian/12", "busybox"],
        })
    }
}

crate::compare_as_one!(ImageRef, ImageSource);

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ImageSource {
    /// A simplestreams server.
    Alias {
        /// The alias there: `debian/12`.
        alias: String,
        /// The server: `images`, or a URL.
        server: String,
    },
    /// A registry of OCI images: `docker.io/library/nginx:1.27`.
    Oci(String),
    /// A tarball or squashfs on a web server.
    Url {
        /// Its URL.
        url: String,
        /// Its SHA-256 in hexadecimal.
        sha256: Option<String>,
        /// The URL of `metadata.tar.*`, where an image is split in two.
        metadata: Option<String>,
    },
    /// A tarball or squashfs in the repository (relative to the root of the source) or on the host (absolute).
    File {
        /// Its path.
        file: String,
        /// Its SHA-256 in hexadecimal.
        sha256: Option<String>,
        /// The path of `metadata.tar.*`, where an image is split in two.
        metadata: Option<String>,
    },
    /// An instance of this host, published.
    Instance(String),
    /// A snapshot of this host, published: `web-1/snap0`.
    Snapshot(String),
    /// A folder with a root file system, in the repository or on the host.
    Rootfs(String),
    /// What comes with keel: `busybox`.
    Builtin(String),
}

impl ImageSource {
    /// For which instances an image of this source can only be.
    pub const fn made_for(&self) -> Option<InstanceType> {
        match self {
            // A folder of files, or layers of them.
            Self::Rootfs(_) | Self::Builtin(_) | Self::Oci(_) => Some(InstanceType::Container),
            _ => None,
        }
    }
}

crate::fields! {
    /// Where an image comes from: one of `alias`, `oci`, `url`, `file`, `instance`, `snapshot`, `rootfs`, `builtin`.
    pub struct ImageSourceFields {
        /// The alias on a simplestreams server: `debian/12`.
        alias: Option<String> = None,
        /// The simplestreams server of `alias`: `images`, or a URL. Absent: `images`.
        server: Option<String> = None,
        /// An OCI image: `docker.io/library/nginx:1.27`.
        oci: Option<String> = None,
        /// A tarball or squashfs on a web server.
        url: Option<String> = None,
        /// The SHA-256 of what `url` or `file` names, in hexadecimal.
        sha256: Option<String> = None,
        /// The metadata of a split image: a URL beside `url`, a path beside `file`.
        metadata: Option<String> = None,
        /// A tarball or squashfs in the repository (relative to this file) or on the host (absolute).
        file: Option<String> = None,
        /// An instance of this host that is published.
        instance: Option<String> = None,
        /// A snapshot of this host that is published: `web-1/snap0`.
        snapshot: Option<String> = None,
        /// A folder with a root file system, in the repository (relative to this file) or on the host (absolute).
        rootfs: Option<String> = None,
        /// An image that comes with keel: `busybox`.
        builtin: Option<String> = None,
    }
}

impl ImageSource {
    /// The words of which it is one.
    pub const WAYS: [&'static str; 8] = [
        "alias", "oci", "url", "file", "instance", "snapshot", "rootfs", "builtin",
    ];

    /// Its fields as they are written.
    pub fn to_fields(&self) -> ImageSourceFields {
        let mut fields = ImageSourceFields::default();
        match self.clone() {
            Self::Alias { alias, server } => {
                fields.alias = Some(alias);
                fields.server = Some(server);
            }
            Self::Oci(oci) => fields.oci = Some(oci),
            Self::Url {
                url,
                sha256,
                metadata,
            } => {
                fields.url = Some(url);
                fields.sha256 = sha256;
                fields.metadata = metadata;
            }
            Self::File {
                file,
                sha256,
                metadata,
            } => {
                fields.file = Some(file);
                fields.sha256 = sha256;
                fields.metadata = metadata;
            }
            Self::Instance(name) => fields.instance = Some(name),
            Self::Snapshot(name) => fields.snapshot = Some(name),
            Self::Rootfs(path) => fields.rootfs = Some(path),
            Self::Builtin(name) => fields.builtin = Some(name),
        }
        fields
    }

    fn from_fields(fields: ImageSourceFields) -> Result<Self, BadScalar> {
        let sha256 = match fields.sha256 {
            Some(digits) if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Some(digits.to_ascii_lowercase())
            }
            Some(_) => return Err(BadScalar::new("`sha256` has 64 hexadecimal digits")),
            None => None,
        };
        let metadata = fields.metadata;
        let server = fields.server;
        let mut given = Vec::new();
        let mut extras: &[&str] = &[];
        if let Some(alias) = fields.alias {
            extras = &["server"];
            given.push(Self::Alias {
                alias,
                server: server.clone().unwrap_or_else(|| "images".to_owned()),
            });
        }
        given.extend(fields.oci.map(Self::Oci));
        if let Some(url) = fields.url {
            extras = &["sha256", "metadata"];
            given.push(Self::Url {
                url,
                sha256: sha256.clone(),
                metadata: metadata.clone(),
            });
        }
        if let Some(file) = fields.file {
            extras = &["sha256", "metadata"];
            given.push(Self::File {
                file,
                sha256: sha256.clone(),
                metadata: metadata.clone(),
            });
        }
        given.extend(fields.instance.map(Self::Instance));
        given.extend(fields.snapshot.map(Self::Snapshot));
        given.extend(fields.rootfs.map(Self::Rootfs));
        given.extend(fields.builtin.map(Self::Builtin));
        let (Some(source), true) = (given.pop(), given.is_empty()) else {
            return Err(BadScalar::new(
                "a source is one of `alias`, `oci`, `url`, `file`, `instance`, `snapshot`, `rootfs`, `builtin`",
            ));
        };
        for (word, there) in [
            ("server", server.is_some()),
            ("sha256", sha256.is_some()),
            ("metadata", metadata.is_some()),
        ] {
            if there && !extras.contains(&word) {
                return Err(BadScalar::new(format!(
                    "`{word}` does not go with this source"
                )));
            }
        }
        Ok(source)
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias { alias, server } => write!(formatter, "{server}:{alias}"),
            Self::Oci(reference) => write!(formatter, "oci:{reference}"),
            Self::Url { url, .. } => formatter.write_str(url),
            Self::File { file, .. } => formatter.write_str(file),
            Self::Instance(name) => write!(formatter, "instance {name}"),
            Self::Snapshot(name) => write!(formatter, "snapshot {name}"),
            Self::Rootfs(path) => formatter.write_str(path),
            Self::Builtin(name) => write!(formatter, "builtin {name}"),
        }
    }
}

impl serde::Serialize for ImageSource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_fields().serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for ImageSource {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = ImageSourceFields::deserialize(deserializer)?;
        Self::from_fields(fields).map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for ImageSource {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImageSource".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = ImageSourceFields::json_schema(generator);
        let choice = |word: &str| serde_json::json!({ "required": [word] });
        let words = [
            "alias", "oci", "url", "file", "instance", "snapshot", "rootfs", "builtin",
        ];
        schema.insert("oneOf".to_owned(), words.map(choice).to_vec().into());
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for text in ["debian/12", "images:debian/12", "sha256:0123456789ab"] {
            assert_eq!(text.parse::<ImageRef>().expect(text).to_string(), text);
        }
        for wrong in [
            "",
            "a b",
            "sha256:12",
            "sha256:xyzxyzxyzxyz",
            "../../etc",
            ":a",
            "a:",
        ] {
            assert!(wrong.parse::<ImageRef>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sources_are_one_of_many() {
        let read = |text: &str| serde_json::from_str::<ImageSource>(text);
        assert_eq!(
            read("{\"builtin\":\"busybox\"}").expect("builtin"),
            ImageSource::Builtin("busybox".to_owned())
        );
        let source = read("{\"alias\":\"debian/12\"}").expect("alias");
        assert_eq!(
            serde_json::to_string(&source).expect("json"),
            "{\"alias\":\"debian/12\",\"server\":\"images\"}"
        );
        for wrong in [
            "{}",
            "{\"oci\":\"a\",\"url\":\"b\"}",
            "{\"oci\":\"a\",\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\"}",
            "{\"url\":\"a\",\"sha256\":\"12\"}",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
