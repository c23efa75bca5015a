//! A span as OpenTelemetry has it, and the request that brings spans to a collector (OTLP/HTTP with JSON).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::fields::Fields;

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;
/// `STATUS_CODE_ERROR`.
const FAILED: u8 = 2;

/// By which a span is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    /// Of its trace.
    pub(super) trace: [u8; 16],
    /// Its own.
    pub(super) span: [u8; 8],
}

/// Something that happened within a span.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Happened {
    pub(super) at: Timestamp,
    pub(super) level: &'static str,
    pub(super) fields: Fields,
}

/// A span.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    pub(super) ids: Ids,
    pub(super) parent: Option<[u8; 8]>,
    pub(super) name: &'static str,
    pub(super) began: Timestamp,
    pub(super) fields: Fields,
    /// Warnings and errors.
    pub(super) happened: Vec<Happened>,
    /// Why it failed; none: it did not.
    pub(super) failed: Option<String>,
}

/// A span that is over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ended {
    pub(super) span: Span,
    pub(super) at: Timestamp,
}

/// Where spans come from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The host's name.
    pub(super) host: String,
    /// The version of keel.
    pub(super) version: &'static str,
}

fn nanos(at: Timestamp) -> String {
    at.as_nanosecond().to_string()
}

fn value(value: &Value) -> Value {
    match value {
        Value::Bool(value) => json!({ "boolValue": value }),
        // 64 bits are texts in the JSON of protobuf.
        Value::Number(number) if number.is_i64() => json!({ "intValue": number.to_string() }),
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "stringValue": other.to_string() }),
    }
}

fn attribute(name: &str, of: &Value) -> Value {
    json!({ "key": name, "value": value(of) })
}

fn attributes(fields: &Fields) -> Vec<Value> {
    let named = fields.named.iter();
    named
        .map(|(name, value)| attribute(&format!("keel.{name}"), value))
        .collect()
}

fn one(ended: &Ended) -> Value {
    let Span {
        ids,
        parent,
        name,
        began,
        fields,
        happened,
        failed,
    } = &ended.span;
    let events = happened.iter().map(|one| {
        let mut attributes = attributes(&one.fields);
        attributes.push(attribute("level", &Value::from(one.level)));
        json!({
            "timeUnixNano": nanos(one.at),
            "name": one.fields.message.as_deref().unwrap_or("told"),
            "attributes": attributes,
        })
    });
    let mut whole = json!({
        "traceId": hex::encode(ids.trace),
        "spanId": hex::encode(ids.span),
        "name": name,
        "kind": INTERNAL,
        "startTimeUnixNano": nanos(*began),
        "endTimeUnixNano": nanos(ended.at),
        "attributes": attributes(fields),
        "events": events.collect::<Vec<_>>(),
        "status": match failed {
            Some(why) => json!({ "code": FAILED, "message": why }),
            None => json!({}),
        },
    });
    if let Some(parent) = parent {
        whole["parentSpanId"] = Value::from(hex::encode(parent));
    }
    whole
}

/// What a collector is sent: an `ExportTraceServiceRequest`.
pub(super) fn request(spans: &[Ended], origin: &Origin) -> Value {
    let Origin { host, version } = origin;
    json!({
        "resourceSpans": [{
            "resource": {
                "attributes": [
                    attribute("service.name", &Value::from("keel")),
                    attribute("service.version", &Value::from(*version)),
                    attribute("host.name", &Value::from(host.as_str())),
                ],
            },
            "scopeSpans": [{
                "scope": { "name": "keel", "version": version },
                "spans": spans.iter().map(one).collect::<Vec<_>>(),
            }],
        }],
    })
}
