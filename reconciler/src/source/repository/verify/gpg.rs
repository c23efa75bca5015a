//! Signatures of GnuPG, by its `gpgv`: it knows the keys of one keyring and trusts them.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use runtime::sys::command::{CommandError, run_within};

use crate::source::failure::Cause;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks whether a signature in a file is one of the content, and by whom: the inner answer says why it does not count.
///
/// # Errors
/// The program is not there.
pub(super) fn ask(
    keyring: &Path,
    signature: &Path,
    content: &[u8],
) -> Result<Result<String, String>, Cause> {
    if !keyring.is_file() {
        return Err(format!("there is no keyring {}", keyring.display()).into());
    }
    let options = ["--status-fd", "1", "--weak-digest", "SHA1", "--keyring"];
    let arguments = options.iter().map(OsStr::new).chain([
        keyring.as_os_str(),
        OsStr::new("--"),
        signature.as_os_str(),
        OsStr::new("-"),
    ]);
    match run_within("gpgv", arguments, Some(content), PATIENCE) {
        Ok(said) => Ok(who(&String::from_utf8_lossy(&said))),
        Err(CommandError::Failed { stderr, .. }) => {
            let lines = stderr.lines().map(|line| line.trim_start_matches("gpgv: "));
            let said: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
            Ok(Err(said[said.len().saturating_sub(1)..].join("")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads what `gpgv --status-fd` says: one good signature, by a key that is neither expired nor revoked.
fn who(said: &str) -> Result<String, String> {
    let words = |key: &str| -> Vec<&str> {
        let lines = said
            .lines()
            .filter_map(|line| line.strip_prefix("[GNUPG:] "));
        lines
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
            .collect()
    };
    for (key, why) in [
        ("BADSIG", "what was signed was changed since"),
        ("EXPKEYSIG", "its key is expired"),
        ("REVKEYSIG", "its key is revoked"),
        ("EXPSIG", "it is expired"),
        (
            "ERRSIG",
            "it cannot be checked: the keyring does not have its key",
        ),
    ] {
        if !words(key).is_empty() {
            return Err(why.to_owned());
        }
    }
    match (words("GOODSIG").as_slice(), words("VALIDSIG").as_slice()) {
        ([good], [valid]) => {
            let user = good.split_once(' ').map_or("", |(_, user)| user);
            // The last word is the fingerprint of the main key.
            let key = valid.split(' ').next_back().unwrap_or_default();
            Ok(format!("{user} ({key})"))
        }
        _ => Err("it is not one signature".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_signature_counts() {
        let good = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG AB12 Ann <ann@example.org>\n[GNUPG:] VALIDSIG FF01 2026-01-01 1 0 4 0 22 10 00 FF00\n";
        assert_eq!(who(good), Ok("Ann <ann@example.org> (FF00)".to_owned()));
        for bad in [
            String::new(),
            "GOODSIG AB12 Ann\nVALIDSIG FF\n".to_owned(),
            good.replace("GOODSIG", "EXPKEYSIG"),
            good.replace("GOODSIG", "REVKEYSIG"),
            good.replace("GOODSIG", "BADSIG"),
            format!("{good}{good}"),
            format!("{good}[GNUPG:] ERRSIG AB12 22 10 00 1 9\n"),
            "[GNUPG:] GOODSIG AB12 Ann\n".to_owned(),
        ] {
            assert!(who(&bad).is_err(), "{bad}");
        }
    }
}
