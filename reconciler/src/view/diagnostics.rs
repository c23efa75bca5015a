//! Findings about manifests as JSON, and how many there are.

use manifests::diagnostic::{Diagnostics, Severity};
use serde_json::{Value, json};

use super::text;

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
    use manifests::diagnostic::{Code, Diagnostic, Origin};

    use super::*;

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
