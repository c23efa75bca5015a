//! Findings about manifests: with the line and a caret for people, as JSON for machines.

use std::collections::HashMap;
use std::fmt::Write as _;

use manifests::diagnostic::{Diagnostic, Diagnostics, Origin, Severity};
use serde_json::{Value, json};

use super::style::{BAD, CALM, CAREFUL, FAINT, STRONG, paint};
use super::text;

/// More are counted and not shown.
const MOST: usize = 50;
/// The characters of a line that are shown on each side of what is meant, where it is a long one.
const AROUND: usize = 60;

/// The findings for people, by file and place, at most fifty. `files` are the texts by name, for the lines.
pub fn page<'a>(
    found: &Diagnostics,
    files: impl IntoIterator<Item = &'a (String, String)>,
) -> String {
    let texts: HashMap<&str, &str> = files
        .into_iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let all = found.sorted();
    let mut out = String::new();
    for diagnostic in all.iter().take(MOST) {
        out.push_str(&one(diagnostic, &texts));
        out.push('\n');
    }
    if let Some(more) = all.len().checked_sub(MOST).filter(|more| *more > 0) {
        let _ = writeln!(out, "… and {more} more\n");
    }
    out
}

fn one(diagnostic: &Diagnostic, texts: &HashMap<&str, &str>) -> String {
    let (style, word) = match diagnostic.severity {
        Severity::Error => (BAD, "error"),
        Severity::Warning => (CAREFUL, "warning"),
    };
    let title = paint(style.bold(), &format!("{word}[{}]", diagnostic.code));
    let message = paint(STRONG, &format!(": {}", text::visible(&diagnostic.message)));
    let mut out = format!("{title}{message}\n");
    let mut places: Vec<(&Origin, Option<&str>, char)> =
        vec![(&diagnostic.origin, diagnostic.hint.as_deref(), '^')];
    places.extend(
        diagnostic
            .related
            .iter()
            .map(|(origin, words)| (origin, Some(words.as_str()), '-')),
    );
    let gutter = places
        .iter()
        .map(|(origin, ..)| origin.line.max(1).to_string().len())
        .max()
        .unwrap_or(1);
    for (origin, words, mark) in places {
        excerpt(&mut out, origin, words, mark, gutter, texts);
    }
    for note in &diagnostic.notes {
        let _ = writeln!(out, "{} = {}", " ".repeat(gutter), text::visible(note));
    }
    out
}

/// A place with its line and what is said about it. Where the line is not known, the words stand below the place.
fn excerpt(
    out: &mut String,
    origin: &Origin,
    words: Option<&str>,
    mark: char,
    gutter: usize,
    texts: &HashMap<&str, &str>,
) {
    let empty = " ".repeat(gutter);
    let words = words.map(text::visible);
    if !origin.file.is_empty() {
        let column = if origin.line > 0 && origin.column > 0 {
            format!(":{}", origin.column)
        } else {
            String::new()
        };
        let place = text::visible(&format!("{origin}{column}"));
        let _ = writeln!(out, "{empty} {} {place}", paint(FAINT, "┌─"));
    }
    let line = texts.get(&*origin.file).and_then(|text| {
        let number = usize::try_from(origin.line).ok()?.checked_sub(1)?;
        text.lines().nth(number).map(|line| (line, *text))
    });
    let Some((line, whole)) = line else {
        if let Some(words) = words {
            let _ = writeln!(out, "{empty} = {words}");
        }
        return;
    };
    let at = usize::try_from(origin.column)
        .unwrap_or(1)
        .saturating_sub(1);
    let (begin, end) = origin.bytes;
    let meant = whole
        .get(begin as usize..end as usize)
        .and_then(|meant| meant.lines().next())
        .map_or(1, |meant| meant.chars().count())
        .clamp(1, line.chars().count().saturating_sub(at).max(1));
    // Of a long line only the surroundings are shown.
    let skip = at.saturating_sub(AROUND);
    let shown: String = line.chars().skip(skip).take(2 * AROUND).collect();
    let bar = paint(FAINT, "│");
    let number = paint(FAINT, &format!("{:>gutter$}", origin.line));
    let _ = writeln!(out, "{number} {bar} {}", text::visible(&shown));
    // Columns of a place are characters; below them stand as many columns of the terminal.
    let columns = |skip: usize, take: usize| {
        let part: String = shown.chars().skip(skip).take(take).collect();
        text::width(&text::visible(&part))
    };
    let before = columns(0, at - skip);
    let carets = mark
        .to_string()
        .repeat(columns(at - skip, meant.min(2 * AROUND)).max(1));
    let style = if mark == '^' { BAD } else { CALM };
    let said = words.map_or_else(|| carets.clone(), |words| format!("{carets} {words}"));
    let pad = " ".repeat(before);
    let _ = writeln!(out, "{empty} {bar} {pad}{}", paint(style, &said));
}

/// The JSON document of a run: what was found, and whether the manifests are valid.
pub fn document(found: &Diagnostics, objects: usize) -> Value {
    let (errors, warnings) = count(found);
    json!({
        "formatVersion": "1.0",
        "valid": errors == 0,
        "objects": objects,
        "errors": errors,
        "warnings": warnings,
        "diagnostics": found.sorted(),
    })
}

/// `3 errors, 1 warning`; none where nothing was found.
pub fn summary(found: &Diagnostics) -> Option<String> {
    let (errors, warnings) = count(found);
    let words: Vec<String> = [(errors, "error"), (warnings, "warning")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, noun)| text::counted(count, noun))
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// How many errors and warnings there are.
fn count(found: &Diagnostics) -> (usize, usize) {
    let all = found.sorted();
    let errors = all
        .iter()
        .filter(|diagnostic| diagnostic.severity == Severity::Error)
        .count();
    (errors, all.len() - errors)
}

#[cfg(test)]
mod tests {
    use manifests::diagnostic::Code;

    use super::*;

    const WEB: &str = "spec:\n  limits:\n    memmory: 4GiB\nname: web\n";

    fn at(line: u32, column: u32, meant: &str) -> Origin {
        let begin = WEB.find(meant).expect("it is there");
        let number = |at: usize| u32::try_from(at).expect("a small file");
        Origin {
            file: "apps/web.yaml".into(),
            line,
            column,
            bytes: (number(begin), number(begin + meant.len())),
        }
    }

    #[test]
    fn a_finding_has_its_line_a_caret_and_the_nearest_word() {
        let mut found = Diagnostics::default();
        found.push(
            Diagnostic::error(
                Code("E0104"),
                at(3, 5, "memmory"),
                "unknown field `memmory` in Instance spec.limits",
            )
            .hint("did you mean `memory`?")
            .note("known fields: keel explain instance.spec.limits")
            .related(at(4, 1, "name"), "of this\u{1b}[2J"),
        );
        let elsewhere = Origin {
            file: "gone.yaml".into(),
            line: 120,
            ..Origin::default()
        };
        found.push(
            Diagnostic::warning(Code("U0301"), elsewhere, "a line that is not known")
                .hint("and a hint"),
        );
        found.push(Diagnostic::error(
            Code("R0201"),
            Origin::default(),
            "no place at all",
        ));
        let files = [("apps/web.yaml".to_owned(), WEB.to_owned())];
        let page = page(&found, &files);
        insta::assert_snapshot!(anstream::adapter::strip_str(&page).to_string());
    }

    #[test]
    fn long_lines_and_many_findings_are_cut() {
        let text = format!("a: {}!{}\n", "x".repeat(500), "y".repeat(500));
        let origin = Origin {
            file: "a.yaml".into(),
            line: 1,
            column: 504,
            bytes: (503, 504),
        };
        let mut found = Diagnostics::default();
        for _ in 0..60 {
            found.push(Diagnostic::error(Code("E0107"), origin.clone(), "long"));
        }
        let page = page(&found, &[("a.yaml".to_owned(), text)]);
        let page = anstream::adapter::strip_str(&page).to_string();
        assert!(page.lines().all(|line| text::width(line) < 140), "{page}");
        assert!(page.ends_with("… and 10 more\n\n"), "{page}");
        let marked = page.lines().nth(2).zip(page.lines().nth(3));
        let (line, caret) = marked.expect("an excerpt");
        let at = caret.chars().position(|c| c == '^').expect("a caret");
        assert_eq!(line.chars().nth(at), Some('!'));
    }

    #[test]
    fn findings_are_counted() {
        let mut found = Diagnostics::default();
        assert_eq!(summary(&found), None);
        let code = Code("E0104");
        found.push(Diagnostic::warning(code, Origin::default(), "a"));
        assert_eq!(summary(&found).as_deref(), Some("1 warning"));
        assert_eq!(document(&found, 3)["valid"], true);
        found.push(Diagnostic::error(code, Origin::default(), "b"));
        found.push(Diagnostic::error(code, Origin::default(), "c"));
        assert_eq!(summary(&found).as_deref(), Some("2 errors, 1 warning"));
        let document = document(&found, 3);
        assert_eq!(document["valid"], false);
        assert_eq!(document["diagnostics"][0]["code"], "E0104");
    }
}
