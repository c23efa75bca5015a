//! Reports in Markdown: comments of pull requests and summaries of jobs.
//!
//! Values come from manifests and live objects and are nobody's Markdown: each stands in an element `code` or in a
//! fence, where neither mentions nor links nor marks are looked for.

mod diagnostics;
mod drift;
mod plan;

use std::fmt::Write as _;

pub use self::diagnostics::of_manifests;
pub use self::drift::of_drift;
pub use self::plan::of_plan;

use super::text::visible;

/// What a comment of a pull request takes. GitHub counts characters; bytes are never fewer.
pub const COMMENT: usize = 65_536;
/// What GitHub takes as the summary of a step, in bytes.
pub const SUMMARY: usize = 1024 * 1024;

/// Rows of a table that are left where the whole does not fit.
const ROWS: usize = 100;

/// A report in parts, the dispensable last.
#[derive(Debug, Default)]
struct Report {
    /// The hidden mark by which a comment is found and renewed.
    mark: String,
    /// What is always there: title, counts, what stops.
    head: String,
    /// The first lines of the table.
    columns: String,
    /// One a row.
    rows: Vec<String>,
    /// One an object, below a fold, in a fence.
    details: Vec<String>,
    /// How many values of the details are cut.
    values_cut: usize,
    /// What the fold is called.
    fold: String,
    /// What else is worth knowing.
    more: Vec<String>,
    /// What ends it.
    foot: String,
    /// What is said of one that was cut short.
    cut: &'static str,
}

impl Report {
    /// The text, within a limit in bytes: details go first, then rows beyond a hundred, then as many as it takes.
    fn within(&self, limit: usize) -> String {
        let whole = self.written(self.rows.len(), self.details.len(), self.more.len());
        if whole.len() <= limit {
            return whole;
        }
        let mut rows = self.rows.len();
        let mut more = self.more.len();
        loop {
            let text = self.written(rows, 0, more);
            if text.len() <= limit || (rows == 0 && more == 0) {
                return text;
            }
            if rows > ROWS {
                rows = ROWS;
            } else if more > rows {
                more /= 2;
            } else {
                rows /= 2;
                more = more.min(rows);
            }
        }
    }

    fn written(&self, rows: usize, details: usize, more: usize) -> String {
        let mut out = format!("{}\n{}", self.mark, self.head);
        let left = [
            (self.rows.len() - rows, "row"),
            (self.details.len() - details, "detail"),
            (self.more.len() - more, "remark"),
        ];
        let left: Vec<String> = left
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, noun)| super::text::counted(count, noun))
            .collect();
        let mut short = Vec::new();
        if !left.is_empty() {
            short.push(format!("{} left out to fit", left.join(", ")));
        }
        if self.values_cut > 0 && details > 0 {
            let values = super::text::counted(self.values_cut, "value");
            short.push(format!("{values} shown in part"));
        }
        if !short.is_empty() {
            let _ = write!(
                out,
                "\n> [!IMPORTANT]\n> **Shortened: {}.** {}\n",
                short.join("; "),
                self.cut
            );
        }
        if rows > 0 {
            let _ = write!(out, "\n{}", self.columns);
            for row in &self.rows[..rows] {
                out.push_str(row);
            }
        }
        if details > 0 {
            let body = self.details[..details].concat();
            let fence = "`".repeat(longest_run(&body, '`').max(2) + 1);
            let _ = write!(
                out,
                "\n<details><summary>{}</summary>\n\n{fence}diff\n{body}{fence}\n\n</details>\n",
                self.fold
            );
        }
        if more > 0 {
            out.push('\n');
            for line in &self.more[..more] {
                out.push_str(line);
            }
        }
        out.push_str(&self.foot);
        out
    }
}

/// The hidden mark of a sticky comment: `<!-- keel:plan edge edge-1 -->`. Names cannot end it.
fn sticky(command: &str, names: &[&str]) -> String {
    let mut out = format!("<!-- keel:{command}");
    for name in names {
        out.push(' ');
        for character in name.chars() {
            if character.is_ascii_alphanumeric() || "._".contains(character) {
                out.push(character);
            } else {
                let _ = write!(out, "%{:X}", u32::from(character));
            }
        }
    }
    out.push_str(" -->");
    out
}

/// A value as code within a line or a table: every sign that means something in Markdown or HTML is a reference.
fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("<code>{}</code>", inert(text))
}

/// Words outside of code: as there, and nobody is mentioned. What stands in backticks is code.
fn words(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let last = parts.len() - 1;
    let mut out = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index % 2 == 1 && index < last {
            out.push_str(&code(part));
            continue;
        }
        if index % 2 == 1 {
            out.push_str("&#96;");
        }
        let plain = inert(part)
            .replace("&#64;", "&#64;&#8203;")
            .replace("&#35;", "&#35;&#8203;");
        out.push_str(&plain);
    }
    out
}

fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in visible(text).chars() {
        if character.is_alphanumeric() || " -.,/;()=+%^→…·".contains(character) {
            out.push(character);
        } else {
            let _ = write!(out, "&#{};", u32::from(character));
        }
    }
    out
}

/// The longest run of a sign in a text.
fn longest_run(text: &str, sign: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for character in text.chars() {
        run = if character == sign { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// A row of a table.
fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// An alert of GitHub; elsewhere a quotation.
fn alert(kind: &str, lines: &[String]) -> String {
    let mut out = format!("\n> [!{kind}]\n");
    for line in lines {
        let _ = writeln!(out, "> {line}  ");
    }
    out
}

#[cfg(test)]
mod tests;
