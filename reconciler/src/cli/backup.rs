//! `keel backup`.

mod due;

pub(super) use self::due::run as run_due;
mod import;

pub(super) use self::due::last_run;

use std::io;
use std::path::{Path, PathBuf};

use manifests::id::Address;
use manifests::kind::Kind;
use manifests::path_io;
use manifests::secret::SecretValue;
use runtime::native::backup::{Checked, Head, PART, Sink, Unseal, part_of};
use runtime::native::{BackupExport, Exported, MadeBy, Seal, check_backup};
use runtime::runtime::Context;
use serde_json::json;

use super::HumanOrJson;
use super::apply::how;
use super::asked::catch_signals;
use super::decide::session;
use super::engine::{self, Opened};
use super::get::yaml;
use super::invocation::{Invocation, absolute};
use crate::error::{CliError, Exit};
use crate::secrets::age::Identity;
use crate::secrets::age_stream::{Recipient, Sealer, unseal};
use crate::view::history::when;
use crate::view::manifest;
use crate::view::text::{bytes, counted, table, visible};

/// Write an instance or a volume into one file that restores on any pool, check such a file, bring one in; by hand or by
/// schedule.
#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, clap::Subcommand)]
enum Deed {
    Export(Export),
    Verify(Verify),
    Import(import::Import),
    /// List the backups in the folders of all Backups, and when the next ones are due.
    List(due::List),
    /// Make the backups that are due by schedule, and delete those of which the time is over.
    ///
    /// A timer does it each minute where there is no controller (`units/keel-backups.timer`). After a time in which nobody
    /// did, each schedule makes one. What a Backup did not make it does not delete, nor what is not as it was made, nor the
    /// newest.
    RunDue,
}

/// Which snapshots are in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// All that the instance has.
    All,
    /// None.
    None,
}

/// Write a backup of an instance or a volume: its configuration, its files or disks, its snapshots and the image below them.
///
/// A container that runs stands still while its files are copied beside it, a machine has a snapshot meanwhile; with
/// `--volumes` all who use these stand still at once. Memory and what lies on other disks is not in it. The file gets its
/// name when all of it is on disk. While it is written, other commands go on: only what would take away what is read is
/// refused.
#[derive(Debug, clap::Args)]
struct Export {
    /// The instance, or `volume/POOL/NAME`.
    object: String,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file where it is there already.
    #[arg(long)]
    force: bool,
    /// Keep what is written where this is cut off (killed, a full disk, Ctrl-C), and go on with what there is of it.
    ///
    /// It stays beside the file, as FILE.keel-part, which may be removed. What it is to be of is read again and compared
    /// with it: from where that differs it is written anew, so that all of it is as things are now. A part of another object,
    /// or of other snapshots, is refused. What is encrypted cannot be gone on with.
    #[arg(long, conflicts_with = "recipient")]
    resume: bool,
    /// Which of its snapshots are in it.
    #[arg(long, value_name = "WHICH", default_value = "all")]
    snapshots: Which,
    /// Instead of the instance as it is now, one of its snapshots.
    #[arg(long, value_name = "NAME", conflicts_with = "snapshots")]
    snapshot: Option<String>,
    /// With the volumes that the instance uses, and their snapshots.
    #[arg(long, conflicts_with = "snapshot")]
    volumes: bool,
    /// Leave the image out: the file is smaller, and only restores where the image is.
    #[arg(long)]
    without_image: bool,
    /// In the form of its pool's driver, as streams of `btrfs send`: faster, and only pools of that driver take it. Disks of
    /// machines are in it as they are in any case.
    #[arg(long)]
    optimized: bool,
    /// Encrypt it for the holder of this key of age (age1…); several can read it.
    #[arg(long, value_name = "AGE1…")]
    recipient: Vec<Recipient>,
}

/// Read a backup to its end and say what it is and what is wrong with it.
///
/// Needs neither root nor a state folder.
#[derive(Debug, clap::Args)]
struct Verify {
    /// The file.
    file: PathBuf,
    #[command(flatten)]
    keys: Keys,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

/// What opens a backup that is encrypted.
#[derive(Debug, clap::Args)]
struct Keys {
    /// A file of age keys, one of which opens it.
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
}

impl Keys {
    fn read(&self) -> Result<Vec<Identity>, CliError> {
        let mut all = Vec::new();
        for path in &self.identity {
            let text = SecretValue::new(path_io::read_to_string(path)?);
            let found = Identity::parse_all(text.reveal()).map_err(|error| {
                CliError::new(Exit::Unexpected, format!("{}: {error}", path.display()))
            })?;
            all.extend(found);
        }
        Ok(all)
    }
}

/// Decrypts by these keys.
fn opener(
    identities: &[Identity],
) -> impl for<'r> Fn(Box<dyn io::Read + 'r>) -> io::Result<Box<dyn io::Read + 'r>> {
    move |stream| unseal(stream, identities)
}

/// As [`check_backup`]; without a key it is not encrypted.
fn check(path: &Path, identities: &[Identity], context: &Context<'_>) -> Result<Checked, CliError> {
    let opener = opener(identities);
    let opener = (!identities.is_empty()).then_some(&opener as &Unseal<'_>);
    check_backup(path, opener, context).map_err(|error| of_a_part(path, error.into()))
}

/// Says of a part that it is one.
fn of_a_part(path: &Path, error: CliError) -> CliError {
    let name = path.to_str().and_then(|path| path.strip_suffix(PART));
    match name {
        None => error,
        Some(file) => error.hint(format!(
            "it is what an export that was cut off has left: keel backup export … -o {} --resume goes on with it",
            visible(file)
        )),
    }
}

impl Backup {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        match &self.deed {
            Deed::Export(export) => export.run(invocation),
            Deed::Verify(verify) => verify.run(invocation),
            Deed::Import(import) => import.run(invocation),
            Deed::List(list) => list.run(invocation),
            Deed::RunDue => due::run(invocation).map(|(exit, _)| exit),
        }
    }
}

fn context<'a>(invocation: &'a Invocation, progress: &'a (dyn Fn(&str) + Sync)) -> Context<'a> {
    Context {
        cancel: invocation.cancel,
        timeout: invocation.global.timeout,
        now: invocation.now(),
        progress,
    }
}

/// A backup that is to be written.
struct Wanted<'a> {
    address: &'a Address,
    path: &'a Path,
    replace: bool,
    resume: bool,
    snapshot: Option<String>,
    snapshots: bool,
    image: bool,
    optimized: bool,
    volumes: bool,
    recipients: &'a [Recipient],
    made_by: Option<MadeBy>,
}

/// Writes it.
fn write(
    invocation: &Invocation,
    opened: &Opened,
    wanted: &Wanted<'_>,
) -> Result<Exported, CliError> {
    let native = opened.native()?;
    let address = wanted.address;
    let document = |address: &Address| {
        let item = opened.runtime.look(address)?.ok_or_else(|| {
            let message = format!("there is no {address}");
            let hint = format!("what there is: keel get {}", address.kind.word());
            CliError::new(Exit::Unexpected, message).hint(hint)
        })?;
        yaml(&manifest::document(&item))
    };
    let mut manifest = document(address)?;
    let volumes = match wanted.volumes && address.kind == Kind::Instance {
        true => native.volumes_of(address)?,
        false => Vec::new(),
    };
    for volume in &volumes {
        manifest.push_str("---\n");
        manifest.push_str(&document(volume)?);
    }
    let seal = |file| {
        let sealer = Sealer::new(file, wanted.recipients)?;
        Ok(Box::new(sealer) as Box<dyn Sink>)
    };
    let export = BackupExport {
        path: wanted.path.to_path_buf(),
        replace: wanted.replace,
        resume: wanted.resume,
        manifest,
        program: format!("keel {}", env!("CARGO_PKG_VERSION")),
        snapshot: wanted.snapshot.clone(),
        snapshots: wanted.snapshots,
        image: wanted.image,
        optimized: wanted.optimized,
        volumes,
        seal: (!wanted.recipients.is_empty()).then_some(&seal as &Seal<'_>),
        made_by: wanted.made_by,
    };
    let progress = |phase: &str| invocation.note(&format!("{address}: {phase}\n"));
    let context = context(invocation, &progress);
    let exported = session(invocation, opened).backup(
        address,
        &how(invocation),
        || native.begin_backup(address, &export, &context),
        |exporting| native.write_backup(exporting, &export, &context),
        |exporting| native.end_backup(exporting, &context),
    );
    Ok(exported?)
}

impl Export {
    fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let path = absolute(&self.output)?;
        let opened = engine::open(invocation)?;
        let address = invocation.has_snapshots(&self.object)?;
        catch_signals(invocation)?;
        let wanted = Wanted {
            address: &address,
            path: &path,
            replace: self.force,
            resume: self.resume,
            snapshot: self.snapshot.clone(),
            snapshots: self.snapshots == Which::All,
            image: !self.without_image,
            optimized: self.optimized,
            volumes: self.volumes,
            recipients: &self.recipient,
            made_by: None,
        };
        let part = part_of(&path);
        let named = visible(&part.display().to_string());
        if !self.resume && part.exists() {
            invocation.note(&format!(
                "{named} is what an export that was cut off has left: --resume goes on with it, and it may be removed\n"
            ));
        }
        let exported = write(invocation, &opened, &wanted).map_err(|error| {
            let refused = error.exit == Exit::Refused;
            if path.exists() && !self.force && refused {
                error.hint("--force replaces it")
            } else if self.resume && part.exists() {
                error.hint(match refused {
                    true => format!("what begins anew: remove {named}"),
                    false => format!(
                        "what is written stays in {named}: the same command goes on with it"
                    ),
                })
            } else {
                error
            }
        })?;
        if exported.kept > 0 {
            let kept = bytes(exported.kept);
            invocation.note(&format!("{kept} of it were there already\n"));
        }
        for line in &exported.left_out {
            invocation.note(&format!("left out: {}\n", visible(line)));
        }
        invocation.note(&format!(
            "{address} is in {} ({})\n",
            visible(&self.output.display().to_string()),
            bytes(exported.bytes)
        ));
        invocation.json_into(|| {
            let value = json!({
                "object": address,
                "file": path,
                "size": exported.bytes,
                "kept": exported.kept,
                "parts": exported.parts,
                "leftOut": exported.left_out,
            });
            format!("{value:#}\n")
        })?;
        Ok(Exit::Done)
    }
}

impl Verify {
    fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        catch_signals(invocation)?;
        let context = context(invocation, &|_| {});
        let checked = check(&absolute(&self.file)?, &self.keys.read()?, &context)?;
        let json = || document(&self.file, &checked);
        invocation.json_into(json)?;
        match self.output {
            HumanOrJson::Json => invocation.print_plain(&json())?,
            HumanOrJson::Human => invocation.print(&page(&checked))?,
        }
        if checked.fault_count == 0 {
            return Ok(Exit::Done);
        }
        let checked = checked.whole(&self.file);
        Err(match checked {
            Err(error) => of_a_part(&self.file, CliError::new(Exit::Unexpected, error)),
            Ok(_) => CliError::said(Exit::Unexpected),
        })
    }
}

fn document(file: &Path, checked: &Checked) -> String {
    let value = json!({
        "file": file,
        "size": checked.packed_bytes,
        "sha256": checked.sha256,
        "backup": checked.head,
        "parts": checked.parts,
        "faults": checked.faults,
        "faultCount": checked.fault_count,
    });
    format!("{value:#}\n")
}

fn page(checked: &Checked) -> String {
    let head = &checked.head;
    let of = head.of().map(ToString::to_string).unwrap_or_default();
    let what = match &head.of_snapshot {
        Some(name) => format!("snapshot {name} of {of}"),
        None => of,
    };
    let r#type = match (head.r#type, head.volumes.first()) {
        (Some(r#type), _) => r#type.to_string(),
        (None, Some(volume)) => volume.content_type.to_string(),
        (None, None) => String::new(),
    };
    let mut text = format!(
        "{} ({type}), made {} by {}\n",
        visible(&what),
        when(head.created_at),
        visible(&head.program)
    );
    let rows = checked.parts.iter().map(|part| {
        vec![
            visible(&named(head, &part.name)),
            part.members.to_string(),
            bytes(part.bytes),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    text.push_str(&table(&["PART", "MEMBERS", "SIZE"], &rows));
    text.push_str(&match checked.fault_count {
        0 => "nothing is wrong with it\n".to_owned(),
        count => {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            format!("{} in it\n", counted(count, "fault"))
        }
    });
    text
}

/// A part as people call it: with the name of the volume in the place of its number.
fn named(head: &Head, part: &str) -> String {
    if let Some(part) = part.strip_prefix("streams/") {
        return format!("{} (btrfs)", named(head, part));
    }
    let found = part.strip_prefix("volumes/").and_then(|rest| {
        let (number, rest) = rest.split_once('/')?;
        let volume = head.volumes.get(number.parse::<usize>().ok()?)?;
        let named = match rest.strip_prefix("disks/") {
            None => rest.to_owned(),
            Some(at) => {
                let snapshot = volume.snapshots.get(at.parse::<usize>().ok()?)?;
                format!("snapshots/{}", snapshot.name)
            }
        };
        Some(format!("{} {named}", volume.address))
    });
    found.unwrap_or_else(|| part.to_owned())
}
