//! `keel file`.

use std::path::{Path, PathBuf};

use manifests::id::Address;
use manifests::path_io;
use runtime::runtime::FileInside;

use super::engine;
use super::invocation::{Invocation, absolute};
use crate::error::{CliError, Exit};

/// Read and write files in an instance.
#[derive(Debug, clap::Args)]
pub(super) struct File {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, clap::Subcommand)]
enum Deed {
    /// Print a file.
    Cat {
        /// The file, as `web-1/etc/motd`.
        file: String,
    },
    /// Copy a file out of an instance.
    Pull {
        /// The file, as `web-1/etc/motd`.
        file: String,
        /// Where to: a file or a folder; `-` is stdout.
        #[arg(default_value = ".")]
        to: PathBuf,
    },
    /// Copy a file into an instance.
    Push {
        /// The file on this host; `-` is stdin.
        from: PathBuf,
        /// Where to, as `web-1/etc/motd`; with a `/` at its end the file keeps its name.
        file: String,
        /// Permission bits, in octal.
        #[arg(long, value_name = "MODE", default_value = "0644", value_parser = octal)]
        mode: u32,
        /// The user inside.
        #[arg(long, value_name = "UID", default_value_t = 0)]
        uid: u32,
        /// The group inside.
        #[arg(long, value_name = "GID", default_value_t = 0)]
        gid: u32,
        /// Make the folders that are not there.
        #[arg(short = 'p', long)]
        create_dirs: bool,
    },
}

impl File {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        match &self.deed {
            Deed::Cat { file } => {
                let (instance, path) = place(invocation, file)?;
                let file = engine::open(invocation)?
                    .runtime
                    .read_file(&instance, &path)?;
                invocation.print_bytes(&file.content)?;
            }
            Deed::Pull { file, to } => {
                let (instance, path) = place(invocation, file)?;
                let file = engine::open(invocation)?
                    .runtime
                    .read_file(&instance, &path)?;
                if to == Path::new("-") {
                    invocation.print_bytes(&file.content)?;
                    return Ok(Exit::Done);
                }
                let to = absolute(to)?;
                let to = if to.is_dir() {
                    to.join(last_step(&path)?)
                } else {
                    to
                };
                path_io::write(&to, &file.content)?;
                invocation.note(&format!(
                    "{} bytes to {}\n",
                    file.content.len(),
                    to.display()
                ));
            }
            Deed::Push {
                from,
                file,
                mode,
                uid,
                gid,
                create_dirs,
            } => {
                let (instance, mut path) = place(invocation, file)?;
                if path.ends_with('/') {
                    path.push_str(&last_step(&from.to_string_lossy())?);
                }
                let file = FileInside {
                    content: content(from)?,
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                };
                engine::open(invocation)?.runtime.write_file(
                    &instance,
                    &path,
                    &file,
                    *create_dirs,
                )?;
                invocation.note(&format!(
                    "{} bytes to {instance} {path}\n",
                    file.content.len()
                ));
            }
        }
        Ok(Exit::Done)
    }
}

/// Reads a file of this host, or stdin.
fn content(from: &Path) -> Result<Vec<u8>, CliError> {
    if from != Path::new("-") {
        return Ok(path_io::read(absolute(from)?)?);
    }
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut content).map_err(|error| {
        CliError::new(Exit::Unexpected, format!("read standard input: {error}"))
    })?;
    Ok(content)
}

/// Takes `web-1/etc/motd` apart.
fn place(invocation: &Invocation, text: &str) -> Result<(Address, String), CliError> {
    let (instance, path) = text
        .split_once('/')
        .filter(|(instance, path)| !instance.is_empty() && !path.is_empty())
        .ok_or_else(|| {
            CliError::usage(format!(
                "`{text}` names no file: write INSTANCE/PATH, such as web-1/etc/motd"
            ))
        })?;
    Ok((invocation.instance(instance)?, format!("/{path}")))
}

fn last_step(path: &str) -> Result<String, CliError> {
    path.rsplit('/')
        .next()
        .filter(|name| !matches!(*name, "" | "-" | "." | ".."))
        .map(str::to_owned)
        .ok_or_else(|| CliError::usage(format!("`{path}` has no file name")))
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("`{text}` are no permission bits, such as 0644"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_bits_are_octal() {
        assert_eq!(octal("0644"), Ok(0o644));
        assert_eq!(octal("4755"), Ok(0o4755));
        for text in ["8", "", "10000", "rw"] {
            assert!(octal(text).is_err(), "{text}");
        }
    }
}
