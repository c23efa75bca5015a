//! A look at a pack on its way into the store: whoever wrote it may have made a few bytes of it unfold into more than this
//! host has. What differs from something else (a delta) is put together in memory, so its size is known before.

use std::io::{self, Write};

use flate2::{Decompress, FlushDecompress, Status};

use super::packet::invalid;

/// More objects are no tree of manifests.
const MOST_OBJECTS: u32 = 5_000_000;
/// The most bytes that all objects have, unfolded.
const MOST_OF_ALL: u64 = 8 << 30;
/// The most bytes that one has which is put together in memory.
const MOST_OF_ONE: u64 = 256 << 20;
/// The two numbers at the beginning of a delta have no more bytes than this.
const SIZES: usize = 20;

/// Where in the pack it is (gitformat-pack).
enum Stage {
    /// `PACK`, the version, the number of objects.
    Head(Vec<u8>),
    /// The kind and size of an object.
    Kind(Vec<u8>),
    /// How far back the object is that this one differs from.
    Distance { size: u64 },
    /// The name of that object: so many bytes more.
    Name { size: u64, left: usize },
    /// What it is, compressed.
    Content {
        size: u64,
        is_delta: bool,
        begin: Vec<u8>,
    },
    /// The hash of it all.
    End,
}

/// A pack that is looked at and handed on.
pub(super) struct Examined<'a> {
    into: &'a mut dyn Write,
    stage: Stage,
    left: u32,
    sum: u64,
    inflate: Decompress,
    scratch: Vec<u8>,
}

fn too_large(most: u64, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("{} MiB {what}", most >> 20),
    )
}

impl<'a> Examined<'a> {
    /// Hands on to something that takes it in.
    pub(super) fn new(into: &'a mut dyn Write) -> Self {
        Self {
            into,
            stage: Stage::Head(Vec::new()),
            left: 0,
            sum: 0,
            inflate: Decompress::new(true),
            scratch: vec![0; 32 << 10],
        }
    }

    /// Looks at some bytes; answers how many they were.
    fn look(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let first = bytes.first().copied().unwrap_or_default();
        match &mut self.stage {
            Stage::Head(head) => {
                head.push(first);
                if head.len() == 12 {
                    self.left = objects(head)?;
                    self.stage = self.next_stage();
                }
                Ok(1)
            }
            Stage::Kind(seen) => {
                seen.push(first);
                if first & 0x80 == 0 {
                    let (kind, size) = kind(seen)?;
                    self.stage = self.stage_of(kind, size)?;
                } else if seen.len() > 9 {
                    return Err(invalid("an object of the pack has no size"));
                }
                Ok(1)
            }
            Stage::Distance { size } => {
                if first & 0x80 == 0 {
                    self.stage = content(*size, true);
                }
                Ok(1)
            }
            Stage::Name { size, left } => {
                *left -= 1;
                if *left == 0 {
                    self.stage = content(*size, true);
                }
                Ok(1)
            }
            Stage::Content { .. } => self.unfold(bytes),
            Stage::End => Ok(bytes.len()),
        }
    }

    fn next_stage(&mut self) -> Stage {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Stage::Kind(Vec::new())
            }
            None => Stage::End,
        }
    }

    fn stage_of(&mut self, kind: u8, size: u64) -> io::Result<Stage> {
        self.sum = self.sum.saturating_add(size);
        if self.sum > MOST_OF_ALL {
            return Err(too_large(MOST_OF_ALL, "of files"));
        }
        // A file is hashed as it comes; all else is taken into memory.
        if kind != BLOB && size > MOST_OF_ONE {
            return Err(too_large(MOST_OF_ONE, "in one object"));
        }
        match kind {
            1..=4 => Ok(content(size, false)),
            6 => Ok(Stage::Distance { size }),
            7 => Ok(Stage::Name { size, left: 20 }),
            _ => Err(invalid("the pack has an object of no kind")),
        }
    }

    fn unfold(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Stage::Content {
            size,
            is_delta,
            begin,
        } = &mut self.stage
        else {
            return Ok(0);
        };
        let before = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(bytes, &mut self.scratch, FlushDecompress::None)
            .map_err(|_| invalid("the pack is not compressed as it should be"))?;
        let taken = self.inflate.total_in() - before.0;
        let made = self.inflate.total_out() - before.1;
        let (Ok(taken), Ok(made)) = (usize::try_from(taken), usize::try_from(made)) else {
            return Err(invalid("the pack is not compressed as it should be"));
        };
        if *is_delta && begin.len() < SIZES {
            let more = self.scratch.get(..made.min(SIZES - begin.len()));
            begin.extend(more.unwrap_or_default());
        }
        let is_over = self.inflate.total_out() > *size;
        if is_over || status != Status::StreamEnd && taken == 0 && made == 0 {
            return Err(invalid(
                "an object of the pack has another size than it says",
            ));
        }
        if status == Status::StreamEnd {
            if self.inflate.total_out() != *size {
                return Err(invalid(
                    "an object of the pack has another size than it says",
                ));
            }
            if *is_delta {
                small_enough(begin)?;
            }
            self.inflate.reset(true);
            self.stage = self.next_stage();
        }
        Ok(taken)
    }
}

impl Write for Examined<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let seen = self.look(rest)?;
            rest = rest.get(seen..).unwrap_or_default();
        }
        self.into.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

const BLOB: u8 = 3;

fn content(size: u64, is_delta: bool) -> Stage {
    Stage::Content {
        size,
        is_delta,
        begin: Vec::new(),
    }
}

/// How many objects a pack says that it has.
fn objects(head: &[u8]) -> io::Result<u32> {
    let count = head
        .strip_prefix(b"PACK\0\0\0\x02")
        .and_then(|count| <[u8; 4]>::try_from(count).ok())
        .map(u32::from_be_bytes)
        .ok_or_else(|| invalid("what came is no pack"))?;
    match count > MOST_OBJECTS {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{MOST_OBJECTS} objects"),
        )),
        false => Ok(count),
    }
}

/// The kind of an object is in three bits of the first byte, its size in four of it and seven of each other.
fn kind(bytes: &[u8]) -> io::Result<(u8, u64)> {
    let (first, rest) = bytes
        .split_first()
        .ok_or_else(|| invalid("an object of the pack has no size"))?;
    let mut size = u64::from(first & 0x0f);
    for (index, byte) in rest.iter().enumerate() {
        size |= u64::from(byte & 0x7f) << (4 + 7 * index);
    }
    Ok(((first >> 4) & 7, size))
}

/// The sizes of what a delta is made from and of what it makes, seven bits a byte.
fn small_enough(begin: &[u8]) -> io::Result<()> {
    let mut bytes = begin.iter();
    for _ in 0..2 {
        let (mut size, mut shift) = (0_u64, 0_u32);
        loop {
            let byte = bytes
                .next()
                .filter(|_| shift < 63)
                .ok_or_else(|| invalid("a delta of the pack is broken off"))?;
            size |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if size > MOST_OF_ONE {
            return Err(too_large(MOST_OF_ONE, "in one object"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    fn number(mut value: u64, first_bits: u32, kind: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let mut bits = first_bits;
        let mut high = kind << 4;
        loop {
            let low = u8::try_from(value & ((1 << bits) - 1)).expect("bits") | high;
            value >>= bits;
            out.push(if value == 0 { low } else { low | 0x80 });
            if value == 0 {
                return out;
            }
            (bits, high) = (7, 0);
        }
    }

    fn pack(objects: &[(u8, u64, &[u8])]) -> Vec<u8> {
        let mut out = b"PACK\0\0\0\x02".to_vec();
        out.extend(u32::try_from(objects.len()).expect("few").to_be_bytes());
        for (kind, size, content) in objects {
            out.extend(number(*size, 4, *kind));
            if *kind == 7 {
                out.extend([7; 20]);
            }
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(content).expect("written");
            out.extend(encoder.finish().expect("ended"));
        }
        out.extend([0; 20]);
        out
    }

    fn taken(pack: &[u8]) -> io::Result<()> {
        for piece in [1, 7, pack.len()] {
            let mut into = Vec::new();
            let mut examined = Examined::new(&mut into);
            for piece in pack.chunks(piece) {
                examined.write_all(piece)?;
            }
            assert_eq!(into, pack);
        }
        Ok(())
    }

    #[test]
    fn what_unfolds_into_too_much_is_not_taken_in() {
        let delta = |from: u64, to: u64| [number(from, 7, 0), number(to, 7, 0), vec![1]].concat();
        let (small, large) = (delta(300, 4096), delta(300, 4 << 30));
        let of = |delta: &[u8]| pack(&[(7, delta.len() as u64, delta)]);
        taken(&pack(&[])).expect("none");
        taken(&pack(&[(3, 5, b"a: 1\n"), (2, 0, b""), (7, 5, &small)])).expect("some");
        taken(&pack(&[(3, 100_000, &[b'#'; 100_000])])).expect("a larger one");
        for (bad, kind) in [
            (of(&large), io::ErrorKind::FileTooLarge),
            (of(&delta(4 << 30, 1)), io::ErrorKind::FileTooLarge),
            (of(&[0x80; 30]), io::ErrorKind::InvalidData),
            (pack(&[(2, 1 << 30, b"")]), io::ErrorKind::FileTooLarge),
            (pack(&[(3, 9 << 30, b"")]), io::ErrorKind::FileTooLarge),
            (pack(&[(3, 5, b"")]), io::ErrorKind::InvalidData),
            (pack(&[(3, 0, b"more")]), io::ErrorKind::InvalidData),
            (pack(&[(5, 0, b"")]), io::ErrorKind::InvalidData),
            (b"<html>no pack</html>".to_vec(), io::ErrorKind::InvalidData),
            (
                b"PACK\0\0\0\x02\xff\xff\xff\xff".to_vec(),
                io::ErrorKind::FileTooLarge,
            ),
            (
                [b"PACK\0\0\0\x02\0\0\0\x01", &[0x80; 20][..]].concat(),
                io::ErrorKind::InvalidData,
            ),
        ] {
            let error = taken(&bad).expect_err("refused");
            assert_eq!(error.kind(), kind, "{error}: {:?}", &bad[..12]);
        }
    }
}
