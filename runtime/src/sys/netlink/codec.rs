//! The wire form of netlink: messages of nested attributes, written and read.
//!
//! Own and small on purpose: everything unknown is skipped, so that a newer kernel cannot break a dump, and the few
//! messages of traffic control and nf_tables are written with the same five functions.
//! Source: `man 7 netlink`, `include/uapi/linux/netlink.h`.

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// Bit that says that an attribute contains attributes.
const NESTED: u16 = 1 << 15;

/// The bits of an attribute type that are flags.
const TYPE_MASK: u16 = !(NESTED | 1 << 14);

const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// One request, and what it does in words for the error.
#[derive(Debug, Clone)]
pub(super) struct Message {
    bytes: Vec<u8>,
    /// Fits after "could not": `create link br0`.
    pub(super) doing: String,
}

impl Message {
    /// A message of a type with flags besides REQUEST, and the fixed header of its family.
    pub(super) fn new(kind: u16, flags: u16, header: &[u8], doing: impl Into<String>) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(header);
        Self {
            bytes,
            doing: doing.into(),
        }
    }

    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.resize(aligned(self.bytes.len()), 0);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    pub(super) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Text with its terminating zero.
    pub(super) fn put_text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// An attribute that holds what `fill` writes (a fixed header too, where the kernel wants one).
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.put(kind | NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Bytes that are not an attribute, inside [`nest`](Self::nest).
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds flags, sequence number and the length.
    pub(super) fn finish(&mut self, flags: u16, sequence: u32) -> &[u8] {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let flags = flags | u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }
}

/// A received message without its header.
#[derive(Debug)]
pub(super) struct Received<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The messages of one datagram; a truncated rest ends the list.
pub(super) fn messages(mut bytes: &[u8]) -> Vec<Received<'_>> {
    let mut found = Vec::new();
    while bytes.len() >= HEADER {
        let length = u32_at(bytes, 0) as usize;
        if length < HEADER || length > bytes.len() {
            break;
        }
        found.push(Received {
            kind: u16_at(bytes, 4),
            flags: u16_at(bytes, 6),
            sequence: u32_at(bytes, 8),
            payload: &bytes[HEADER..length],
        });
        bytes = &bytes[aligned(length).min(bytes.len())..];
    }
    found
}

/// The attributes of a payload after a fixed header of `skip` bytes; a truncated rest ends the list.
pub(super) fn attributes(payload: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = payload.get(skip..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
        let kind = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]) & TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]))
}

/// The number at an offset; 0 where the kernel sent less.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

/// Text up to its terminating zero.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nested_attributes_are_read_as_they_were_written() {
        let mut message = Message::new(16, 0, &[1, 2, 3, 4], "test");
        message.put_text(3, "br0");
        message.nest(18, |m| {
            m.put_text(1, "bridge");
            m.nest(2, |m| m.put(23, &[1]));
        });
        message.put_u32(4, 1500);
        let bytes = message.finish(5, 7).to_vec();
        let received = messages(&bytes);
        assert_eq!(received.len(), 1);
        assert_eq!((received[0].kind, received[0].flags), (16, 5));
        assert_eq!(received[0].sequence, 7);
        let outer: Vec<_> = attributes(received[0].payload, 4).collect();
        assert_eq!(outer.iter().map(|a| a.0).collect::<Vec<_>>(), [3, 18, 4]);
        assert_eq!(text(outer[0].1), "br0");
        assert_eq!(u32_at(outer[2].1, 0), 1500);
        let inner: Vec<_> = attributes(outer[1].1, 0).collect();
        assert_eq!(text(inner[0].1), "bridge");
        assert_eq!(
            attributes(inner[1].1, 0).collect::<Vec<_>>(),
            [(23, &[1][..])]
        );
    }

    proptest! {
        #[test]
        fn no_datagram_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                prop_assert!(attributes(message.payload, 16).count() <= 50);
            }
            prop_assert!(attributes(&bytes, 0).count() <= 50);
        }
    }
}
