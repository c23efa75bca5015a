//! UEFI firmware that is installed on the host, by the descriptions that come with it.
//!
//! `docs/interop/firmware.json` of QEMU: JSON files in three folders; a file in an earlier one hides those of the same name
//! in later ones, and they are tried in the order of their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifests::path_io;
use serde_json::Value;

/// Where descriptions are, those of the administrator first.
const FOLDERS: [&str; 2] = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"];
/// A description is short.
const LONGEST: usize = 64 << 10;

/// One firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// The program; read-only.
    pub code: PathBuf,
    /// What a machine's own variables begin as.
    pub variables: PathBuf,
    /// Whether it starts signed programs only.
    pub secure: bool,
}

/// The firmware of this host; absent: none is installed that fits.
pub fn find(secure: bool) -> Option<Firmware> {
    let mut described: BTreeMap<String, Value> = BTreeMap::new();
    for folder in FOLDERS {
        for path in path_io::list(folder).unwrap_or_default() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.ends_with(".json") || described.contains_key(name.as_ref()) {
                continue;
            }
            let text = path_io::read_to_string(&path).unwrap_or_default();
            let value = match text.len() <= LONGEST {
                // An empty one hides those after it.
                true => serde_json::from_str(&text).unwrap_or(Value::Null),
                false => Value::Null,
            };
            described.insert(name.into_owned(), value);
        }
    }
    described
        .values()
        .filter_map(|value| described_as(value, secure))
        .find(|firmware| firmware.code.exists() && firmware.variables.exists())
}

/// What a description says, if it is of a firmware that fits.
fn described_as(value: &Value, secure: bool) -> Option<Firmware> {
    let has = |list: &Value, wanted: &str| {
        let mut words = list.as_array().into_iter().flatten();
        words.any(|word| word.as_str() == Some(wanted))
    };
    let features = &value["features"];
    let mapping = &value["mapping"];
    let fits = has(&value["interface-types"], "uefi")
        && mapping["device"] == "flash"
        && mapping["mode"].as_str().is_none_or(|mode| mode == "split")
        && value["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|target| {
                let mut machines = target["machines"].as_array().into_iter().flatten();
                target["architecture"] == std::env::consts::ARCH
                    && machines
                        .any(|machine| machine.as_str().is_some_and(|one| one.contains("q35")))
            });
    let signed = has(features, "secure-boot") && has(features, "enrolled-keys");
    let protected = has(features, "requires-smm");
    let wanted = match secure {
        true => signed && protected,
        false => !has(features, "enrolled-keys") && !protected,
    };
    let file = |part: &str| {
        let part = &mapping[part];
        let raw = part["format"].as_str().is_none_or(|format| format == "raw");
        let name = part["filename"].as_str().filter(|_| raw)?;
        let path = Path::new(name);
        path.is_absolute().then(|| path.to_path_buf())
    };
    if !fits || !wanted {
        return None;
    }
    Some(Firmware {
        code: file("executable")?,
        variables: file("nvram-template")?,
        secure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn description(features: &[&str]) -> Value {
        json!({
            "interface-types": ["uefi"],
            "mapping": {
                "device": "flash",
                "executable": {"filename": "/usr/share/OVMF/OVMF_CODE_4M.fd", "format": "raw"},
                "nvram-template": {"filename": "/usr/share/OVMF/OVMF_VARS_4M.fd", "format": "raw"},
            },
            "targets": [{"architecture": std::env::consts::ARCH, "machines": ["pc-i440fx-*", "pc-q35-*"]}],
            "features": features,
        })
    }

    #[test]
    fn a_firmware_fits_by_its_features() {
        let plain = description(&["acpi-s3", "verbose-dynamic"]);
        let signed = description(&["secure-boot", "enrolled-keys", "requires-smm"]);
        let unsigned = description(&["secure-boot", "requires-smm"]);
        let found = |value: &Value, secure| described_as(value, secure).is_some();
        assert!(found(&plain, false) && !found(&plain, true));
        assert!(found(&signed, true) && !found(&signed, false));
        assert!(!found(&unsigned, true) && !found(&unsigned, false));
    }

    #[test]
    fn what_is_no_description_of_a_flash_is_passed_over() {
        assert_eq!(described_as(&Value::Null, false), None);
        let mut other = description(&[]);
        other["mapping"]["device"] = json!("memory");
        assert_eq!(described_as(&other, false), None);
        let mut other = description(&[]);
        other["mapping"]["executable"]["filename"] = json!("relative");
        assert_eq!(described_as(&other, false), None);
        let mut other = description(&[]);
        other["targets"][0]["architecture"] = json!("none");
        assert_eq!(described_as(&other, false), None);
    }
}
