//! Which QEMU this host has, and who runs the instructions of its guests.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use manifests::path_io;

use super::plan::Accelerator;
use crate::sys::kvm;

/// Where programs of that kind are, for `qemu-system-x86_64` and its like.
const FOLDERS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];
/// What Red Hat calls it.
const OTHER: &str = "/usr/libexec/qemu-kvm";

/// Who shall run the instructions of guests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// KVM where it works, else QEMU itself.
    #[default]
    Auto,
    /// KVM, or nobody.
    Kvm,
    /// QEMU itself.
    Tcg,
}

/// The emulator for machines of this host's architecture; absent: none is installed.
pub fn emulator() -> Option<PathBuf> {
    let name = format!("qemu-system-{}", std::env::consts::ARCH);
    let named = FOLDERS.iter().map(|folder| Path::new(folder).join(&name));
    named
        .chain([PathBuf::from(OTHER)])
        .find(|path| path.is_file())
}

/// Why KVM does not work here; absent: it does. Tried once, by running a processor: a `/dev/kvm` that is there says little.
pub fn kvm_trouble() -> Option<String> {
    static KNOWN: OnceLock<Option<String>> = OnceLock::new();
    KNOWN
        .get_or_init(|| kvm::probe().err().map(|error| crate::native::chain(&error)))
        .clone()
}

/// Where it is kept for this boot of the host whether KVM works, in the folder that all state folders share.
const VERDICT: &str = "kvm";

/// As [`kvm_trouble`], by what was found before in this boot with this device: a trial takes a second where KVM is slow.
fn kvm_trouble_of_this_boot(folder: &Path) -> Option<String> {
    let device = rustix::fs::stat("/dev/kvm").ok()?;
    let now = format!("{} {} {}\n", device.st_dev, device.st_ino, device.st_ctime);
    let path = folder.join(VERDICT);
    let known = path_io::read_if_exists(&path).ok().flatten();
    if let Some(verdict) = known.as_deref().and_then(|known| known.strip_prefix(&now)) {
        return (!verdict.is_empty()).then(|| verdict.to_owned());
    }
    let trouble = kvm_trouble();
    // Without it the next one tries again.
    let _ = path_io::write_atomically(&path, now + trouble.as_deref().unwrap_or_default());
    trouble
}

/// Who runs them. `folder` is on a tmpfs.
///
/// # Errors
/// KVM was demanded, and why it does not work.
pub fn accelerator(choice: Choice, folder: &Path) -> Result<Accelerator, String> {
    if choice == Choice::Tcg {
        return Ok(Accelerator::Tcg);
    }
    let there = Path::new("/dev/kvm").exists();
    let trouble = match there {
        true => kvm_trouble_of_this_boot(folder),
        false => kvm_trouble(),
    };
    match (choice, trouble) {
        (_, None) => Ok(Accelerator::Kvm),
        (Choice::Kvm, Some(why)) => Err(format!("KVM is demanded and does not work here: {why}")),
        _ => Ok(Accelerator::Tcg),
    }
}
