//! The documents of NoCloud, as they are on the disk.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifests::instance::cloud_init::CloudInit;
use manifests::scalar::text::Document;
use serde_json::{Value, json};
use uuid::Uuid;

use super::parts::{Part, together};

/// The first line of a user's or vendor's document that is a map.
const CLOUD_CONFIG: &str = "#cloud-config\n";

/// Documents by the names of their files, in the order in which they are written.
pub type Documents = Vec<(&'static str, String)>;

/// A folder of the host that cloud-init lets its guest mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFolder<'a> {
    /// By which name.
    pub tag: &'a str,
    /// Where.
    pub path: &'a str,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// A file that cloud-init puts into its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile<'a> {
    /// Where.
    pub path: &'a str,
    /// What is in it.
    pub content: &'a [u8],
    /// Permission bits.
    pub mode: u32,
    /// Its user and group.
    pub owner: (u32, u32),
}

/// What cloud-init is told. The texts have their secrets in place.
///
/// `meta-data` and `user-data` are always there: without them the disk is none of NoCloud.
pub fn documents(
    data: &CloudInit,
    instance_id: Uuid,
    name: &str,
    folders: &[SharedFolder<'_>],
    files: &[GuestFile<'_>],
) -> Documents {
    let mut all = vec![
        ("meta-data", meta_data(instance_id, name)),
        ("user-data", user_data(data, files)),
    ];
    if let Some(vendor) = vendor_data(data, folders) {
        all.push(("vendor-data", vendor));
    }
    if let Some(network) = &data.network_config {
        all.push(("network-config", of_network(network)));
    }
    all
}

fn meta_data(instance_id: Uuid, name: &str) -> String {
    // Quoted: a name may be `123` or `no`.
    format!(
        "instance-id: {}\nlocal-hostname: {}\n",
        json!(instance_id),
        json!(name)
    )
}

/// The vendor's part: folders are mounted by it, unless what people wrote has `mounts` of its own.
fn vendor_data(data: &CloudInit, folders: &[SharedFolder<'_>]) -> Option<String> {
    let written = data.vendor_data.as_ref().map(of_people);
    if folders.is_empty() {
        return written;
    }
    let mounts: Vec<Value> = folders
        .iter()
        .map(|folder| {
            // A guest comes up without it: it may have no virtiofs.
            let options = match folder.read_only {
                true => "ro,nofail",
                false => "rw,nofail",
            };
            json!([folder.tag, folder.path, "virtiofs", options, "0", "0"])
        })
        .collect();
    let own = format!("{CLOUD_CONFIG}{}", yaml(&json!({ "mounts": mounts })));
    let Some(written) = written else {
        return Some(own);
    };
    Some(together(&[
        Part {
            name: "folders",
            text: own,
        },
        Part {
            name: "vendor-data",
            text: written,
        },
    ]))
}

/// Files, beside those that people wrote of their own: lists of both are one list (cloud-init documentation, "Merging
/// user data sections").
fn write_files(files: &[GuestFile<'_>]) -> String {
    let one = |file: &GuestFile<'_>| {
        json!({
            "path": file.path,
            "content": STANDARD.encode(file.content),
            "encoding": "b64",
            "permissions": format!("{:04o}", file.mode),
        })
    };
    let document = json!({
        "merge_how": [
            { "name": "list", "settings": ["append"] },
            { "name": "dict", "settings": ["no_replace", "recurse_list"] },
        ],
        "write_files": files.iter().map(one).collect::<Vec<_>>(),
    });
    format!("{CLOUD_CONFIG}{}", yaml(&document))
}

/// Gives files away: cloud-init knows owners by their names alone, which a guest may not have for its numbers.
fn owners(files: &[GuestFile<'_>]) -> Option<String> {
    let given: String = files
        .iter()
        .filter(|file| file.owner != (0, 0))
        .map(|file| {
            let (uid, gid) = file.owner;
            format!("chown {uid}:{gid} '{}'\n", file.path.replace('\'', "'\\''"))
        })
        .collect();
    (!given.is_empty()).then(|| format!("#!/bin/sh\n{given}"))
}

/// The user's part: what is all of it stays as it is; several are put together, `userData` first.
fn user_data(data: &CloudInit, files: &[GuestFile<'_>]) -> String {
    let own = data.user_data.iter().map(|own| ("user-data", own));
    let more = data.parts.iter().map(|(name, part)| (name.as_str(), part));
    let mut parts: Vec<Part<'_>> = own
        .chain(more)
        .map(|(name, document)| Part {
            name,
            text: of_people(document),
        })
        .collect();
    if !files.is_empty() {
        parts.push(Part {
            name: "files",
            text: write_files(files),
        });
        parts.extend(owners(files).map(|text| Part {
            name: "owners",
            text,
        }));
    }
    match parts.len() {
        0 => String::new(),
        1 => parts.remove(0).text,
        _ => together(&parts),
    }
}

fn of_people(document: &Document) -> String {
    match document {
        Document::Text(text) => text.as_plain().unwrap_or_default().to_owned(),
        Document::Data(data) => format!("{CLOUD_CONFIG}{}", yaml(data)),
    }
}

fn of_network(document: &Document) -> String {
    match document {
        Document::Text(text) => text.as_plain().unwrap_or_default().to_owned(),
        Document::Data(data) => yaml(data),
    }
}

/// JSON that is YAML as well: what a reader of YAML takes for a line break or refuses stands in its escaped form.
fn yaml(data: &Value) -> String {
    let mut out = String::new();
    for letter in format!("{data:#}").chars() {
        match letter {
            '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            other => out.push(other),
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(data: &str) -> Documents {
        let data: CloudInit = serde_json::from_str(data).expect(data);
        documents(&data, Uuid::from_u128(7), "web-1", &[], &[])
    }

    #[test]
    fn a_map_becomes_cloud_config_and_a_text_stays_as_it_is() {
        let all = written(
            r##"{"userData": {"packages": ["curl"], "runcmd": [["echo", "a\u0085\u2028b"]]},
                "vendorData": "#!/bin/sh\necho vendor\n", "networkConfig": {"version": 2, "ethernets": {}}}"##,
        );
        let text: String = all
            .iter()
            .map(|(name, text)| format!("--- {name}\n{text}"))
            .collect();
        insta::assert_snapshot!(text, @r#"
        --- meta-data
        instance-id: "00000000-0000-0000-0000-000000000007"
        local-hostname: "web-1"
        --- user-data
        #cloud-config
        {
          "packages": [
            "curl"
          ],
          "runcmd": [
            [
              "echo",
              "a\u0085\u2028b"
            ]
          ]
        }
        --- vendor-data
        #!/bin/sh
        echo vendor
        --- network-config
        {
          "version": 2,
          "ethernets": {}
        }
        "#);
    }

    #[test]
    fn folders_are_mounted_beside_what_people_wrote() {
        let folders = [
            SharedFolder {
                tag: "data",
                path: "/srv/data",
                read_only: false,
            },
            SharedFolder {
                tag: "fixed",
                path: "/fixed",
                read_only: true,
            },
        ];
        let vendor = |data: &str| {
            let data: CloudInit = serde_json::from_str(data).expect(data);
            let all = documents(&data, Uuid::from_u128(7), "web-1", &folders, &[]);
            let found = all.into_iter().find(|(name, _)| *name == "vendor-data");
            found.expect("vendor-data").1
        };
        insta::assert_snapshot!(vendor(r#"{"userData": "x"}"#).replace(['\n', ' '], ""), @r##"#cloud-config{"mounts":[["data","/srv/data","virtiofs","rw,nofail","0","0"],["fixed","/fixed","virtiofs","ro,nofail","0","0"]]}"##);
        let both = vendor(r##"{"vendorData": "#!/bin/true"}"##);
        assert!(
            both.contains("filename=\"folders\"") && both.contains("filename=\"vendor-data\""),
            "{both}"
        );
    }

    #[test]
    fn files_are_put_beside_those_that_people_wrote() {
        let files = [
            GuestFile {
                path: "/etc/motd",
                content: b"hello\n",
                mode: 0o644,
                owner: (0, 0),
            },
            GuestFile {
                path: "/srv/it's",
                content: b"\0",
                mode: 0o600,
                owner: (1000, 100),
            },
        ];
        let user = |data: &str, files: &[GuestFile<'_>]| {
            let data: CloudInit = serde_json::from_str(data).expect(data);
            let mut all = documents(&data, Uuid::from_u128(7), "web-1", &[], files);
            all.remove(1).1
        };
        insta::assert_snapshot!(user("{}", &files[..1]).replace(['\n', ' '], ""), @r##"#cloud-config{"merge_how":[{"name":"list","settings":["append"]},{"name":"dict","settings":["no_replace","recurse_list"]}],"write_files":[{"path":"/etc/motd","content":"aGVsbG8K","encoding":"b64","permissions":"0644"}]}"##);
        let given = owners(&files).expect("one is given away");
        assert_eq!(given, "#!/bin/sh\nchown 1000:100 '/srv/it'\\''s'\n");
        let both = user(r#"{"userData": {"write_files": []}}"#, &files);
        let names =
            ["user-data", "files", "owners"].map(|name| both.find(&format!("filename=\"{name}\"")));
        assert!(
            names.iter().all(Option::is_some) && names.is_sorted(),
            "{both}"
        );
    }

    #[test]
    fn what_nocloud_asks_for_is_always_there() {
        let all = written(r#"{"networkConfig": "version: 2\n"}"#);
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["meta-data", "user-data", "network-config"]);
        assert_eq!(all[1].1, "");
    }

    #[test]
    fn one_part_alone_is_no_archive() {
        let all = written(r##"{"parts": {"10-base": "#cloud-config\n{}\n"}}"##);
        assert_eq!(all[1], ("user-data", "#cloud-config\n{}\n".to_owned()));
    }

    #[test]
    fn parts_are_put_together_in_the_order_of_their_names() {
        let all = written(
            r###"{"parts": {"20-run": "#!/bin/sh\necho run\n", "10-base": {"packages": ["curl"]}},
                "userData": "## template: jinja\n#cloud-config\nhostname: {{ v1.region }}\n"}"###,
        );
        insta::assert_snapshot!(all[1].1, @r#"
        Content-Type: multipart/mixed; boundary="keel-part"
        MIME-Version: 1.0

        --keel-part
        Content-Type: text/jinja2; charset="utf-8"
        MIME-Version: 1.0
        Content-Transfer-Encoding: base64
        Content-Disposition: attachment; filename="user-data"

        IyMgdGVtcGxhdGU6IGppbmphCiNjbG91ZC1jb25maWcKaG9zdG5hbWU6IHt7IHYxLnJlZ2lvbiB9
        fQo=
        --keel-part
        Content-Type: text/cloud-config; charset="utf-8"
        MIME-Version: 1.0
        Content-Transfer-Encoding: base64
        Content-Disposition: attachment; filename="10-base"

        I2Nsb3VkLWNvbmZpZwp7CiAgInBhY2thZ2VzIjogWwogICAgImN1cmwiCiAgXQp9Cg==
        --keel-part
        Content-Type: text/x-shellscript; charset="utf-8"
        MIME-Version: 1.0
        Content-Transfer-Encoding: base64
        Content-Disposition: attachment; filename="20-run"

        IyEvYmluL3NoCmVjaG8gcnVuCg==
        --keel-part--
        "#);
    }
}
