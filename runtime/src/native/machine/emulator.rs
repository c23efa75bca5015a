//! Which QEMU this host has, and who runs the instructions of its guests.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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

/// Who runs them.
///
/// # Errors
/// KVM was demanded, and why it does not work.
pub fn accelerator(choice: Choice) -> Result<Accelerator, String> {
    match (choice, kvm_trouble()) {
        (Choice::Tcg, _) | (Choice::Auto, Some(_)) => Ok(Accelerator::Tcg),
        (_, None) => Ok(Accelerator::Kvm),
        (Choice::Kvm, Some(why)) => Err(format!("KVM is demanded and does not work here: {why}")),
    }
}
