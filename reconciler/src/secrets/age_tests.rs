//! Files that `age` 1.1.1 of Debian encrypted, and what somebody made of them.

use super::*;

const KEY: &str = include_str!("vectors/key.txt");
const OTHER: &str = include_str!("vectors/other.txt");

fn keys(text: &str) -> Vec<Identity> {
    Identity::parse_all(text).expect("keys")
}

fn opened(file: &[u8]) -> Vec<u8> {
    decrypt(file, &keys(KEY)).expect("it opens").to_vec()
}

#[test]
fn files_of_age_are_opened() {
    assert_eq!(opened(include_bytes!("vectors/binary.age")), b"hunter2\n");
    assert_eq!(
        opened(include_bytes!("vectors/two_recipients.age")),
        b"hunter2\n"
    );
    assert_eq!(opened(include_bytes!("vectors/empty.age")), b"");
    assert_eq!(
        opened(include_bytes!("vectors/one_chunk.age")),
        vec![0; CHUNK]
    );
    assert_eq!(
        opened(include_bytes!("vectors/two_chunks.age")),
        vec![0; CHUNK + 1]
    );
    // Whoever has one of several keys opens it.
    let file = include_bytes!("vectors/two_recipients.age");
    assert_eq!(
        *decrypt(file, &keys(OTHER)).expect("it opens"),
        b"hunter2\n"
    );
}

#[test]
fn a_key_knows_its_recipient_and_does_not_show_itself() {
    let key = &keys(KEY)[0];
    let recipient = KEY
        .lines()
        .find_map(|line| line.strip_prefix("# public key: "));
    assert_eq!(Some(key.recipient().as_str()), recipient);
    assert_eq!(format!("{key:?}"), key.recipient());
}

#[test]
fn who_has_no_key_opens_nothing() {
    let file = include_bytes!("vectors/binary.age");
    assert_eq!(decrypt(file, &keys(OTHER)), Err(AgeError::NoKey(1)));
    assert_eq!(decrypt(file, &[]), Err(AgeError::NoKey(0)));
}

#[test]
fn what_is_no_key_is_told_by_its_line() {
    for wrong in ["# x\nage1abc\n", "\nAGE-SECRET-KEY-1QQQQ", "x\ny"] {
        let error = Identity::parse_all(wrong).expect_err(wrong);
        assert!(
            matches!(error, AgeError::Identity(1 | 2)),
            "{wrong}: {error}"
        );
        assert!(!error.to_string().contains("QQQQ"), "a key is not repeated");
    }
}

#[test]
fn no_change_of_a_single_bit_and_no_cut_goes_unseen() {
    let file = include_bytes!("vectors/binary.age");
    let keys = keys(KEY);
    for index in 0..file.len() {
        let mut changed = file.to_vec();
        changed[index] ^= 1;
        assert!(decrypt(&changed, &keys).is_err(), "byte {index}");
    }
    for length in 0..file.len() {
        assert!(decrypt(&file[..length], &keys).is_err(), "{length} bytes");
    }
    let two = include_bytes!("vectors/two_chunks.age");
    // Without its last chunk, and with that twice.
    let last = 1 + TAG;
    assert!(decrypt(&two[..two.len() - last], &keys).is_err());
    let twice = [two.as_slice(), &two[two.len() - last..]].concat();
    assert!(decrypt(&twice, &keys).is_err());
}
