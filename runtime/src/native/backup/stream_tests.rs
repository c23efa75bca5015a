//! Streams in a backup: what is written is read again, and what nobody of us wrote is refused.

use super::format::Form;
use super::tests::{Writer, add, head, named, of_volumes, told, written};
use super::*;
use crate::native::send_stream::tests::{command, stream};

fn optimized() -> Head {
    Head {
        form: Form::Btrfs,
        ..head()
    }
}

/// A backup of which the root is this stream, in pieces of so many bytes.
fn of(head: &Head, stream: &[u8], piece: usize) -> Vec<u8> {
    written(head, |writer| pieces(writer, "streams/root", stream, piece))
}

fn pieces(writer: &mut Writer, part: &str, stream: &[u8], piece: usize) {
    writer.begin_part(part);
    for (number, piece) in stream.chunks(piece).enumerate() {
        add(writer, &named(&format!("{part}/{number}"), b'0'), piece);
    }
}

fn number(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

#[test]
fn a_stream_has_no_fault_in_whatever_pieces_it_is_and_over_sums_between_them() {
    let all = stream(&[
        command(4, &[(15, b"upper")]),
        // A whiteout, and what an overlay notes.
        command(
            5,
            &[
                (15, b"upper/gone"),
                (5, &number(0o020_000)),
                (8, &number(0)),
            ],
        ),
        command(
            13,
            &[(15, b"upper"), (13, b"user.overlay.opaque"), (14, b"y")],
        ),
        command(
            13,
            &[(15, b"upper"), (13, b"user.overlay.origin"), (14, b"x")],
        ),
        command(13, &[(15, b"upper"), (13, b"security.selinux"), (14, b"x")]),
        command(19, &[(15, b"upper"), (6, &number(65_535)), (7, &number(0))]),
    ]);
    for piece in [all.len(), 100, 1, 64] {
        assert_eq!(
            told(&of(&optimized(), &all, piece)),
            "",
            "pieces of {piece}"
        );
    }
    let long = stream(&vec![command(4, &[(15, b"upper")]); 400]);
    assert_eq!(told(&of(&optimized(), &long, 5)), "");
}

#[test]
fn what_may_not_be_in_a_stream_is_told() {
    let path = |path: &'static str| (15_u16, path.as_bytes());
    let table: [(Vec<u8>, &str); 12] = [
        (command(4, &[path("../x")]), "has a bad name: ../x"),
        (command(4, &[path("/etc")]), "has a bad name: /etc"),
        (command(4, &[path("a/./b")]), "has a bad name: a/./b"),
        (command(11, &[path("")]), "has a bad name: "),
        (
            command(9, &[path("a"), (16, b"b/../../c")]),
            "has a bad name: b/../../c",
        ),
        (
            command(10, &[path("a"), (17, b"/etc/shadow")]),
            "has a bad name: /etc/shadow",
        ),
        (
            command(
                5,
                &[path("sda"), (5, &number(0o060_000)), (8, &number(0x800))],
            ),
            "has sda: the device 8:0",
        ),
        (
            command(19, &[path("x"), (6, &number(65_536)), (7, &number(0))]),
            "has x: it belongs to 65536, which its instance does not have",
        ),
        (
            command(
                13,
                &[path("x"), (13, b"user.overlay.redirect"), (14, b"/y")],
            ),
            "has x: the attribute user.overlay.redirect",
        ),
        (
            command(
                16,
                &[
                    path("x"),
                    (18, &number(0)),
                    (24, &number(1)),
                    (20, &[9; 16]),
                    (22, b"y"),
                    (23, &number(0)),
                ],
            ),
            "takes bytes of one that is not before it",
        ),
        (
            command(18, &[path("x"), (5, &number(0o100_644))]),
            "has x: the mode 100644",
        ),
        (
            command(2, &[path("x"), (1, &[1; 16]), (20, &[2; 16])]),
            "has a command that is damaged",
        ),
    ];
    for (one, wanted) in table {
        let all = stream(&[command(4, &[path("upper")]), one]);
        assert_eq!(
            told(&of(&optimized(), &all, 50)),
            format!("streams/root {wanted}")
        );
    }
    // Volumes are shared by instances that have other ids, and have no devices all the same.
    let mut volume = of_volumes(&["volume/fast/data"]);
    volume.volumes[0].form = Form::Btrfs;
    let part = "streams/volumes/0/files";
    let of_volume =
        |stream: &[u8]| told(&written(&volume, |writer| pieces(writer, part, stream, 64)));
    let owner = command(19, &[path("x"), (6, &number(1_065_536)), (7, &number(0))]);
    assert_eq!(of_volume(&stream(&[owner])), "");
}

#[test]
fn a_stream_that_is_not_whole_or_stands_on_none_is_told() {
    let all = stream(&[command(4, &[(15, b"upper")])]);
    let cut = &all[..all.len() - 1];
    assert_eq!(
        told(&of(&optimized(), cut, 64)),
        "streams/root is cut short"
    );
    assert_eq!(
        told(&of(&optimized(), &[&all[..], b"x"].concat(), 64)),
        "streams/root has something behind its end"
    );
    assert_eq!(
        told(&written(&optimized(), |_| {})),
        "streams/root is missing"
    );
    let on = |id: u8, on: u8| {
        let begin = command(
            2,
            &[
                (15, b"x"),
                (1, &[id; 16]),
                (2, &[0; 8]),
                (20, &[on; 16]),
                (21, &[0; 8]),
            ],
        );
        [
            b"btrfs-stream\0\x01\0\0\0".to_vec(),
            begin,
            command(21, &[]),
        ]
        .concat()
    };
    let wanted = "streams/root stands on one that is not before it";
    assert_eq!(told(&of(&optimized(), &on(1, 2), 64)), wanted);
    let kept = SnapshotHead {
        name: "a".to_owned(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        description: String::new(),
        layer: None,
        form: Form::Btrfs,
    };
    let both = Head {
        snapshots: vec![kept],
        ..optimized()
    };
    let good = written(&both, |writer| {
        pieces(writer, "streams/snapshots/a", &all, 64);
        pieces(writer, "streams/root", &on(1, 7), 64);
    });
    assert_eq!(told(&good), "");
    let turned = written(&both, |writer| {
        pieces(writer, "streams/root", &on(1, 7), 64);
        pieces(writer, "streams/snapshots/a", &all, 64);
    });
    assert_eq!(told(&turned), wanted);
    // Pieces that are lost, mixed up or of nothing that was announced.
    let odd = |names: &[&str]| {
        told(&written(&optimized(), |writer| {
            writer.begin_part("streams/root");
            for (name, piece) in names.iter().zip(all.chunks(all.len() / 2 + 1)) {
                add(writer, &named(name, b'0'), piece);
            }
        }))
    };
    assert_eq!(odd(&["streams/root/0", "streams/root/1"]), "");
    assert!(
        odd(&["streams/root/0", "streams/root/2"])
            .starts_with("streams/root/2 is not in its order")
    );
    assert!(
        odd(&["streams/root/1", "streams/root/0"])
            .contains("streams/root/1 is not with the rest of its stream")
    );
    for name in [
        "streams/tpm/0",
        "streams/image/rootfs/0",
        "streams/root/x/0",
        "streams/root/00",
        "streams/root",
        "streams/0",
    ] {
        let told = odd(&[name]);
        assert!(
            told.contains(&format!("{name} is no part of a backup")),
            "{told}"
        );
    }
    assert!(
        odd(&["streams/snapshots/b/0", ""]).contains("streams/snapshots/b is announced nowhere")
    );
}

#[test]
fn what_has_streams_is_of_a_version_that_has_them() {
    assert_eq!(head().written().format_version, 2);
    assert_eq!(optimized().written().format_version, 3);
    let older = Head {
        format_version: 2,
        ..optimized()
    };
    assert_eq!(
        told(&written(&older, |_| {})),
        "x is no backup: it is of version 2, and has streams"
    );
    let unknown = serde_json::to_string(&optimized())
        .unwrap()
        .replace("\"btrfs\"", "\"zfs\"");
    assert!(serde_json::from_str::<Head>(&unknown).is_err());
}
