//! Compiled seccomp filters, kept for the next start: libseccomp takes two to three milliseconds for one.
//!
//! A file is named by all that a filter depends on, so a changed list, another architecture or another libseccomp
//! finds no file. It begins with the digest of what follows: a file that two starts wrote at once is not taken.

use std::path::Path;

use libseccomp::{ScmpArch, ScmpVersion};
use manifests::path_io::{self, AtPath as _, PathError};
use sha2::{Digest as _, Sha256};

use super::seccomp::{Seccomp, SeccompError, compile, rules};

/// The length of a SHA-256 digest in bytes.
const DIGEST: usize = 32;

/// The filter of a policy: from `folder`, else compiled and kept there. That it cannot be kept stops nobody.
///
/// # Errors
/// As [`compile`].
pub(super) fn filter(policy: &Seccomp, folder: Option<&Path>) -> Result<Vec<u8>, SeccompError> {
    let Some(folder) = folder else {
        return compile(policy);
    };
    let path = folder.join(name(policy));
    if let Some(filter) = path_io::read(&path).ok().as_deref().and_then(whole) {
        return Ok(filter.to_vec());
    }
    let filter = compile(policy)?;
    if let Err(error) = keep(folder, &path, &filter) {
        tracing::debug!(%error, "the seccomp filter is not kept");
    }
    Ok(filter)
}

/// What names a filter: rules and everything else that `compile` looks at.
fn name(policy: &Seccomp) -> String {
    let version = ScmpVersion::current().map(|v| (v.major, v.minor, v.micro));
    let about = format!(
        "{:?} {:?} {version:?} {} {}",
        rules(policy),
        ScmpArch::native(),
        policy.deny_compat,
        env!("CARGO_PKG_VERSION"),
    );
    hex::encode(Sha256::digest(about))
}

fn keep(folder: &Path, path: &Path, filter: &[u8]) -> Result<(), PathError> {
    path_io::ensure_dir(folder)?;
    // Only root may read what a container must not do, and nobody else may say it.
    rustix::fs::chmod(folder, rustix::fs::Mode::from_raw_mode(0o700)).at("close", folder)?;
    let mut bytes = Sha256::digest(filter).to_vec();
    bytes.extend(filter);
    path_io::write_atomically(path, bytes)
}

/// What follows the digest, if it is that.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (digest, filter) = bytes.split_at_checked(DIGEST)?;
    (Sha256::digest(filter).as_slice() == digest).then_some(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_filter_is_the_first_and_a_spoiled_one_is_made_again() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("filters");
        let policy = Seccomp::default();
        let compiled = compile(&policy).unwrap();
        let file = folder.join(name(&policy));
        for content in [None, Some(&b"short"[..]), Some(&[0; 64]), None] {
            if let Some(content) = content {
                path_io::write(&file, content).unwrap();
            }
            assert_eq!(filter(&policy, Some(&folder)).unwrap(), compiled);
            assert_eq!(whole(&path_io::read(&file).unwrap()), Some(&*compiled));
        }
    }

    #[test]
    fn every_policy_has_a_name_of_its_own() {
        let deny = Seccomp {
            deny: vec!["ptrace".to_owned()],
            ..Seccomp::default()
        };
        let compat = Seccomp {
            deny_compat: true,
            ..Seccomp::default()
        };
        let names = [Seccomp::default(), deny, compat].map(|policy| name(&policy));
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
    }
}
