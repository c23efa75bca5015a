//! `keel image`.

use std::path::PathBuf;

use manifests::id::Address;
use manifests::kind::Kind;
use runtime::native::image::{BootParts, ImageRecord};
use runtime::native::{ImageImport, ImagePublish};
use runtime::runtime::Context;
use serde_json::json;

use super::HumanOrJson;
use super::apply::how;
use super::asked::catch_signals;
use super::decide::session;
use super::engine::{self, Opened};
use super::invocation::{Invocation, absolute, say};
use crate::error::{CliError, Exit};
use crate::view::images::{short, table};
use crate::view::text::visible;

/// Look after the store of images: bring in files of this host, make images of instances, list, delete.
#[derive(Debug, clap::Args)]
pub(super) struct Image {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, clap::Subcommand)]
enum Deed {
    Import(Import),
    Publish(Publish),
    /// List what is in the store, its names and who uses it.
    List {
        /// How it is written.
        #[arg(short, long, value_name = "FORMAT", default_value = "human")]
        output: HumanOrJson,
    },
    /// Delete images that nobody needs.
    Delete {
        /// Aliases or fingerprints (12 digits or more).
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// How it is written.
        #[arg(short, long, value_name = "FORMAT", default_value = "human")]
        output: HumanOrJson,
    },
}

/// Bring an image into the store.
///
/// PATH is a folder with a root file system, a tarball or squashfs of one, the disk of a machine (qcow2 or raw), or an image
/// as LXD and Incus have it: one file, or the metadata with the root file system or disk as second file.
#[derive(Debug, clap::Args)]
struct Import {
    /// The file or folder.
    path: PathBuf,
    /// The root file system or disk of an image in two files.
    rootfs: Option<PathBuf>,
    /// The kernel of machines that boot it directly.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The initial RAM file system that goes with the kernel.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The command line that goes with the kernel.
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    cmdline: Option<String>,
    /// A name for it.
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Take the names away from other images that have them.
    #[arg(long)]
    reuse: bool,
    /// The fingerprint that it must have.
    #[arg(long, value_name = "DIGEST")]
    sha256: Option<String>,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

/// Make an image of a container: of one that is stopped, or of a snapshot, while it runs or not.
///
/// What it has on its image and that image become one; manifests name it by its alias. Of a container sockets and devices are
/// left out, of a machine the variables of its firmware and its TPM. What runs is published by a snapshot of it.
/// Who has the image has all that is in its files: also keys, and what cloud-init was told.
#[derive(Debug, clap::Args)]
struct Publish {
    /// The instance, or `INSTANCE/SNAPSHOT`.
    instance: String,
    /// A name for it.
    #[arg(long, value_name = "NAME", required = true)]
    alias: Vec<String>,
    /// Take the names away from other images that have them.
    #[arg(long)]
    reuse: bool,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Image {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        match &self.deed {
            Deed::Import(import) => import.run(invocation),
            Deed::Publish(publish) => publish.run(invocation),
            Deed::List { output } => {
                let all = engine::open(invocation)?.native()?.stored_images()?;
                let json = || format!("{:#}\n", json!(all));
                invocation.json_into(json)?;
                match output {
                    HumanOrJson::Json => invocation.print_plain(&json())?,
                    HumanOrJson::Human if all.images.is_empty() && all.broken.is_empty() => {
                        invocation.note("nothing\n");
                    }
                    HumanOrJson::Human => invocation.print(&table(&all))?,
                }
                Ok(Exit::Done)
            }
            Deed::Delete {
                images,
                yes,
                output,
            } => delete(invocation, images, *yes, *output),
        }
    }
}

impl Import {
    fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let file = |path: &Option<PathBuf>| match path {
            Some(path) => there(absolute(path)?).map(Some),
            None => Ok(None),
        };
        let import = ImageImport {
            path: there(absolute(&self.path)?)?,
            rootfs: file(&self.rootfs)?,
            parts: BootParts {
                kernel: file(&self.kernel)?,
                initrd: file(&self.initrd)?,
                cmdline: self.cmdline.clone(),
            },
            sha256: self.sha256.clone(),
            aliases: self.alias.clone(),
            reuse: self.reuse,
        };
        let opened = engine::open(invocation)?;
        let native = opened.native()?;
        catch_signals(invocation)?;
        let context = Context {
            cancel: invocation.cancel,
            timeout: invocation.global.timeout,
            now: invocation.now(),
            progress: &|phase| invocation.note(&format!("{phase} {}\n", self.path.display())),
        };
        let name = self.alias.first().cloned().or_else(|| {
            let name = self.path.file_name()?;
            Some(name.to_string_lossy().into_owned())
        });
        let (record, present) = session(invocation, &opened).deed(
            &journal_name(&name.unwrap_or_default()),
            "fetch",
            &how(invocation),
            || native.import_image(&import, &context),
        )?;
        tell(invocation, &record, present, &self.alias, self.output)
    }
}

impl Publish {
    fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let text = self.instance.strip_prefix("instance/");
        let text = text.unwrap_or(&self.instance);
        let (name, snapshot) = match text.split_once('/') {
            Some((name, snapshot)) => (name, Some(snapshot.to_owned())),
            None => (text, None),
        };
        let opened = engine::open(invocation)?;
        let native = opened.native()?;
        let publish = ImagePublish {
            instance: invocation.instance(name)?,
            snapshot,
            aliases: self.alias.clone(),
            reuse: self.reuse,
        };
        catch_signals(invocation)?;
        let context = Context {
            cancel: invocation.cancel,
            timeout: invocation.global.timeout,
            now: invocation.now(),
            progress: &|phase| invocation.note(&format!("{}: {phase}\n", publish.instance)),
        };
        let (record, present) = session(invocation, &opened).deed(
            &publish.instance,
            "publish",
            &how(invocation),
            || native.publish_image(&publish, &context),
        )?;
        tell(invocation, &record, present, &self.alias, self.output)
    }
}

/// Tells of an image that was brought in.
fn tell(
    invocation: &Invocation,
    record: &ImageRecord,
    present: bool,
    aliases: &[String],
    output: HumanOrJson,
) -> Result<Exit, CliError> {
    let json = || {
        let value = json!({
            "fingerprint": record.fingerprint,
            "aliases": aliases,
            "type": record.made_for(),
            "form": record.form,
            "size": record.unpacked_bytes,
            "present": present,
            "leftOut": record.left_out,
        });
        format!("{value:#}\n")
    };
    invocation.json_into(json)?;
    match output {
        HumanOrJson::Json => invocation.print_plain(&json())?,
        HumanOrJson::Human => invocation.print(&format!("{}\n", record.fingerprint))?,
    }
    if present {
        invocation.note("it was in the store already\n");
    }
    for line in &record.left_out {
        invocation.note(&format!("left out: {}\n", visible(line)));
    }
    Ok(Exit::Done)
}

/// A path that must be there: else the engine would say in its own words what a person mistyped.
fn there(path: PathBuf) -> Result<PathBuf, CliError> {
    if path.exists() {
        Ok(path)
    } else {
        let message = format!("there is no {}", path.display());
        Err(CliError::new(Exit::Unexpected, message))
    }
}

/// The name under which the journal knows an image that no document declares.
fn journal_name(name: &str) -> Address {
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || "._-".contains(character) {
            character
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(plain).take(63).collect();
    Address::new(
        Kind::Image,
        if name.is_empty() {
            "image".to_owned()
        } else {
            name
        },
    )
}

fn delete(
    invocation: &Invocation,
    images: &[String],
    yes: bool,
    output: HumanOrJson,
) -> Result<Exit, CliError> {
    let opened = engine::open(invocation)?;
    let mut found = Vec::new();
    let mut failures: Vec<CliError> = Vec::new();
    for name in images {
        match opened.native()?.find_image(name) {
            Ok(record) if found.contains(&record.fingerprint) => {}
            Ok(record) => found.push(record.fingerprint),
            Err(error) => {
                failures.push(CliError::from(error).hint("what there is: keel image list"));
            }
        }
    }
    if !found.is_empty() {
        let names: Vec<&str> = found.iter().map(|one| short(one)).collect();
        invocation.confirm(yes, &format!("Delete {} for good?", names.join(", ")))?;
    }
    let mut deleted = Vec::new();
    for fingerprint in found {
        match delete_one(invocation, &opened, &fingerprint) {
            Ok(()) => deleted.push(fingerprint),
            Err(error) => failures.push(error),
        }
    }
    let json = || format!("{:#}\n", json!({ "deleted": deleted }));
    invocation.json_into(json)?;
    match output {
        HumanOrJson::Json => invocation.print_plain(&json())?,
        HumanOrJson::Human => deleted.iter().for_each(|fingerprint| {
            invocation.note(&format!("deleted {}\n", short(fingerprint)));
        }),
    }
    for failure in &failures {
        say(&failure.report());
    }
    Ok(match failures.iter().map(|failure| failure.exit).max() {
        None => Exit::Done,
        Some(exit) if deleted.is_empty() => exit,
        Some(_) => Exit::Partly,
    })
}

fn delete_one(invocation: &Invocation, opened: &Opened, fingerprint: &str) -> Result<(), CliError> {
    let native = opened.native()?;
    Ok(session(invocation, opened).deed(
        &journal_name(short(fingerprint)),
        "delete",
        &how(invocation),
        || native.delete_image(fingerprint),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_can_read_the_names_again() {
        for name in ["debian/12", "a/b/c", "x y.tar.gz", "", "ü", "web"] {
            let address = journal_name(name);
            let again: Address = address.to_string().parse().expect("an address");
            assert_eq!(again, address, "{name}");
        }
    }
}
