//! Findings as JUnit XML: a case for each object. What drifted or is invalid failed, what is left alone by a rule or held
//! by a guard was skipped.

use std::fmt::Write as _;

use super::escape::xml;
use super::findings::{Finding, Findings, Verdict};

/// One case.
struct Case<'a> {
    name: String,
    /// The file that declares it.
    file: String,
    findings: Vec<&'a Finding>,
    left_alone: Option<&'a str>,
}

impl Case<'_> {
    fn has(&self, verdict: Verdict) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.verdict == verdict)
    }

    fn is_skipped(&self) -> bool {
        (self.has(Verdict::Skips) || self.left_alone.is_some()) && !self.has(Verdict::Fails)
    }
}

/// The document.
pub fn document(findings: &Findings) -> String {
    let cases = cases(findings);
    let failures = cases.iter().filter(|case| case.has(Verdict::Fails)).count();
    let skipped = cases.iter().filter(|case| case.is_skipped()).count();
    let name = xml(&format!("keel {}", findings.command));
    let tests = cases.len();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">"
    );
    let _ = writeln!(
        out,
        "  <testsuite name=\"{name}: {}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\">",
        xml(&findings.about)
    );
    for case in &cases {
        written(&mut out, findings, case);
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// The objects by name, then what has findings and is none of them.
fn cases(findings: &Findings) -> Vec<Case<'_>> {
    let mut by_object = findings.by_object();
    let file = |origin: Option<&manifests::diagnostic::Origin>| {
        origin.map_or_else(String::new, |origin| findings.places.path(origin))
    };
    let mut cases: Vec<Case<'_>> = findings
        .objects
        .iter()
        .map(|looked| Case {
            name: name(looked.source.as_deref(), &looked.name),
            file: file(looked.origin.as_ref()),
            findings: by_object
                .remove(&(looked.source.as_deref(), looked.name.as_str()))
                .unwrap_or_default(),
            left_alone: looked.left_alone.as_deref(),
        })
        .collect();
    // An object may be in doubt as much as the file that declares it: several sources have objects of one name.
    let mut rest: Vec<Case<'_>> = Vec::new();
    for finding in &findings.found {
        let object = finding.object.as_deref().unwrap_or_default();
        let source = finding.source.as_deref();
        if !by_object.contains_key(&(source, object)) {
            continue;
        }
        let file = file(findings.place(finding));
        let name = match object {
            "" if file.is_empty() => name(source, "source"),
            "" => name(source, &file),
            object => name(source, object),
        };
        match rest
            .iter_mut()
            .find(|case| case.name == name && case.file == file)
        {
            Some(case) => case.findings.push(finding),
            None => rest.push(Case {
                name,
                file,
                findings: vec![finding],
                left_alone: None,
            }),
        }
    }
    cases.extend(rest);
    cases
}

/// The name of a case: several sources have objects of one name.
fn name(source: Option<&str>, object: &str) -> String {
    match source {
        Some(source) => format!("{source}: {object}"),
        None => object.to_owned(),
    }
}

fn written(out: &mut String, findings: &Findings, case: &Case<'_>) {
    let _ = write!(out, "    <testcase name=\"{}\"", xml(&case.name));
    if !case.file.is_empty() {
        let _ = write!(out, " classname=\"{}\"", xml(&case.file));
    }
    if case.findings.is_empty() && case.left_alone.is_none() {
        out.push_str("/>\n");
        return;
    }
    out.push_str(">\n");
    let mut remarks = String::new();
    for finding in &case.findings {
        let place = findings.place(finding);
        let place = place.map_or_else(String::new, |origin| findings.places.line(origin));
        let element = match finding.verdict {
            Verdict::Fails => "failure",
            Verdict::Skips if case.is_skipped() => "skipped",
            Verdict::Skips | Verdict::Remarks => {
                let _ = writeln!(remarks, "{place}: {}: {}", finding.rule, finding.text());
                continue;
            }
        };
        let _ = writeln!(
            out,
            "      <{element} type=\"{}\" message=\"{}\">{}</{element}>",
            xml(finding.rule),
            xml(&finding.message),
            xml(&format!("{place}\n{}", finding.text())),
        );
    }
    match case.left_alone {
        Some(why) if case.is_skipped() => {
            let _ = writeln!(out, "      <skipped message=\"{}\"/>", xml(why));
        }
        Some(why) => {
            let _ = writeln!(remarks, "{why}");
        }
        None => {}
    }
    if !remarks.is_empty() {
        let _ = writeln!(out, "      <system-out>{}</system-out>", xml(&remarks));
    }
    out.push_str("    </testcase>\n");
}
