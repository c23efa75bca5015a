//! Findings as SARIF 2.1.0, as code scanning takes it: rules with stable names, places from the top of the repository,
//! and fingerprints that stay where lines move.

use std::collections::HashMap;

use manifests::diagnostic::Origin;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::findings::{Finding, Findings, Level, rule};
use super::text::visible;

/// Code scanning takes as many results in one run; more make it refuse all of them.
const MOST: usize = 25_000;

/// The document.
pub fn document(findings: &Findings) -> Value {
    let mut results: Vec<&Finding> = findings.found.iter().collect();
    let left_off = results.len().saturating_sub(MOST);
    if left_off > 0 {
        // Of the worst none may be missing.
        results.sort_by_key(|finding| finding.level);
        results.truncate(MOST);
    }
    let mut names: Vec<&'static str> = results.iter().map(|finding| finding.rule).collect();
    names.sort_unstable();
    names.dedup();
    let index: HashMap<&str, usize> = names.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let rules: Vec<Value> = names.iter().map(|id| rule_of(id, &results)).collect();
    let mut met: HashMap<String, usize> = HashMap::new();
    let results: Vec<Value> = results
        .into_iter()
        .map(|finding| {
            let print = fingerprint(findings, finding);
            let times = met.entry(print.clone()).or_default();
            *times += 1;
            result(findings, finding, index[finding.rule], &print, *times)
        })
        .collect();
    let mut invocation = json!({"executionSuccessful": true});
    if left_off > 0 {
        invocation["toolExecutionNotifications"] = json!([{
            "level": "warning",
            "message": {"text": format!("{left_off} more results are left off: {MOST} is the limit")},
        }]);
    }
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "keel",
                "fullName": "Evenkeel",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "automationDetails": {"id": format!("keel/{}/", findings.command)},
            "columnKind": "unicodeCodePoints",
            "invocations": [invocation],
            "results": results,
        }],
    })
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    }
}

fn rule_of(id: &str, results: &[&Finding]) -> Value {
    let worst = results
        .iter()
        .filter(|finding| finding.rule == id)
        .map(|finding| finding.level)
        .min();
    let mut value = json!({
        "id": id,
        "defaultConfiguration": {"level": level(worst.unwrap_or(Level::Warning))},
    });
    if let Some(rule) = rule(id) {
        value["shortDescription"] = json!({"text": rule.title});
        value["fullDescription"] = json!({"text": rule.explanation});
        value["help"] = json!({"text": rule.explanation});
    }
    value
}

fn result(findings: &Findings, finding: &Finding, rule: usize, print: &str, times: usize) -> Value {
    let mut location = Map::new();
    if let Some(origin) = findings.place(finding) {
        location.insert("physicalLocation".to_owned(), physical(findings, origin));
    }
    if let Some(object) = &finding.object {
        let field = finding.field.as_deref().unwrap_or_default();
        let logical = json!([{"fullyQualifiedName": visible(&format!("{object}{field}")), "kind": "resource"}]);
        location.insert("logicalLocations".to_owned(), logical);
    }
    let mut value = json!({
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": level(finding.level),
        "message": {"text": finding.text()},
        "partialFingerprints": {
            "primaryLocationLineHash": format!("{}:{times}", &print[..16]),
            "keel/v1": format!("{print}:{times}"),
        },
    });
    if !location.is_empty() {
        value["locations"] = json!([location]);
    }
    if !finding.related.is_empty() {
        let related = finding.related.iter().enumerate();
        value["relatedLocations"] = related
            .map(|(id, (origin, words))| {
                json!({
                    "id": id,
                    "physicalLocation": physical(findings, origin),
                    "message": {"text": words},
                })
            })
            .collect();
    }
    value
}

fn physical(findings: &Findings, origin: &Origin) -> Value {
    let mut place = json!({
        "artifactLocation": {"uri": findings.places.uri(origin), "uriBaseId": "%SRCROOT%"},
    });
    if origin.line > 0 {
        place["region"] = json!({"startLine": origin.line});
        if origin.column > 0 {
            place["region"]["startColumn"] = json!(origin.column);
        }
    }
    place
}

/// What stays the same while files around it are edited: not the line, and of drift not the live value.
fn fingerprint(findings: &Findings, finding: &Finding) -> String {
    let mut hash = Sha256::new();
    let uri = findings
        .place(finding)
        .map_or_else(String::new, |origin| findings.places.uri(origin));
    let parts = [
        finding.rule,
        &uri,
        finding.object.as_deref().unwrap_or_default(),
        finding.field.as_deref().unwrap_or_default(),
        &finding.key,
    ];
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    hex::encode(&hash.finalize()[..16])
}
