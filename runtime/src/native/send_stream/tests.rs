//! Streams as somebody might write them who wishes harm, and what is done of them.

use std::path::Path;

use manifests::path_io;

use super::*;

/// One command of a stream.
pub(in crate::native) fn command(number: u16, fields: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in fields {
        body.extend_from_slice(&kind.to_le_bytes());
        let length = u16::try_from(value.len()).expect("a short value");
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(value);
    }
    let length = u32::try_from(body.len()).expect("a short command");
    let head = [&length.to_le_bytes()[..], &number.to_le_bytes(), &[0; 4]].concat();
    [head, body].concat()
}

/// A stream of these commands, from its begin to its end.
pub(in crate::native) fn stream(commands: &[Vec<u8>]) -> Vec<u8> {
    let begin = command(1, &[(15, b"tree"), (1, &[7; 16]), (2, &[0; 8])]);
    let all = [begin, commands.concat(), command(21, &[])].concat();
    [b"btrfs-stream\0\x01\0\0\0".to_vec(), all].concat()
}

fn told(bytes: &[u8], piece: usize) -> Result<usize, StreamError> {
    let mut parser = Parser::default();
    let mut count = 0;
    for piece in bytes.chunks(piece) {
        parser.feed(piece, &mut |_| -> Result<(), StreamError> {
            count += 1;
            Ok(())
        })?;
    }
    parser.finish().map(|()| count)
}

#[test]
fn a_stream_is_the_same_in_whatever_pieces_it_comes() {
    let write = command(15, &[(15, b"upper/file"), (18, &[0; 8]), (19, &[9; 5000])]);
    let all = stream(&[
        command(4, &[(15, b"upper"), (3, &[0; 8])]),
        write.clone(),
        write,
        command(17, &[(15, b"upper/file"), (4, &[1; 8])]),
    ]);
    for piece in [1, 2, 7, 13, 17, 18, 4096, all.len()] {
        assert_eq!(told(&all, piece), Ok(6), "in pieces of {piece}");
    }
    // Cut short anywhere it is told, and nothing of it is read beyond its end.
    for length in 0..all.len() {
        assert!(told(&all[..length], 64).is_err(), "cut at {length}");
    }
    assert_eq!(told(&[all, vec![0]].concat(), 64), Err(StreamError::Long));
    let mut newer = stream(&[]);
    newer[13] = 2;
    assert_eq!(told(&newer, 64), Err(StreamError::Version(2)));
    assert_eq!(
        told(b"x".repeat(64).as_slice(), 64),
        Err(StreamError::NoStream)
    );
    let odd = stream(&[command(25, &[(15, b"upper")])]);
    assert_eq!(told(&odd, 64), Err(StreamError::Unknown(25)));
    let short = stream(&[command(18, &[(15, b"upper"), (5, &[1, 2])])]);
    assert_eq!(told(&short, 64), Err(StreamError::Damaged));
    let mut long = stream(&[command(4, &[(15, b"upper")])]);
    // The length of the first command.
    long[17..21].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(told(&long, 64), Err(StreamError::Damaged));
}

crate::host_test! {
    fn what_a_stream_does_stays_beneath_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        for path in [&root, &outside] {
            path_io::create_dir_all(path).expect("a folder");
        }
        path_io::write(outside.join("secret"), "mine").expect("written");
        let mut receiver = Receiver::new([7; 16], &root, None).expect("a receiver");
        let mut take = |command: Command<'_>| receiver.take(&command);
        let file = rustix::fs::FileType::RegularFile;
        let make = |path| Command::Make { path, kind: file, device: 0 };
        take(Command::Symlink { path: b"way", target: outside.as_os_str().as_encoded_bytes() }).expect("a link may lead anywhere");
        take(Command::Symlink { path: b"name", target: b"../outside/secret" }).expect("a link");
        take(make(b"own")).expect("a file");
        take(Command::Make { path: b"pipe", kind: rustix::fs::FileType::Fifo, device: 0 }).expect("a pipe");
        let data = b"gone";
        for bad in [
            make(b"../x"), make(b"/x"), make(b"a//b"), make(b"."), make(b"way/x"), make(b"x\0y"), make(b"nowhere/x"), make(b""),
            Command::Write { path: b"name", offset: 0, data },
            Command::Write { path: b"way/secret", offset: 0, data },
            // It waits for no reader.
            Command::Write { path: b"pipe", offset: 0, data },
            Command::Truncate { path: b"name", size: 0 },
            Command::Mode { path: b"name", mode: 0o4777 },
            Command::Mode { path: b"way/secret", mode: 0o4777 },
            Command::Owner { path: b"way/secret", uid: 1, gid: 1 },
            Command::Times { path: b"../outside", accessed: (0, 0), modified: (0, 0) },
            Command::SetAttribute { path: b"way/secret", name: b"user.x", value: b"x" },
            Command::Unlink { path: b"way/secret" },
            Command::RemoveFolder { path: b"../outside" },
            Command::Rename { path: b"own", to: b"../outside/own" },
            Command::Rename { path: b"way/secret", to: b"taken" },
            Command::Link { path: b"taken", of: b"way/secret" },
            Command::Link { path: b"taken", of: b"../outside/secret" },
            Command::Clone { path: b"own", offset: 0, length: 4, of: [7; 16], of_path: b"name", of_offset: 0 },
            Command::Clone { path: b"own", offset: 0, length: 4, of: [8; 16], of_path: b"own", of_offset: 0 },
        ] {
            assert!(take(bad).is_err(), "{bad:?}");
        }
        // Of a link it is the link itself.
        take(Command::Owner { path: b"name", uid: 5, gid: 6 }).expect("owned");
        take(Command::Times { path: b"name", accessed: (1, 0), modified: (2, 3) }).expect("dated");
        take(Command::Write { path: b"own", offset: 2, data }).expect("written");
        take(Command::Clone { path: b"own", offset: 6, length: 4, of: [7; 16], of_path: b"own", of_offset: 2 }).expect("copied");
        take(Command::Mode { path: b"own", mode: 0o4750 }).expect("set");
        let seen = crate::sys::command::run("sh", &["-c".to_owned(), format!(
            "cd {} && stat -c '%n %a %u %s' outside/secret root/own root/name && cat outside/secret && ls outside && tail -c 8 root/own",
            folder.path().display()
        )], None).expect("told");
        let link = "root/name 777 5 17";
        assert_eq!(String::from_utf8_lossy(&seen), format!("outside/secret 644 0 4\nroot/own 4750 0 10\n{link}\nminesecret\ngonegone"));
        assert!(!folder.path().join("x").exists() && Path::new(&root).join("own").exists());
    }
}
