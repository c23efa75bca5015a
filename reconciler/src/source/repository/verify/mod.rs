//! Whether what is taken over was signed by somebody who may: by an SSH key against a file of allowed signers, by GnuPG
//! against a keyring.

mod allowed_signers;
mod gpg;
mod sshsig;

use std::path::PathBuf;

use git2::Oid;
use manifests::controller::{Verify, VerifyMode};
use manifests::path_io;

use super::objects::Objects;
use crate::source::failure::SourceError;
use crate::source::git::short;

/// What signatures of git are for, in the words of SSH.
const NAMESPACE: &str = "git";
/// How signatures of the kinds that git makes begin.
const SSH: &str = "-----BEGIN SSH SIGNATURE-----";
const PGP: &str = "-----BEGIN PGP SIGNATURE-----";

/// Who must have signed what.
#[derive(Debug)]
pub(super) struct Verifier {
    mode: VerifyMode,
    allowed_signers: Option<PathBuf>,
    keyring: Option<PathBuf>,
    /// Where a file may be for a moment.
    folder: PathBuf,
    name: String,
}

/// What a commit or tag is checked with.
struct Signed<'a> {
    /// How people know it.
    object: String,
    signature: &'a str,
    content: &'a [u8],
    /// When it says that it was made, in seconds of Unix time. Keys that were valid then count, as for git.
    at: i64,
}

impl Verifier {
    /// Checks as the settings of a source say. `folder` is ours; a file is in it while GnuPG is asked.
    pub(super) fn new(settings: &Verify, folder: PathBuf, name: &str) -> Self {
        let path = |path: &manifests::scalar::path::AbsolutePath| path.as_path().to_path_buf();
        Self {
            mode: settings.mode,
            allowed_signers: settings.allowed_signers.as_ref().map(path),
            keyring: settings.keyring.as_ref().map(path),
            folder,
            name: name.to_owned(),
        }
    }

    /// Whether all commits since the one in force are looked at.
    pub(super) fn wants_history(&self) -> bool {
        self.mode == VerifyMode::Range
    }

    /// Checks what is taken over: `since` are the commits since the one in force. Answers who signed it.
    ///
    /// # Errors
    /// Something is not signed, or by nobody who may; or that cannot be found out.
    pub(super) fn check(
        &self,
        reference: &str,
        tag: Option<&[u8]>,
        commit: Oid,
        objects: &Objects,
        since: Option<(&Objects, &[Oid])>,
    ) -> Result<String, SourceError> {
        match self.mode {
            VerifyMode::Head => self.commit(objects, commit),
            VerifyMode::Tag => self.tag(reference, tag),
            VerifyMode::Range => {
                let (history, since) = since.unwrap_or((objects, &[]));
                for id in since.iter().filter(|id| **id != commit) {
                    self.commit(history, *id)?;
                }
                self.commit(objects, commit)
            }
        }
    }

    fn commit(&self, objects: &Objects, id: Oid) -> Result<String, SourceError> {
        let name = id.to_string();
        let object = format!("commit {}", short(&name));
        let at = objects.commit(id)?.time().seconds();
        let Some((signature, content)) = objects.signature(id)? else {
            return Err(SourceError::Unsigned { object });
        };
        self.signed(&Signed {
            object,
            signature: signature.trim(),
            content: &content,
            at,
        })
    }

    fn tag(&self, reference: &str, content: Option<&[u8]>) -> Result<String, SourceError> {
        let name = reference.strip_prefix("refs/tags/").unwrap_or(reference);
        let object = format!("tag {name}");
        let Some(content) = content else {
            return Err(SourceError::Unsigned {
                object: format!("{object}, which is none with a message,"),
            });
        };
        let bad = |why: &str| SourceError::BadSignature {
            object: object.clone(),
            why: why.to_owned(),
        };
        let text = String::from_utf8_lossy(content);
        let head = text.split("\n\n").next().unwrap_or_default();
        let field = |key: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        };
        // Somebody may have put a signed tag under another name.
        if field("tag") != Some(name) {
            let said = field("tag").unwrap_or_default().escape_debug();
            return Err(bad(&format!("it is that of the tag `{said}`")));
        }
        let begin = [SSH, PGP].iter().filter_map(|armour| {
            let at = find(content, format!("\n{armour}").as_bytes())?;
            Some(at + 1)
        });
        let Some(begin) = begin.min() else {
            return Err(SourceError::Unsigned { object });
        };
        let (content, signature) = content.split_at(begin);
        let signature = std::str::from_utf8(signature).map_err(|_| bad("it is not UTF-8"))?;
        let at = field("tagger").and_then(|tagger| tagger.rsplit(' ').nth(1)?.parse().ok());
        self.signed(&Signed {
            at: at.ok_or_else(|| bad("it does not say when it was made"))?,
            object: object.clone(),
            signature: signature.trim(),
            content,
        })
    }

    fn signed(&self, signed: &Signed<'_>) -> Result<String, SourceError> {
        let checked = if signed.signature.starts_with(SSH) {
            self.by_ssh(signed)?
        } else if signed.signature.starts_with(PGP) {
            self.by_gpg(signed)?
        } else {
            Err("it is neither of SSH nor of GnuPG".to_owned())
        };
        checked.map_err(|why| SourceError::BadSignature {
            object: signed.object.clone(),
            why,
        })
    }

    fn by_ssh(&self, signed: &Signed<'_>) -> Result<Result<String, String>, SourceError> {
        let Some(path) = &self.allowed_signers else {
            return Ok(Err(
                "it is one of SSH, and no `allowedSigners` are set".to_owned()
            ));
        };
        let settings = |source| SourceError::Settings {
            what: format!("read the allowed signers in {}", path.display()),
            source,
        };
        let text = path_io::read_to_string(path).map_err(|error| settings(error.into()))?;
        let signers = allowed_signers::parse(&text).map_err(|why| settings(why.into()))?;
        let key = match sshsig::verify(signed.signature, NAMESPACE, signed.content) {
            Ok(key) => key,
            Err(why) => return Ok(Err(why.to_owned())),
        };
        Ok(allowed_signers::who(&signers, &key, NAMESPACE, signed.at).map(str::to_owned))
    }

    fn by_gpg(&self, signed: &Signed<'_>) -> Result<Result<String, String>, SourceError> {
        let Some(keyring) = &self.keyring else {
            return Ok(Err("it is one of GnuPG, and no `keyring` is set".to_owned()));
        };
        path_io::create_dir_all(&self.folder)?;
        let file = self.folder.join(format!("{}.signature", self.name));
        path_io::write(&file, signed.signature)?;
        let said = gpg::ask(keyring, &file, signed.content);
        let removed = path_io::remove_file(&file);
        let said = said.map_err(|source| SourceError::Settings {
            what: "ask gpgv, which checks signatures of GnuPG".to_owned(),
            source,
        })?;
        removed?;
        Ok(said)
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|here| here == wanted)
}
