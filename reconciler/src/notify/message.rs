//! One piece of news. It has no values of fields and no secrets; what drives terminals or hides text is made visible.

use manifests::controller::Trigger;
use manifests::visible::visible;

/// More lines are counted.
const LINES: usize = 12;
/// A longer line is cut.
const LONG: usize = 600;

/// How it stands with what is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It began.
    Began,
    /// It is another one than was told.
    Changed,
    /// It is not over.
    GoesOn,
    /// It is over.
    Over,
    /// It happened, and is over by itself.
    Happened,
}

impl Stage {
    /// For machines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Changed => "changed",
            Self::GoesOn => "goesOn",
            Self::Over => "over",
            Self::Happened => "happened",
        }
    }
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Tells it from every other; the same when it is sent again.
    pub id: String,
    /// When.
    pub at: jiff::Timestamp,
    /// Since when that is so.
    pub since: jiff::Timestamp,
    /// The host.
    pub host: String,
    /// What it is about.
    pub trigger: Trigger,
    /// How it stands with that.
    pub stage: Stage,
    /// The source; none: the host itself.
    pub source: Option<String>,
    /// The revision that is in force.
    pub revision: Option<String>,
    /// One sentence without a full stop.
    pub title: String,
    /// More of it.
    pub lines: Vec<String>,
}

impl Message {
    /// Whether somebody should look.
    pub const fn is_bad(&self) -> bool {
        match self.stage {
            Stage::Over => false,
            Stage::Happened => !matches!(self.trigger, Trigger::Deployed),
            Stage::Began | Stage::Changed | Stage::GoesOn => true,
        }
    }

    /// The first line: `web-1: edge: 2 objects failed`.
    pub fn headline(&self) -> String {
        let about = match &self.source {
            Some(source) => format!("{}: {source}: ", self.host),
            None => format!("{}: ", self.host),
        };
        let before = match self.stage {
            Stage::Over => "over: ",
            Stage::GoesOn => "still: ",
            Stage::Began | Stage::Changed | Stage::Happened => "",
        };
        visible(&format!("{about}{before}{}", self.title))
    }

    /// The lines below it.
    pub fn details(&self) -> Vec<String> {
        let mut lines = shown(&self.lines);
        if let Some(revision) = &self.revision {
            lines.push(format!("revision {}", visible(revision)));
        }
        if matches!(self.stage, Stage::GoesOn | Stage::Over) {
            lines.push(format!("since {:.0}", self.since));
        }
        lines
    }

    /// All of it, for people.
    pub fn text(&self) -> String {
        let mut lines = vec![self.headline()];
        lines.extend(self.details());
        lines.join("\n")
    }
}

/// Lines of others: visible, and not too many and too long.
fn shown(lines: &[String]) -> Vec<String> {
    let cut = |line: &String| {
        let line = visible(line);
        match line.char_indices().nth(LONG) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
            None => line,
        }
    };
    let mut out: Vec<String> = lines.iter().take(LINES).map(cut).collect();
    if lines.len() > LINES {
        out.push(format!("and {} more", lines.len() - LINES));
    }
    out
}
