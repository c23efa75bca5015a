//! The images of the store, as a table.

use runtime::native::StoredImages;

use super::text;

/// How many hexadecimal digits of a fingerprint people see: as many as name it for sure.
const SHORT: usize = 12;

/// One line an image, then what cannot be read.
pub fn table(all: &StoredImages) -> String {
    let rows: Vec<Vec<String>> = all
        .images
        .iter()
        .map(|image| {
            let record = &image.record;
            let words = |all: &[String]| text::visible(&all.join(", "));
            vec![
                short(&record.fingerprint).to_owned(),
                words(&image.aliases),
                image.r#type.word().to_owned(),
                text::bytes(record.unpacked_bytes),
                text::visible(record.properties.architecture.as_deref().unwrap_or("")),
                words(&image.used_by),
                text::visible(&record.source),
            ]
        })
        .collect();
    let header = [
        "FINGERPRINT",
        "ALIASES",
        "TYPE",
        "SIZE",
        "ARCHITECTURE",
        "USED BY",
        "FROM",
    ];
    let mut out = text::table(&header, &rows);
    for (fingerprint, why) in &all.broken {
        let why = text::visible(why);
        out.push_str(&format!("{} cannot be read: {why}\n", short(fingerprint)));
    }
    out
}

/// The start of a fingerprint.
pub fn short(fingerprint: &str) -> &str {
    fingerprint.get(..SHORT).unwrap_or(fingerprint)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use manifests::kinds::instance::InstanceType;
    use runtime::native::StoredImage;
    use runtime::native::image::{Form, ImageProperties, ImageRecord};

    use super::*;

    #[test]
    fn names_sizes_and_users() {
        let image = |digit: &str, aliases: &[&str], used_by: &[&str]| StoredImage {
            r#type: InstanceType::Container,
            record: ImageRecord {
                format_version: 1,
                fingerprint: digit.repeat(64),
                source: "/srv/debian.tar.xz".to_owned(),
                form: Form::Plain,
                packed_bytes: 1 << 20,
                unpacked_bytes: 300 << 20,
                entries: 9000,
                machine: None,
                tree_digest: String::new(),
                properties: ImageProperties {
                    architecture: Some("x86_64".to_owned()),
                    ..ImageProperties::default()
                },
                left_out: Vec::new(),
                left_out_count: 0,
            },
            aliases: aliases.iter().map(ToString::to_string).collect(),
            used_by: used_by.iter().map(ToString::to_string).collect(),
        };
        let all = StoredImages {
            images: vec![
                image("a", &["debian/12", "stable"], &["instance/web"]),
                image("b", &[], &[]),
            ],
            broken: BTreeMap::from([("c".repeat(64), "the record is missing".to_owned())]),
        };
        insta::assert_snapshot!(table(&all), @r"
        FINGERPRINT    ALIASES             TYPE        SIZE      ARCHITECTURE   USED BY        FROM
        aaaaaaaaaaaa   debian/12, stable   container   300 MiB   x86_64         instance/web   /srv/debian.tar.xz
        bbbbbbbbbbbb                       container   300 MiB   x86_64                        /srv/debian.tar.xz
        cccccccccccc cannot be read: the record is missing
        ");
    }
}
