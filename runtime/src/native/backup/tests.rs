//! What is written is read again, and what nobody of us wrote is refused by name.

use std::io::Read;
use std::path::Path;

use manifests::path_io;

use super::format::{Head, ImageHead};
use super::packer::Packer;
use super::tar_writer::{BackupWriter, Header};
use super::trees::write_tree;
use super::*;
use crate::native::image::attributes::Attributes;
use crate::native::image::tar_stream::TarEntry;
use crate::native::image::{Form, ImageProperties, ImageRecord};
use crate::native::send_stream::Command;

pub(super) fn head() -> Head {
    Head {
        format: MAGIC.to_owned(),
        format_version: FORMAT_VERSION,
        program: "a test".to_owned(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        instance: Some("instance/web".parse().unwrap()),
        r#type: Some(manifests::kinds::instance::InstanceType::Container),
        of_snapshot: None,
        form: format::Form::Files,
        image: Some(ImageHead {
            included: false,
            record: ImageRecord {
                format_version: 1,
                fingerprint: "ab".repeat(32),
                source: "a test".to_owned(),
                form: Form::Plain,
                packed_bytes: 0,
                unpacked_bytes: 0,
                entries: 0,
                machine: None,
                tree_digest: String::new(),
                properties: ImageProperties::default(),
                left_out: Vec::new(),
                left_out_count: 0,
            },
        }),
        snapshots: Vec::new(),
        layers: None,
        volumes: Vec::new(),
    }
}

struct Nothing(Rules);

impl Visitor for Nothing {
    fn begin(&mut self, _: &Head) -> Result<Rules, BackupError> {
        Ok(self.0)
    }

    fn entry(
        &mut self,
        _: &Tree,
        _: Option<&Path>,
        _: &Member,
        _: &Attributes,
        _: &TarEntry,
        _: &mut dyn Read,
    ) -> Result<(), BackupError> {
        Ok(())
    }

    fn command(&mut self, _: &Tree, _: &Command<'_>) -> Result<(), BackupError> {
        Ok(())
    }

    fn blob(&mut self, _: Blob, _: &TarEntry, _: &mut dyn Read) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Of a container with the ids that most have.
const USUAL: Rules = Rules {
    ids: 65_536,
    devices: false,
};

fn check(file: &Path) -> Result<Checked, BackupError> {
    let source = Source {
        path: file,
        unseal: None,
    };
    read(&source, &mut |_| true, &mut Nothing(USUAL))
}

pub(super) type Writer = BackupWriter<Vec<u8>>;

pub(super) fn written(head: &Head, members: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let text = serde_json::to_vec(head).unwrap();
    let mut writer = BackupWriter::new(Vec::new(), &text, "kind: Instance\n").unwrap();
    members(&mut writer);
    writer.finish().unwrap().0
}

pub(super) fn add(writer: &mut Writer, header: &Header<'_>, content: &[u8]) {
    let size = content.len() as u64;
    let mut data = content;
    writer
        .member(header, size, &[(0, size)], &mut data, Path::new("x"))
        .unwrap();
}

pub(super) fn named(name: &str, kind: u8) -> Header<'_> {
    Header {
        name: name.as_bytes(),
        kind,
        mode: 0o755,
        ..Header::default()
    }
}

#[test]
fn what_contradicts_itself_is_no_backup() {
    use std::collections::BTreeMap;

    let snapshot = |name: &str, layer| SnapshotHead {
        name: name.to_owned(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        description: String::new(),
        layer,
        form: format::Form::Files,
    };
    let machine = |active, below: &[(u32, Option<u32>)]| Head {
        r#type: Some(manifests::kinds::instance::InstanceType::VirtualMachine),
        image: None,
        layers: Some(LayersHead {
            active,
            below: below.iter().copied().collect::<BTreeMap<_, _>>(),
        }),
        ..head()
    };
    let with = |names: &[(&str, Option<u32>)], head: Head| Head {
        snapshots: names
            .iter()
            .map(|(name, layer)| snapshot(name, *layer))
            .collect(),
        ..head
    };
    let table = [
        (
            with(&[("../x", None)], head()),
            "\"../x\" is no name of a snapshot",
        ),
        (
            with(&[(".new-x", None)], head()),
            "\".new-x\" is no name of a snapshot",
        ),
        (
            with(&[("a", None), ("a", None)], head()),
            "it has two snapshots a",
        ),
        (
            with(&[("a", Some(0))], head()),
            "snapshot a keeps no layer of it",
        ),
        (
            with(&[("a", Some(7))], machine(0, &[(0, None)])),
            "snapshot a keeps no layer of it",
        ),
        (
            machine(3, &[(0, None)]),
            "it lacks the layer that its machine goes on with",
        ),
        (
            machine(1, &[(0, Some(1)), (1, Some(0))]),
            "layer 0 lies on itself",
        ),
        (machine(1, &[(1, Some(5))]), "layer 1 lies on none"),
        (
            machine(u32::MAX, &[(u32::MAX, None)]),
            "no disk has a layer 4294967295",
        ),
        (
            Head {
                image: None,
                ..head()
            },
            "a container without an image",
        ),
        (
            of_volumes(&["volume/fast/data", "volume/fast/more"]),
            "without an instance it is of one volume",
        ),
        (of_volumes(&["instance/web"]), "instance/web is no volume"),
        (
            Head {
                snapshots: vec![snapshot("a", None)],
                ..of_volumes(&["volume/fast/data"])
            },
            "it has something of an instance, and no instance",
        ),
        (
            Head {
                instance: head().instance,
                ..of_volumes(&[])
            },
            "its instance is of no type",
        ),
        (
            Head {
                layers: machine(0, &[(0, None)]).layers,
                ..head()
            },
            "a machine has a disk of layers, and a container has none",
        ),
    ];
    for (head, wanted) in table {
        assert_eq!(
            told(&written(&head, |_| {})),
            format!("x is no backup: {wanted}")
        );
    }
}

/// The first lines of what is wrong with an archive.
pub(super) fn told(tar: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.keel");
    path_io::write(&file, zstd::encode_all(tar, 1).unwrap()).unwrap();
    let shown = file.display().to_string();
    match check(&file) {
        Ok(checked) => checked.faults.join("\n"),
        Err(error) => error.to_string().replace(&shown, "x"),
    }
}

fn root(writer: &mut Writer) {
    writer.begin_part("root");
    add(writer, &named("root", b'5'), b"");
}

/// A backup of volumes of files, without an instance.
pub(super) fn of_volumes(addresses: &[&str]) -> Head {
    let volumes = addresses.iter().map(|address| VolumeHead {
        address: address.parse().unwrap(),
        content_type: manifests::kinds::volume::ContentType::Filesystem,
        form: format::Form::Files,
        snapshots: Vec::new(),
    });
    Head {
        instance: None,
        r#type: None,
        image: None,
        volumes: volumes.collect(),
        ..head()
    }
}

#[test]
fn what_comes_with_a_volume_is_announced_and_belongs_to_it() {
    let one = of_volumes(&["volume/fast/data"]);
    let of = |more: &[(&str, u8)]| {
        written(&one, |writer| {
            writer.begin_part("volumes/0/files");
            add(writer, &named("volumes/0/files", b'5'), b"");
            for (name, kind) in more {
                writer.begin_part(name);
                add(writer, &named(name, *kind), b"");
            }
        })
    };
    assert_eq!(told(&of(&[])), "");
    for (more, wanted) in [
        (
            ("volumes/1/files", b'5'),
            "volumes/1/files is announced nowhere",
        ),
        (
            ("volumes/0/snapshots/a", b'5'),
            "volumes/0/snapshots/a is announced nowhere",
        ),
        (
            ("volumes/0/disk", b'0'),
            "volumes/0/disk is announced nowhere",
        ),
        (
            ("volumes/0/disks/0", b'0'),
            "volumes/0/disks/0 is announced nowhere",
        ),
        (
            ("volumes/0/disks/0/x", b'0'),
            "volumes/0/disks/0/x is no part of a backup",
        ),
        (
            ("volumes/00/files/x", b'0'),
            "volumes/00/files/x is no part of a backup",
        ),
    ] {
        let told = told(&of(&[more]));
        assert!(told.lines().any(|line| line == wanted), "{told}");
    }
    let nothing = written(&one, |_| {});
    assert_eq!(told(&nothing), "volumes/0/files is missing");
}

#[test]
fn what_was_written_has_no_fault() {
    let long = format!("root/{}", "long/".repeat(40));
    let tar = written(&head(), |writer| {
        root(writer);
        add(writer, &named("root/a", b'5'), b"");
        add(writer, &named("root/a/file", b'0'), b"hello");
        // Behind what is in the folder, as its name is.
        add(writer, &named("root/a.txt", b'0'), b"");
        let mut at = String::from("root");
        for _ in 0..40 {
            at.push_str("/long");
            add(writer, &named(&at, b'5'), b"");
        }
        let last = format!("{long}file\nwith a line");
        add(writer, &named(&last, b'0'), &[7; 3000]);
    });
    assert_eq!(told(&tar), "");
}

#[test]
fn more_members_than_sums_at_once_are_vouched_for() {
    let names: Vec<String> = (0..3000).map(|one| format!("root/{one:05}")).collect();
    let tar = written(&head(), |writer| {
        root(writer);
        for name in &names {
            add(writer, &named(name, b'0'), name.as_bytes());
        }
    });
    assert_eq!(told(&tar), "");
    let at = tar.windows(10).rposition(|bytes| bytes == b"root/00777");
    let mut altered = tar;
    altered[at.unwrap()] = b'R';
    assert_eq!(told(&altered), "root/00777 is not what it was");
}

#[test]
#[expect(clippy::type_complexity, reason = "a table")]
fn hostile_members_are_refused_by_name() {
    let device = |name| Header {
        device: (8, 0),
        ..named(name, b'4')
    };
    let linked = |link: &'static str| Header {
        link: link.as_bytes(),
        ..named("root/b", b'1')
    };
    let xattrs = vec![("user.overlay.redirect".to_owned(), b"/".to_vec())];
    let table: Vec<(Box<dyn Fn(&mut Writer)>, &str)> = vec![
        (
            Box::new(|w| add(w, &named("root/../../etc/x", b'0'), b"x")),
            "root/../../etc/x leads upwards",
        ),
        (
            Box::new(|w| add(w, &named("/etc/x", b'0'), b"x")),
            "/etc/x has an absolute name",
        ),
        (
            Box::new(|w| add(w, &named("etc/x", b'0'), b"x")),
            "etc/x is no part of a backup",
        ),
        (
            Box::new(|w| add(w, &named("root/a/b", b'0'), b"x")),
            "root/a/b is in no folder",
        ),
        (
            Box::new(|w| {
                add(
                    w,
                    &Header {
                        link: b"/etc",
                        ..named("root/a", b'2')
                    },
                    b"",
                );
                add(w, &named("root/a/passwd", b'0'), b"x");
            }),
            "root/a/passwd is in no folder",
        ),
        (
            Box::new(|w| {
                add(w, &named("root/a", b'0'), b"x");
                add(w, &named("root/a", b'0'), b"y");
            }),
            "root/a is there twice, or not in its order",
        ),
        (
            Box::new(|w| add(w, &named("root", b'5'), b"")),
            "root is there twice",
        ),
        (
            Box::new(move |w| add(w, &device("root/sda"), b"")),
            "root/sda is the device 8:0",
        ),
        (
            Box::new(move |w| add(w, &linked("root/../../etc/shadow"), b"")),
            "root/b is a hard link to something outside of its tree",
        ),
        (
            Box::new(move |w| add(w, &linked("/etc/shadow"), b"")),
            "root/b is a hard link to something outside of its tree",
        ),
        (
            Box::new(move |w| add(w, &linked("manifest.yaml"), b"")),
            "root/b is a hard link to something outside of its tree",
        ),
        (
            Box::new(move |w| add(w, &linked("root/c"), b"")),
            "root/b is a hard link to nothing before it",
        ),
        (
            Box::new(|w| {
                add(
                    w,
                    &Header {
                        uid: 70_000,
                        ..named("root/a", b'0')
                    },
                    b"",
                );
            }),
            "root/a belongs to 70000, which its instance does not have",
        ),
        (
            Box::new(move |w| {
                add(
                    w,
                    &Header {
                        xattrs: &xattrs,
                        ..named("root/a", b'5')
                    },
                    b"",
                );
            }),
            "root/a has the attribute user.overlay.redirect",
        ),
        (
            Box::new(|w| add(w, &named("root/a", b'Z'), b"")),
            "root/a is of unknown kind 'Z'",
        ),
        (
            Box::new(|w| add(w, &named("manifest.yaml", b'0'), b"x")),
            "manifest.yaml is there twice",
        ),
        (
            Box::new(|w| {
                w.begin_part("snapshots/new");
                add(w, &named("snapshots/new", b'5'), b"");
            }),
            "snapshots/new is announced nowhere",
        ),
        (
            Box::new(|w| {
                let run = [(10, 100)];
                let header = named("root/a", b'0');
                let mut data = &[0; 100][..];
                w.member(&header, 50, &run, &mut data, Path::new("x"))
                    .unwrap();
            }),
            "root/a has a sparse map that does not fit",
        ),
    ];
    for (members, wanted) in table {
        let tar = written(&head(), |writer| {
            root(writer);
            members(writer);
        });
        let told = told(&tar);
        assert_eq!(told.lines().next(), Some(wanted), "{told}");
    }
    // The overlay's own marks and whiteouts are lawful.
    let opaque = vec![("user.overlay.opaque".to_owned(), b"y".to_vec())];
    let tar = written(&head(), |writer| {
        root(writer);
        add(
            writer,
            &Header {
                xattrs: &opaque,
                ..named("root/a", b'5')
            },
            b"",
        );
        add(writer, &named("root/gone", b'3'), b"");
        add(
            writer,
            &Header {
                socket: true,
                ..named("root/socket", b'0')
            },
            b"",
        );
    });
    assert_eq!(told(&tar), "");
}

#[test]
fn what_is_no_backup_or_not_whole_says_so() {
    let tar = written(&head(), root);
    let newer = Head {
        format_version: FORMAT_VERSION + 1,
        ..head()
    };
    assert_eq!(
        told(&written(&newer, root)),
        "x is of format version 4, and this keel reads up to 3"
    );
    assert_eq!(told(&written(&head(), |_| {})), "root is missing");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.keel");
    let said = |bytes: &[u8]| {
        path_io::write(&file, bytes).unwrap();
        match check(&file) {
            Ok(checked) => checked.faults.join("\n"),
            Err(error) => error.to_string(),
        }
    };
    assert!(said(b"hello").ends_with("is no backup: it does not begin as one"));
    assert!(said(b"").ends_with("is no backup: it does not begin as one"));
    assert!(said(b"age-encryption.org/v1\n").contains("is encrypted"));
    let packed = zstd::encode_all(&tar[..], 1).unwrap();
    for cut in [20, packed.len() / 2, packed.len() - 1] {
        let said = said(&packed[..cut]);
        assert!(!said.is_empty(), "cut to {cut} of {}", packed.len());
    }
    // An end mark in the middle: all that follows is missing.
    let cut = tar.len() - 1024 - 1024;
    let early = [&tar[..cut / 512 * 512 - 512], &[0; 1024]].concat();
    let said = told(&early);
    assert!(
        said.contains("index.json is missing") || said.contains("sums"),
        "{said}"
    );
    // Every single byte of a member counts.
    let sums = tar.windows(6).position(|bytes| bytes == b"sums/0");
    for at in (0..sums.unwrap()).step_by(97) {
        let mut altered = tar.clone();
        altered[at] ^= 1;
        assert_ne!(told(&altered), "", "byte {at}");
    }
}

crate::host_test! {
    fn a_tree_goes_into_a_backup_as_it_is() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let tree = folder.path().join("tree");
        let make = format!(
            "set -e; mkdir -p {0}/deep/er; cd {0}; echo hello >file; ln file deep/again; ln -s /etc/passwd link; mkfifo pipe; \
             mknod whiteout c 0 0; chown -h 1000:1001 link; chown 65534:5 pipe deep; chmod 4755 file; \
             truncate -s 64M hole; printf x | dd of=hole bs=1 seek=33554432 conv=notrunc 2>/dev/null; touch -d 1999-01-01 deep",
            tree.display()
        );
        crate::sys::command::run("sh", &["-c".to_owned(), make], None).expect("a tree");
        std::os::unix::net::UnixListener::bind(tree.join("socket")).expect("a socket");
        let file = folder.path().join("x.keel");
        let target = Target::begin(&file, false, false).expect("begun");
        let text = serde_json::to_vec(&head()).expect("text");
        let sink = Box::new(target.writer().expect("a handle"));
        let mut out = BackupWriter::new(Packer::new(sink, None, false), &text, "kind: Instance\n").expect("begun");
        write_tree(&mut out, "root", &tree, &|| true).expect("written");
        let (packer, index) = out.finish().expect("finished");
        packer.finish().expect("packed");
        assert!(!file.exists(), "no name before it is whole");
        target.finish().expect("named");
        assert!(index.parts[0].bytes < 1 << 20, "holes stay holes: {index:?}");
        assert_eq!(file.metadata().expect("there").mode() & 0o777, 0o600);
        let checked = check(&file).expect("read");
        assert_eq!(checked.faults, [""; 0]);
        // Nothing is overwritten unasked, and nothing is left of one that is given up.
        assert!(matches!(Target::begin(&file, false, false), Err(BackupError::Exists { .. })));
        let target = Target::begin(&file, true, false).expect("begun");
        let sink = Box::new(target.writer().expect("a handle"));
        let mut out = BackupWriter::new(Packer::new(sink, None, false), &text, "kind: Instance\n").expect("begun");
        let left = write_tree(&mut out, "root", &tree, &|| false);
        assert!(matches!(left, Err(BackupError::Interrupted)), "{left:?}");
        drop((out, target));
        assert_eq!(path_io::list(folder.path()).expect("listed").len(), 2);
        assert_eq!(check(&file).expect("read").sha256, checked.sha256);
    }
}
