//! `keel explain`.

use manifests::explain::{self, NoField};
use manifests::id::Address;
use serde_json::{Value, json};

use super::HumanOrJson;
use super::decide::{Decisions, seen_on_this_host, session, wanted};
use super::engine;
use super::invocation::Invocation;
use crate::codes;
use crate::error::{CliError, Exit};
use crate::plan::Purpose;
use crate::plan::gates::GATES;
use crate::view::explain as view;
use crate::view::findings::DRIFT;

/// Explain a field, a code or an object: by the shape of what is asked.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  keel explain instance.spec.limits.memory   a field: type, default, what a change costs\n  \
    keel explain E0104                         a code: what it means, how to mend it\n  \
    keel explain instance/web-1                an object: what each field is, lives as, and was applied as"
)]
pub(super) struct Explain {
    /// A field (`instance.spec.limits.memory`), a kind, a code (`E0104`, `G102`, `drift-changed`), or an object (`instance/web-1`).
    #[arg(value_name = "FIELD|CODE|KIND/NAME")]
    what: String,
    /// The source that declares the object; absent: this folder.
    path: Option<std::path::PathBuf>,
    /// How it is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "human")]
    output: HumanOrJson,
}

impl Explain {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let (text, json) = if is_code(&self.what) {
            code(&self.what)?
        } else if self.what.contains('/') && !self.what.starts_with('/') {
            self.object(invocation)?
        } else {
            field(&self.what)?
        };
        let json = format!("{json:#}\n");
        invocation.json_into(|| json.clone())?;
        match self.output {
            HumanOrJson::Human => invocation.print(&text)?,
            HumanOrJson::Json => invocation.print_plain(&json)?,
        }
        Ok(Exit::Done)
    }

    /// What is wanted of an object, what lives, what was applied, and what is held.
    fn object(&self, invocation: &Invocation) -> Result<(String, Value), CliError> {
        let address: Address = self.what.parse()?;
        let mut wanted = wanted(invocation, self.path.as_deref())?;
        let opened = engine::open(invocation)?;
        seen_on_this_host(&mut wanted.desired, &wanted.texts, &opened)?;
        let session = session(invocation, &opened);
        let plan = session.plan(
            &wanted.desired,
            &Decisions::default().options(Purpose::Apply),
        )?;
        let (known, observed) = session.look()?;
        let live = observed.items.iter().find(|item| item.address == address);
        let known = known.owned.values().find(|owned| owned.address == address);
        let resource = wanted.desired.resources.get(&address);
        if resource.is_none() && live.is_none() && known.is_none() {
            let names: Vec<String> = wanted
                .desired
                .resources
                .keys()
                .chain(observed.items.iter().map(|item| &item.address))
                .map(ToString::to_string)
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let error = CliError::new(
                Exit::Usage,
                format!("{address} is neither declared nor there"),
            );
            return Err(
                match manifests::near_miss::nearest(&address.to_string(), &names) {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error.hint("keel get lists what lives, keel render what is declared"),
                },
            );
        }
        let object = view::object(&address, resource, live, known, &plan);
        Ok((object.page(), json!(object)))
    }
}

/// A letter and three or four digits: `E0104`, `G102`; or a rule of drift reports: `drift-changed`.
fn is_code(text: &str) -> bool {
    if text.to_lowercase().starts_with("drift-") {
        return true;
    }
    let digits = text.get(1..).unwrap_or_default();
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && (3..=4).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
}

fn code(text: &str) -> Result<(String, Value), CliError> {
    if let Some(entry) = codes::find(text) {
        let (wrong, right) = entry.example;
        let json = json!({
            "code": entry.code,
            "title": entry.title,
            "explanation": entry.explanation,
            "example": { "wrong": wrong, "right": right },
        });
        return Ok((view::code(entry), json));
    }
    let gate = GATES
        .iter()
        .find(|gate| gate.code.0.eq_ignore_ascii_case(text));
    if let Some(gate) = gate {
        let json = json!({
            "code": gate.code,
            "title": gate.title,
            "explanation": gate.explanation,
            "approvable": gate.approvable,
        });
        return Ok((view::gate(gate), json));
    }
    let rule = DRIFT.iter().find(|rule| rule.id.eq_ignore_ascii_case(text));
    if let Some(rule) = rule {
        let json = json!({
            "code": rule.id,
            "title": rule.title,
            "explanation": rule.explanation,
        });
        return Ok((view::rule(rule), json));
    }
    let known: Vec<&str> = codes::all()
        .map(|entry| entry.code.0)
        .chain(GATES.iter().map(|gate| gate.code.0))
        .chain(DRIFT.iter().map(|rule| rule.id))
        .collect();
    let is_rule = text.contains('-');
    let spelled = if is_rule {
        text.to_lowercase()
    } else {
        text.to_uppercase()
    };
    let error = CliError::usage(format!("there is no code {spelled}"));
    Err(match manifests::near_miss::nearest(&spelled, &known) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error,
    }
    .hint(format!("codes: {}", known.join(", "))))
}

fn field(text: &str) -> Result<(String, Value), CliError> {
    let found = explain::field(text).map_err(|wrong| no_field(&wrong))?;
    Ok((view::field(&found), json!(found)))
}

fn no_field(wrong: &NoField) -> CliError {
    let error = CliError::usage(wrong.to_string());
    match &wrong.nearest {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None if wrong.known.is_empty() => error.hint(format!("{} has no fields", wrong.inside)),
        None => error.hint(format!("known fields: {}", wrong.known.join(", "))),
    }
}
