//! Headers that lie, and headers of arbitrary bytes.

use proptest::prelude::*;

use super::header::*;
use super::new_header::NewHeader;

fn good() -> Vec<u8> {
    NewHeader {
        cluster_bits: 16,
        size: 1 << 30,
        l1_entries: 8192,
        l1_offset: 3 << 16,
        refcount_table_offset: 1 << 16,
        refcount_table_clusters: 1,
        backing: None,
    }
    .bytes()
}

const LONG: u64 = 4 << 16;

fn put(at: usize, value: &[u8]) -> Result<Header, Fault> {
    let mut head = good();
    head.resize(1 << 16, 0);
    head[at..at + value.len()].copy_from_slice(value);
    Header::parse(&head, LONG)
}

#[test]
fn what_is_written_is_read() {
    let header = Header::parse(&good(), LONG).unwrap();
    assert_eq!(
        (header.version, header.size, header.backing.as_deref()),
        (3, 1 << 30, None)
    );
    assert_eq!(header.most(), 4 << 40);
    let over = NewHeader {
        backing: Some(("/x/disk.qcow2", "qcow2")),
        ..NewHeader {
            cluster_bits: 16,
            size: 1000,
            l1_entries: 8192,
            l1_offset: 3 << 16,
            refcount_table_offset: 1 << 16,
            refcount_table_clusters: 1,
            backing: None,
        }
    };
    let header = Header::parse(&over.bytes(), LONG).unwrap();
    assert_eq!(
        (header.size, header.backing.as_deref()),
        (1024, Some("/x/disk.qcow2"))
    );
}

#[test]
fn each_lie_has_its_words() {
    let table: &[(usize, &[u8], &str)] = &[
        (4, &[0, 0, 0, 1], "Refused(\"is a qcow disk of version 1"),
        (4, &[0, 0, 0, 9], "Refused(\"is a qcow2 disk of version 9"),
        (20, &[0, 0, 0, 8], "Broken(\"its clusters have 2^8 bytes"),
        (20, &[0, 0, 0, 22], "Broken(\"its clusters have 2^22 bytes"),
        (
            20,
            &[255; 4],
            "Broken(\"its clusters have 2^4294967295 bytes",
        ),
        (24, &[0; 8], "Refused(\"is a disk of no bytes"),
        (
            24,
            &[255; 8],
            "Broken(\"its disk is said to have 18446744073709551615",
        ),
        (
            24,
            &[0, 0, 0, 0, 0, 0, 0, 1],
            "Broken(\"its disk is said to have 1 bytes",
        ),
        (
            24,
            &[0, 0, 5, 0, 0, 0, 0, 0],
            "Broken(\"its L1 table is too small",
        ),
        (32, &[0, 0, 0, 1], "Refused(\"is encrypted"),
        (32, &[0, 0, 0, 2], "Refused(\"is encrypted"),
        (32, &[0, 0, 0, 7], "Broken(\"its encryption 7"),
        (36, &[0; 4], "Broken(\"its L1 table is too small"),
        (
            36,
            &[0xff; 4],
            "Broken(\"its L1 table is said to have 34359738360 bytes",
        ),
        (
            40,
            &[0, 0, 0, 0, 0, 9, 0, 0],
            "Broken(\"its L1 table does not lie",
        ),
        (40, &[255; 8], "Broken(\"its L1 table does not lie"),
        (40, &[0; 8], "Broken(\"its L1 table does not lie"),
        (
            40,
            &[0, 0, 0, 0, 0, 1, 0, 8],
            "Broken(\"its L1 table does not lie",
        ),
        (
            48,
            &[0, 0, 0, 0, 0, 9, 0, 0],
            "Broken(\"its refcount table does not lie",
        ),
        (56, &[0; 4], "Broken(\"it has no refcount table"),
        (56, &[255; 4], "Broken(\"its refcount table is said to have"),
        (
            60,
            &[0, 0, 0, 1],
            "Broken(\"its table of snapshots does not lie",
        ),
        (
            60,
            &[255; 4],
            "Broken(\"it is said to have 4294967295 snapshots",
        ),
        (
            72,
            &[0, 0, 0, 0, 0, 0, 0, 2],
            "Broken(\"it is marked as corrupt",
        ),
        (
            72,
            &[0, 0, 0, 0, 0, 0, 0, 4],
            "Refused(\"keeps its data in another file",
        ),
        (72, &[0, 0, 0, 0, 0, 0, 0, 8], "Broken(\"its compression 0"),
        (72, &[0, 0, 0, 0, 0, 0, 0, 32], "Refused(\"needs features"),
        (72, &[128, 0, 0, 0, 0, 0, 0, 0], "Refused(\"needs features"),
        (96, &[0, 0, 0, 7], "Broken(\"its refcounts are wider"),
        (
            100,
            &[0, 0, 0, 72],
            "Broken(\"its header is said to have 72 bytes",
        ),
        (
            100,
            &[0, 0, 0, 105],
            "Broken(\"its header is said to have 105 bytes",
        ),
        (100, &[255; 4], "Broken(\"its header is said to have"),
        (104, &[3], "Broken(\"its compression 3"),
        (112, b"\x05\x37\xbe\x77\0\0\0\x10", "Refused(\"is encrypted"),
        (
            112,
            b"DATA\0\0\0\x04file",
            "Refused(\"keeps its data in another file",
        ),
        (
            112,
            b"????\0\x01\0\0",
            "Broken(\"an extension of its header leads out",
        ),
        (
            112,
            b"????\xff\xff\xff\xff",
            "Broken(\"an extension of its header leads out",
        ),
        (
            8,
            &[0, 0, 0, 0, 0, 0, 0, 1],
            "Broken(\"the name of its backing file does not lie",
        ),
        (
            8,
            &[255; 8],
            "Broken(\"the name of its backing file does not lie",
        ),
        (
            8,
            &[0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 4, 0],
            "Broken(\"the name of its backing file does not lie",
        ),
    ];
    for (at, value, told) in table {
        let fault = format!("{:?}", put(*at, value).unwrap_err());
        assert!(fault.starts_with(told), "{at} {value:?}: {fault}");
    }
    put(8, &[0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 3, 0xff]).unwrap();
    // Unknown extensions, and the dirty mark, are read over.
    put(112, b"????\0\0\0\x03abc").unwrap();
    assert!(put(72, &[0, 0, 0, 0, 0, 0, 0, 1]).unwrap().dirty);
}

#[test]
fn a_cut_header_is_broken() {
    let head = good();
    for length in 0..head.len() - 8 {
        let fault = Header::parse(&head[..length], LONG).unwrap_err();
        assert!(matches!(fault, Fault::Broken(_)), "{length}: {fault:?}");
    }
}

proptest! {
    #[test]
    fn anything_is_judged(mut head in prop::collection::vec(any::<u8>(), 0..600), length in any::<u64>(), marked: bool) {
        if marked && head.len() > 8 {
            head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        }
        extent(&head);
        if let Ok(header) = Header::parse(&head, length) {
            prop_assert!(header.size > 0 && header.most() >= header.size);
        }
    }

    #[test]
    fn turned_bits_are_judged(flips in prop::collection::vec((0..2400_usize, 0..8_u32), 1..12), length in 0..LONG * 2) {
        let mut head = good();
        head.resize(1 << 12, 0);
        for (byte, bit) in flips {
            head[byte % 130] ^= 1 << bit;
        }
        if let Ok(header) = Header::parse(&head, length) {
            prop_assert!(header.most() >= header.size);
            prop_assert!(header.l1_offset + u64::from(header.l1_entries) * 8 <= length);
        }
    }
}
