//! `keel logs`.

use std::io;
use std::time::Duration;

use manifests::id::Address;

use super::elsewhere::{self, of_instance};
use super::engine;
use super::invocation::Invocation;
use crate::api::client::Controller;
use crate::api::session::Kind;
use crate::error::{CliError, Exit};
use crate::view::console::{harmless, overlap};

/// More than any console ring holds.
const ALL: usize = 16 * 1024 * 1024;
/// How often a followed console is read.
const PERIOD: Duration = Duration::from_millis(200);

/// Print what an instance wrote to its console, also of a stopped one.
#[derive(Debug, clap::Args)]
pub(super) struct Logs {
    /// The instance.
    instance: String,
    /// Go on printing what comes.
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines.
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// Print bytes as they are, colours among them: they may drive a terminal.
    #[arg(long)]
    raw: bool,
}

impl Logs {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let instance = invocation.instance(&self.instance)?;
        let elsewhere = elsewhere::controller(invocation)?;
        let print = |bytes: &[u8]| {
            // Where it goes does not matter: behind a pipe is often a terminal.
            if self.raw {
                invocation.print_bytes(bytes)
            } else {
                invocation.print(&harmless(bytes))
            }
        };
        if let Some(controller) = elsewhere {
            return self.elsewhere(&controller, &instance, &print);
        }
        let engine = engine::open(invocation)?.runtime;
        let mut seen = engine.console_log(&instance, ALL)?;
        print(last_lines(&seen, self.tail))?;
        while self.follow && !invocation.cancelled() {
            invocation.pause(PERIOD);
            let now = engine.console_log(&instance, ALL)?;
            print(&now[overlap(&seen, &now)..])?;
            seen = now;
        }
        Ok(Exit::Done)
    }

    /// By a web socket, which tells bytes as they are, and from the newest on.
    fn elsewhere(
        &self,
        controller: &Controller,
        instance: &Address,
        print: &dyn Fn(&[u8]) -> Result<(), CliError>,
    ) -> Result<Exit, CliError> {
        if !self.follow {
            if self.raw {
                return Err(CliError::usage(
                    "a controller tells bytes as they are only with --follow",
                ));
            }
            let text = controller.text(&of_instance(instance, "logs"))?;
            print(last_lines(text.as_bytes(), self.tail))?;
            return Ok(Exit::Done);
        }
        let mut is_first = true;
        let mut failed = None;
        let mut show = |bytes: &[u8]| {
            let tail = self.tail.filter(|_| std::mem::take(&mut is_first));
            print(last_lines(bytes, tail)).map_err(|error| {
                failed = Some(error);
                io::Error::from(io::ErrorKind::BrokenPipe)
            })
        };
        controller.carry(&of_instance(instance, "logs/follow"), Kind::Log(&mut show))?;
        failed.map_or(Ok(Exit::Done), Err)
    }
}

/// The last lines of a text; a line without an end at its end counts.
fn last_lines(bytes: &[u8], count: Option<usize>) -> &[u8] {
    let Some(count) = count else {
        return bytes;
    };
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let begin = body
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(count.saturating_sub(1))
        .map_or(0, |(at, _)| at + 1);
    if count == 0 { &[] } else { &bytes[begin..] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_printed() {
        for (before, now, new) in [
            ("", "abc", "abc"),
            ("abc", "abc", ""),
            ("abc", "abcdef", "def"),
            ("abcdef", "defghi", "ghi"),
            ("abc", "xyz", "xyz"),
            ("aa", "aaa", "a"),
        ] {
            let at = overlap(before.as_bytes(), now.as_bytes());
            assert_eq!(&now[at..], new, "{before} then {now}");
        }
    }

    #[test]
    fn the_last_lines() {
        for (text, count, seen) in [
            ("a\nb\nc\n", Some(2), "b\nc\n"),
            ("a\nb\nc", Some(1), "c"),
            ("a\nb\n", Some(9), "a\nb\n"),
            ("a\nb\n", Some(0), ""),
            ("a\n", None, "a\n"),
        ] {
            assert_eq!(
                last_lines(text.as_bytes(), count),
                seen.as_bytes(),
                "{text:?} {count:?}"
            );
        }
    }
}
