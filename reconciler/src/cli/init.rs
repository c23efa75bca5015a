//! `keel init`.

use std::path::{Path, PathBuf};

use manifests::envelope::wrong_name;
use manifests::kind::Kind;
use manifests::read::{self, SOURCE_FILE};
use manifests::{path_io, schema};

use super::invocation::{Invocation, absolute};
use super::schema as editors;
use crate::error::{CliError, Exit};
use crate::source::git;
use crate::view::text::{self, visible};

/// Make a new repository of manifests: a pool, a network, a profile and a first instance that can be applied at once,
/// with settings for editors and a check for pull requests.
///
/// What is there already is left as it is. It becomes a git repository unless it is in one.
#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// The folder; absent: this one.
    folder: Option<PathBuf>,
    /// The name under which what is made from it is owned; absent: that of the folder.
    #[arg(long)]
    name: Option<String>,
    /// Make no git repository.
    #[arg(long)]
    no_git: bool,
}

/// The manifests, by their place.
const MANIFESTS: [(&str, &str); 6] = [
    (SOURCE_FILE, include_str!("init/keel.yaml")),
    ("images/busybox.yaml", include_str!("init/image.yaml")),
    ("instances/hello.yaml", include_str!("init/instance.yaml")),
    ("networks/lan0.yaml", include_str!("init/network.yaml")),
    ("pools/main.yaml", include_str!("init/pool.yaml")),
    ("profiles/default.yaml", include_str!("init/profile.yaml")),
];

/// What stands beside manifests.
const BESIDE: [(&str, &str); 3] = [
    ("README.md", include_str!("init/README.md")),
    (".keelignore", include_str!("init/keelignore")),
    (
        ".github/workflows/keel.yaml",
        include_str!("../../../examples/ci/github/validate.yaml"),
    ),
];

/// What was written, and what was left.
#[derive(Default)]
struct Made {
    new: Vec<String>,
    left: Vec<String>,
}

impl Init {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let folder = self.folder.as_deref().unwrap_or(Path::new("."));
        let name = self.chosen_name(folder)?;
        outside_of_sources(folder)?;
        path_io::create_dir_all(folder)?;
        let there = read::read(folder).map_err(|error| CliError::new(Exit::Invalid, error))?;
        let mut made = Made::default();
        // Examples among the objects of others would be one more change to look at, and a name would change the owner.
        let samples = if there.files.is_empty() {
            &MANIFESTS[..]
        } else {
            &[]
        };
        for (place, content) in samples.iter().chain(&BESIDE) {
            made.write(folder, place, &content.replace("NAME", &name))?;
        }
        let schemas = schema::files();
        for (place, content) in &schemas {
            made.write(folder, &format!("{}/{place}", editors::FOLDER), content)?;
        }
        let is_git = self.git(invocation, folder);
        let is_manifest = |name: &&String| MANIFESTS.iter().any(|(place, _)| place == name);
        let files: Vec<&str> = there
            .files
            .iter()
            .map(|(file, _)| file)
            .chain(made.new.iter().filter(is_manifest))
            .map(String::as_str)
            .collect();
        let settings = editors::tell_editors(
            folder,
            files.into_iter(),
            &editors::all(&folder.join(editors::FOLDER)),
        )?;
        let mut out = made.page(folder, samples.is_empty());
        out.push_str(&settings.sentence());
        if is_git {
            out.push_str("It is a git repository now\n");
        }
        out.push_str(&self.next());
        invocation.print(&out)?;
        Ok(Exit::Done)
    }

    /// The name that was asked for, or one like that of the folder.
    fn chosen_name(&self, folder: &Path) -> Result<String, CliError> {
        if let Some(name) = &self.name {
            return match wrong_name(Kind::Project, name) {
                Some(wrong) => Err(CliError::usage(format!("`{}` is no name", visible(name)))
                    .hint(wrong.replace(
                        &format!("names of {} objects", Kind::Project.name()),
                        "names of sources",
                    ))),
                None => Ok(name.clone()),
            };
        }
        let folder = absolute(folder)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let like: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let like = like.trim_matches('-').to_lowercase();
        Ok(match wrong_name(Kind::Project, &like) {
            None => like,
            Some(_) => "default".to_owned(),
        })
    }

    /// Makes it a git repository where it is in none.
    fn git(&self, invocation: &Invocation, folder: &Path) -> bool {
        let Ok(folder) = folder.canonicalize() else {
            return false;
        };
        if self.no_git || git::top(&folder).is_some() {
            return false;
        }
        match git::init(&folder) {
            Ok(()) => true,
            Err(error) => {
                invocation.note(&format!("warning: it is no git repository: {error}\n"));
                false
            }
        }
    }

    fn next(&self) -> String {
        let mut next = "Next:".to_owned();
        if let Some(folder) = &self.folder {
            let folder = visible(&folder.display().to_string());
            let is_plain = |c: char| c.is_alphanumeric() || "._/-".contains(c);
            let folder = match folder.chars().all(is_plain) {
                true => folder,
                false => format!("'{}'", folder.replace('\'', "'\\''")),
            };
            next.push_str(&format!("  cd {folder}\n     "));
        }
        next.push_str("  keel validate\n       sudo keel plan\n       sudo keel apply\n");
        next
    }
}

/// A source has no other source in it.
fn outside_of_sources(folder: &Path) -> Result<(), CliError> {
    let folder = absolute(folder)?;
    let there = folder.ancestors().find(|above| above.is_dir());
    let there = there.unwrap_or(&folder);
    let source = read::read_source(there).map_err(|error| CliError::new(Exit::Invalid, error))?;
    let is_inside = there != folder || source.partial.is_some();
    if is_inside && source.root.join(SOURCE_FILE).exists() {
        let root = visible(&source.root.display().to_string());
        return Err(
            CliError::usage(format!("the folder is in the source {root}"))
                .hint("a source has no other one in it: choose a folder elsewhere"),
        );
    }
    Ok(())
}

impl Made {
    /// Writes a file where there is none.
    fn write(&mut self, folder: &Path, place: &str, content: &str) -> Result<(), CliError> {
        let path = folder.join(place);
        // A link that leads nowhere is somebody's as well.
        if path.symlink_metadata().is_ok() {
            self.left.push(place.to_owned());
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            path_io::create_dir_all(parent)?;
        }
        path_io::write_atomically(&path, content)?;
        self.new.push(place.to_owned());
        Ok(())
    }

    /// What was made and what was left, for people.
    fn page(&self, folder: &Path, has_manifests: bool) -> String {
        let is_schema = |place: &&String| place.starts_with(editors::FOLDER);
        let schemas = self.new.iter().filter(is_schema).count();
        let mut out = format!("In {}:\n", visible(&folder.display().to_string()));
        for place in self.new.iter().filter(|place| !is_schema(place)) {
            out.push_str(&format!("  new   {place}\n"));
        }
        if schemas > 0 {
            out.push_str(&format!(
                "  new   {}/: {}\n",
                editors::FOLDER,
                text::counted(schemas, "schema")
            ));
        }
        for place in self.left.iter().filter(|place| !is_schema(place)) {
            out.push_str(&format!("  left  {place}\n"));
        }
        if self.left.iter().any(|place| is_schema(&place)) {
            out.push_str(&format!(
                "  left  {}: keel schema write renews them\n",
                editors::FOLDER
            ));
        }
        if has_manifests {
            out.push_str("There are manifests: none are added\n");
        }
        out
    }
}
