//! `keel schema`.

mod settings;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use manifests::read::{self, SOURCE_FILE};
use manifests::{path_io, schema};

use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::source::git;
use crate::view::text;
use settings::Merged;

/// Where schemas are, below the folder of the source.
pub(super) const FOLDER: &str = ".keel/schemas";

/// Work with the JSON schemas of the language, which editors read.
#[derive(Debug, clap::Args)]
pub(super) struct Schema {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Write(Write),
}

/// Write the JSON schemas of this version, and tell editors of them.
///
/// In a source the settings of VS Code (.vscode/settings.json) are told which files the schema is for; what they say
/// already stays as it is.
#[derive(Debug, clap::Args)]
struct Write {
    /// The folder that they are written into.
    #[arg(default_value = FOLDER)]
    folder: PathBuf,
    /// Leave the settings of editors alone.
    #[arg(long)]
    no_settings: bool,
}

impl Schema {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let Command::Write(Write {
            folder,
            no_settings,
        }) = &self.command;
        let files = schema::files();
        for (name, content) in &files {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                path_io::create_dir_all(parent)?;
            }
            path_io::write_atomically(&path, content)?;
        }
        let all = all(folder);
        let count = text::counted(files.len(), "schema");
        let told = text::visible(&all.display().to_string());
        invocation.print(&format!(
            "{count} in {}; the one of all kinds is {told}\n\
             Editors with yaml-language-server take it from the first line of a manifest, for the first document of the file:\n  \
             # yaml-language-server: $schema={told}\n",
            text::visible(&folder.display().to_string()),
        ))?;
        if !no_settings {
            invocation.print(&told_settings(Path::new("."), &all)?)?;
        }
        Ok(Exit::Done)
    }
}

/// The schema of all kinds in a folder of schemas.
pub(super) fn all(folder: &Path) -> PathBuf {
    folder.join(format!("v1/{}.json", schema::ALL))
}

/// Tells editors of the schema, for the files of the source that a folder is in; says what was done.
fn told_settings(here: &Path, all: &Path) -> Result<String, CliError> {
    let texts = read::read(here).map_err(|error| CliError::new(Exit::Invalid, error))?;
    if !texts.root.join(SOURCE_FILE).exists() {
        return Ok(format!(
            "No {SOURCE_FILE} here or above: the settings of editors are left alone\n"
        ));
    }
    let files = texts.files.iter().map(|(name, _)| name.as_str());
    let told = tell_editors(&texts.root, files, all)?;
    Ok(told.sentence())
}

/// What became of the settings of editors.
pub(super) struct Told {
    path: PathBuf,
    outcome: Merged,
    was_there: bool,
}

impl Told {
    /// What was done, in a line or, where a person must do it, several.
    pub(super) fn sentence(&self) -> String {
        let path = text::visible(&self.path.display().to_string());
        match (&self.outcome, self.was_there) {
            (Merged::Current, _) => format!("{path} has the schema already\n"),
            (Merged::Written(_), false) => format!("{path} tells VS Code which files it is for\n"),
            (Merged::Written(_), true) => {
                format!("{path}: the schema is added, all else is as it was\n")
            }
            (Merged::ByHand(why, add), _) => {
                let add = add.replace('\n', "\n  ");
                format!("{path} is left as it is: {why}; please add by hand:\n  {add}\n")
            }
        }
    }
}

/// Puts the schema into the settings of the folder that people open: the work tree of git around a source, or the
/// source. `files` are names relative to the source.
///
/// # Errors
/// The settings cannot be read or written.
pub(super) fn tell_editors<'a>(
    root: &Path,
    files: impl Iterator<Item = &'a str>,
    all: &Path,
) -> Result<Told, CliError> {
    let found = |error: std::io::Error| CliError::new(Exit::Unexpected, error);
    let root = root.canonicalize().map_err(found)?;
    let all = all.canonicalize().map_err(found)?;
    let opened = git::top(&root).unwrap_or(&root);
    let below = |path: &Path| {
        path.strip_prefix(opened)
            .ok()
            .map(|path| path.display().to_string())
    };
    let schema = match below(&all) {
        Some(path) => format!("./{path}"),
        None => all.display().to_string(),
    };
    let globs = globs(&below(&root).unwrap_or_default(), files);
    let path = opened.join(".vscode/settings.json");
    let there = path_io::read_if_exists(&path)?;
    let outcome = settings::merge(there.as_deref(), &schema, &globs);
    if let Merged::Written(text) = &outcome {
        path_io::create_dir_all(opened.join(".vscode"))?;
        path_io::write_atomically(&path, text)?;
    }
    Ok(Told {
        path,
        outcome,
        was_there: there.is_some(),
    })
}

/// The files of a source as editors name them: all below its folder; where that is the folder that people open, which has
/// other YAML too, all below the folders that have manifests.
fn globs<'a>(root: &str, files: impl Iterator<Item = &'a str>) -> Vec<String> {
    let all_in = |folder: &str| {
        // What has a meaning in patterns stands for itself.
        let folder = folder.replace(['*', '?', '[', ']', '{', '}', '!', '\\'], "?");
        format!("{folder}/**/*.{{yaml,yml}}")
    };
    if !root.is_empty() {
        return vec![all_in(root)];
    }
    let names: BTreeSet<String> = files
        .map(|file| match file.split_once('/') {
            Some((folder, _)) => all_in(folder),
            None => file.to_owned(),
        })
        .chain([SOURCE_FILE.to_owned()])
        .collect();
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_name_the_files_of_the_source_and_no_others() {
        let files = [
            "apps/web.yaml",
            "apps/a/b.yml",
            "keel.yaml",
            "a [b]/c.yaml",
            "web.yaml",
        ];
        assert_eq!(
            globs("", files.into_iter()),
            [
                "a ?b?/**/*.{yaml,yml}",
                "apps/**/*.{yaml,yml}",
                "keel.yaml",
                "web.yaml"
            ]
        );
        assert_eq!(
            globs("hosts/edge", files.into_iter()),
            ["hosts/edge/**/*.{yaml,yml}"]
        );
    }
}
