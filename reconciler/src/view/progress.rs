//! What runs now and how it ended: a line for each running object on a terminal, start and end lines and a heartbeat
//! elsewhere. Pure: times are given as milliseconds since the beginning, text comes out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use runtime::runtime::Effected;

use super::style::{BAD, CAREFUL, FAINT, GOOD, STRONG, paint};
use super::text;
use crate::journal::Outcome;
use crate::plan::StepId;

/// How often a step that runs on says so where there is no terminal, in milliseconds.
const HEARTBEAT: u64 = 10_000;
/// The column in which the phase begins.
const PHASE_AT: usize = 34;

/// A step that runs.
#[derive(Debug, Clone)]
struct Running {
    object: String,
    word: String,
    phase: String,
    since: u64,
    said: u64,
}

/// A step that was not done.
#[derive(Debug, Clone)]
struct NotDone {
    object: String,
    why: String,
}

/// What runs now, and what became of the rest.
#[derive(Debug, Default)]
pub struct Board {
    /// On a terminal, running steps are lines that are drawn again.
    terminal: bool,
    columns: usize,
    running: BTreeMap<StepId, Running>,
    drawn: usize,
    done: usize,
    failed: Vec<NotDone>,
    skipped: Vec<NotDone>,
}

impl Board {
    /// An empty board, for a terminal of so many columns or for none.
    pub fn new(columns: Option<usize>) -> Self {
        Self {
            terminal: columns.is_some(),
            columns: columns.unwrap_or(80),
            ..Self::default()
        }
    }

    /// A step begins.
    pub fn started(&mut self, step: StepId, object: &str, word: &str, now: u64) -> String {
        let running = Running {
            object: text::visible(object),
            word: word.to_owned(),
            phase: String::new(),
            since: now,
            said: now,
        };
        let line = if self.terminal {
            String::new()
        } else {
            format!(
                "{}{word} …\n",
                text::pad(&format!("  {}", running.object), PHASE_AT)
            )
        };
        self.running.insert(step, running);
        self.with_lines(&line, now)
    }

    /// A step says how far it is.
    pub fn phase(&mut self, step: StepId, phase: &str, now: u64) -> String {
        let Some(running) = self.running.get_mut(&step) else {
            return String::new();
        };
        running.phase = text::visible(phase);
        if self.terminal {
            self.with_lines("", now)
        } else {
            String::new()
        }
    }

    /// A step ends, or is skipped without having begun.
    pub fn ended(&mut self, step: StepId, object: &str, outcome: &Outcome, now: u64) -> String {
        let running = self.running.remove(&step);
        let object = text::visible(object);
        let word = running.as_ref().map_or("", |running| running.word.as_str());
        let took = running.as_ref().map_or_else(String::new, |running| {
            format!(" {}", text::span(now.saturating_sub(running.since)))
        });
        let (style, words) = match outcome {
            Outcome::Succeeded { effected } => {
                self.done += 1;
                let words = match effected {
                    Effected::Done => format!("{word} done{took}"),
                    Effected::NotNeeded => format!("{word} was not needed"),
                    Effected::NextStart => format!("{word} accepted, in force after a restart"),
                };
                (GOOD, words)
            }
            Outcome::Failed { message, .. } => {
                let why = text::visible(message);
                let words = format!("{word} FAILED{took}: {why}");
                self.failed.push(NotDone {
                    object: object.clone(),
                    why,
                });
                (BAD, words)
            }
            Outcome::Skipped { message, .. } => {
                let why = text::visible(message);
                let words = format!("skipped: {why}");
                self.skipped.push(NotDone {
                    object: object.clone(),
                    why,
                });
                (CAREFUL, words)
            }
            Outcome::Interrupted { done } => {
                let how = if *done {
                    "it was done"
                } else {
                    "it was not done"
                };
                (CAREFUL, format!("was interrupted: {how}"))
            }
        };
        let line = text::pad(&format!("  {object}"), PHASE_AT);
        let line = format!("{line}{}\n", paint(style, words.trim_start()));
        self.with_lines(&line, now)
    }

    /// Time goes on: lines are drawn again, or a heartbeat is due.
    pub fn tick(&mut self, now: u64) -> String {
        if self.terminal {
            return self.with_lines("", now);
        }
        let mut out = String::new();
        for running in self.running.values_mut() {
            if now.saturating_sub(running.said) >= HEARTBEAT {
                running.said = now;
                let _ = writeln!(
                    out,
                    "{}{}",
                    text::pad(&format!("  {}", running.object), PHASE_AT),
                    running.words(now)
                );
            }
        }
        out
    }

    /// Wipes the drawn lines, says a line that stays, draws the running ones below it.
    fn with_lines(&mut self, stays: &str, now: u64) -> String {
        let mut out = String::new();
        if self.drawn > 0 {
            // Up to the first drawn line, then everything below goes.
            let _ = write!(out, "\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
        out.push_str(stays);
        if self.terminal {
            for running in self.running.values() {
                let line = format!(
                    "{}{}",
                    text::pad(&format!("  {}", running.object), PHASE_AT),
                    running.words(now)
                );
                // A line that wraps would be two lines to wipe.
                let line = text::cut(&line, self.columns.saturating_sub(1));
                let _ = writeln!(out, "{}", paint(FAINT, &line));
                self.drawn += 1;
            }
        }
        out
    }

    /// How many failed.
    pub fn failures(&self) -> usize {
        self.failed.len()
    }

    /// The last lines: counts, then every failure and the command that goes on.
    pub fn summary(&self, held: usize, again: &str, milliseconds: u64) -> String {
        let mut counts = vec![format!("Applied {}", self.done)];
        let rest = [
            (self.failed.len(), "failed"),
            (held, "held"),
            (self.skipped.len(), "skipped"),
        ];
        counts.extend(
            rest.iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, word)| format!("{word} {count}")),
        );
        let mut out = format!(
            "{} in {}\n",
            paint(STRONG, &counts.join(", ")),
            text::span(milliseconds)
        );
        for (word, all) in [("failed", &self.failed), ("skipped", &self.skipped)] {
            for NotDone { object, why } in all {
                let _ = writeln!(out, "  {object} {word}: {why}");
            }
        }
        if !self.failed.is_empty() || !self.skipped.is_empty() {
            let _ = writeln!(out, "Go on:  {again}");
        }
        out
    }
}

impl Running {
    fn words(&self, now: u64) -> String {
        let elapsed = text::span(now.saturating_sub(self.since) / 1000 * 1000);
        let phase = if self.phase.is_empty() {
            String::new()
        } else {
            format!(": {}", self.phase)
        };
        format!("{}{phase} ({elapsed})", self.word)
    }
}

#[cfg(test)]
mod tests {
    use runtime::error::Class;

    use super::*;

    const DONE: Outcome = Outcome::Succeeded {
        effected: Effected::Done,
    };

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn failed(message: &str) -> Outcome {
        Outcome::Failed {
            class: Class::Retry,
            message: message.to_owned(),
        }
    }

    #[test]
    fn without_a_terminal_there_are_lines_and_a_heartbeat() {
        let mut board = Board::new(None);
        let mut out = board.started(StepId(1), "image/debian", "fetch", 0);
        out += &board.phase(StepId(1), "unpacking", 100);
        out += &board.tick(9_000);
        out += &board.tick(10_000);
        out += &board.tick(11_000);
        out += &board.ended(StepId(1), "image/debian", &DONE, 12_500);
        out += &board.ended(
            StepId(2),
            "instance/a",
            &Outcome::Skipped {
                code: Some("G109".to_owned()),
                message: "waits for network/lan, which failed".to_owned(),
            },
            12_500,
        );
        assert!(!out.contains("\x1b[1A"), "no cursor movement: {out:?}");
        insta::assert_snapshot!(plain(&out));
    }

    #[test]
    fn on_a_terminal_running_lines_are_drawn_again() {
        let mut board = Board::new(Some(60));
        let first = board.started(StepId(1), "instance/a", "create", 0);
        assert_eq!(plain(&first).lines().count(), 1);
        let second = board.started(StepId(2), "instance/b", "create", 0);
        assert!(second.starts_with("\x1b[1A\x1b[J"), "{second:?}");
        let end = board.ended(StepId(1), "instance/a", &failed("no\nspace\u{1b}[2J"), 2000);
        assert!(end.starts_with("\x1b[2A\x1b[J"), "{end:?}");
        assert!(end.contains("FAILED 2.00 s: no␊space␛[2J"), "{end:?}");
        assert!(plain(&end).contains("create (2.00 s)"), "{end:?}");
    }

    #[test]
    fn the_last_lines_count_and_say_how_to_go_on() {
        let mut board = Board::new(None);
        board.started(StepId(1), "instance/a", "create", 0);
        board.ended(StepId(1), "instance/a", &failed("disk full"), 10);
        board.started(StepId(2), "instance/b", "create", 0);
        board.ended(StepId(2), "instance/b", &DONE, 10);
        assert_eq!(
            plain(&board.summary(1, "keel apply", 41_000)),
            "Applied 1, failed 1, held 1 in 41 s\n  instance/a failed: disk full\nGo on:  keel apply\n"
        );
        assert_eq!(board.failures(), 1);
    }
}
