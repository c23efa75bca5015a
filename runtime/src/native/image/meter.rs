//! What passes from an archive to its reader: counted against the limits, hashed, and with the reason kept when it stops.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use super::error::ImageError;
use super::limits::{Limits, check_ratio};

/// Shared by the readers on both sides of a decompressor.
#[derive(Debug)]
pub(in crate::native) struct Meter {
    path: PathBuf,
    limits: Limits,
    packed: Cell<u64>,
    unpacked: Cell<u64>,
    verdict: RefCell<Option<ImageError>>,
}

impl Meter {
    pub(in crate::native) fn new(path: &Path, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            path: path.to_path_buf(),
            limits,
            packed: Cell::new(0),
            unpacked: Cell::new(0),
            verdict: RefCell::new(None),
        })
    }

    pub(in crate::native) fn packed(&self) -> u64 {
        self.packed.get()
    }

    /// An error about the archive as a whole.
    pub(in crate::native) fn broken(&self, problem: impl Into<String>) -> ImageError {
        ImageError::Broken {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }

    /// Stops reading with a reason: what callers see instead of the `io::Error` returned here.
    pub(in crate::native) fn stop(&self, reason: ImageError) -> io::Error {
        let mut verdict = self.verdict.borrow_mut();
        // The first reason is the cause of all others.
        if verdict.is_none() {
            *verdict = Some(reason);
        }
        io::Error::other("the archive was refused")
    }

    /// The reason why reading stopped, if it was one of the archive, else what the caller ran into.
    pub(in crate::native) fn judge<T>(
        &self,
        result: Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        match (result, self.verdict.borrow_mut().take()) {
            (Err(_), Some(verdict)) => Err(verdict),
            (other, _) => other,
        }
    }
}

/// The packed side: every byte of the file is hashed and counted.
pub(in crate::native) struct Packed<'a, R> {
    inner: R,
    hash: &'a mut Sha256,
    meter: Rc<Meter>,
    go_on: &'a mut dyn FnMut(u64) -> bool,
}

impl<'a, R: Read> Packed<'a, R> {
    pub(in crate::native) fn new(
        inner: R,
        hash: &'a mut Sha256,
        meter: Rc<Meter>,
        go_on: &'a mut dyn FnMut(u64) -> bool,
    ) -> Self {
        Self {
            inner,
            hash,
            meter,
            go_on,
        }
    }

    /// Reads what the decompressor did not want, so that the hash is of the whole file.
    pub(in crate::native) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }
}

impl<R: Read> Read for Packed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..got).unwrap_or_default());
        let sum = self.meter.packed.get() + got as u64;
        self.meter.packed.set(sum);
        if sum > self.meter.limits.archive_bytes {
            return Err(self.meter.stop(ImageError::TooBig {
                limit: self.meter.limits.archive_bytes,
                of: "bytes in the archive",
            }));
        }
        if !(self.go_on)(sum) {
            return Err(self.meter.stop(ImageError::Interrupted));
        }
        Ok(got)
    }
}

/// The unpacked side: counted against the ratio; a broken stream is told as such.
pub(in crate::native) struct Unpacked<R> {
    inner: R,
    meter: Rc<Meter>,
}

impl<R: Read> Unpacked<R> {
    pub(in crate::native) fn new(inner: R, meter: Rc<Meter>) -> Self {
        Self { inner, meter }
    }

    pub(in crate::native) fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = match self.inner.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let problem = format!("cannot be unpacked: {error}");
                let broken = self.meter.broken(problem);
                return Err(self.meter.stop(broken));
            }
            Ok(got) => got,
        };
        let sum = self.meter.unpacked.get() + got as u64;
        self.meter.unpacked.set(sum);
        check_ratio(self.meter.packed.get(), sum, &self.meter.limits)
            .map_err(|bomb| self.meter.stop(bomb))?;
        Ok(got)
    }
}
