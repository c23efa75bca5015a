//! The parts of a document around its `spec`, and `keel.yaml`.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::controller::{self, Controller};
use crate::envelope::{
    API_VERSION, DependsOn, Metadata, WrittenBudget, WrittenHost, WrittenLifecycle, WrittenTarget,
    WrittenTrash, WrittenWindows, name_pattern, name_words,
};
use crate::kind::{Kind, Spec};

/// What `keel.yaml` is.
pub(super) const OF_SOURCE: &str = "A folder of manifests with a name: `keel.yaml`.";

/// A property with a description over what a type says.
fn described(description: &str, schema: impl Into<Value>) -> Value {
    json!({ "description": description, "allOf": [schema.into()] })
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn object(
    title: &str,
    description: &str,
    required: &[&str],
    properties: &Map<String, Value>,
) -> Value {
    json!({
        "title": title,
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

/// `$schema`, `apiVersion` and `kind`.
fn head(kind: &str, what: &str) -> Map<String, Value> {
    Map::from_iter([
        (
            "$schema".to_owned(),
            json!({ "type": "string", "description": "The schema of this file, for editors." }),
        ),
        (
            "apiVersion".to_owned(),
            json!({ "const": API_VERSION, "description": "The version of the language." }),
        ),
        (
            "kind".to_owned(),
            json!({ "const": kind, "description": what }),
        ),
    ])
}

/// A document of a kind.
pub(super) fn document(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let spec = Spec::schema_of(kind, generator).to_value();
    let metadata = of::<Metadata>(generator);
    let name = json!({
        "type": "string",
        "pattern": name_pattern(kind),
        "description": "Its name.",
        "errorMessage": name_words(kind),
    });
    let metadata = json!({
        "type": "object",
        "description": "Who the object is.",
        "allOf": [metadata, { "required": ["name"], "properties": { "name": name } }],
    });
    let mut properties = head(kind.name(), kind.describe());
    properties.extend([
        ("metadata".to_owned(), metadata),
        ("spec".to_owned(), described("What it should be.", spec)),
        (
            "lifecycle".to_owned(),
            described("How it is treated over its life.", of::<WrittenLifecycle>(generator)),
        ),
        ("forEach".to_owned(), for_each()),
        (
            "dependsOn".to_owned(),
            described(
                "What must be there first, beyond what references say: healthy where it has health, else running; \
                 `{Instance/db-1: started}` says less.",
                of::<DependsOn>(generator),
            ),
        ),
    ]);
    object(
        kind.name(),
        kind.describe(),
        &["apiVersion", "kind", "metadata"],
        &properties,
    )
}

fn for_each() -> Value {
    json!({
        "description": "Values of which each makes one object, with `${each.value}` and `${each.index}`; or how many.",
        "anyOf": [
            { "type": "array", "items": { "type": ["string", "number", "boolean"] } },
            {
                "type": "object",
                "additionalProperties": false,
                "required": ["count"],
                "properties": { "count": { "type": "integer", "minimum": 0, "maximum": crate::resolve::MOST, "description": "How many objects are made." } },
            },
        ],
    })
}

/// `keel.yaml`.
pub(super) fn source(generator: &mut SchemaGenerator) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let lifecycle = of::<WrittenLifecycle>(generator);
    let defaults: Map<String, Value> = Kind::ALL
        .iter()
        .map(|kind| {
            (
                kind.name().to_owned(),
                Spec::schema_of(*kind, generator).to_value(),
            )
        })
        .collect();
    let mut properties = head(super::SOURCE_KIND, OF_SOURCE);
    let name = json!({
        "type": "string",
        "pattern": name_pattern(Kind::Project),
        "errorMessage": name_words(Kind::Project),
        "description": "Who owns what is made from here. Absent: `default`.",
    });
    properties.extend([
        ("name".to_owned(), name),
        (
            "host".to_owned(),
            described(
                "The host that it is for: applied to another one, it is refused.",
                of::<WrittenHost>(generator),
            ),
        ),
        (
            "bases".to_owned(),
            json!({
                "type": "array",
                "items": { "type": "string" },
                "description": "Folders of manifests that lie under this one, relative to this file: `[../base]`.",
            }),
        ),
        ("patches".to_owned(), patches(generator)),
        ("namePrefix".to_owned(), text(
                "Put before the name of each object of this folder and of its bases, and before what refers to them. \
                 Not before names inside the expressions of policies.",
            )),
        ("project".to_owned(), text("The project of what names none.")),
        ("variables".to_owned(), variables()),
        (
            "lifecycle".to_owned(),
            described("How objects of this tree are treated, where they do not say.", lifecycle),
        ),
        (
            "defaults".to_owned(),
            json!({
                "type": "object",
                "additionalProperties": false,
                "properties": defaults,
                "description": "What objects have where they do not say, by kind: `{Instance: {limits: {processes: 500}}}`.",
            }),
        ),
        (
            "external".to_owned(),
            json!({
                "type": "array",
                "items": { "type": "string", "pattern": "^[A-Za-z-]+(/[^/]+)+$" },
                "description": "Objects that are referenced here and owned elsewhere, and are never changed: `[Network/lxdbr0]`.",
            }),
        ),
        (
            "budget".to_owned(),
            described(
                "What one apply may delete, replace or rebuild unasked (guard G102).",
                of::<WrittenBudget>(generator),
            ),
        ),
        (
            "windows".to_owned(),
            described(
                "When changes are allowed; an empty list allows always.",
                of::<WrittenWindows>(generator),
            ),
        ),
        (
            "trash".to_owned(),
            described(
                "What becomes of what is deleted, replaced or rebuilt.",
                of::<WrittenTrash>(generator),
            ),
        ),
    ]);
    object(
        super::SOURCE_KIND,
        OF_SOURCE,
        &["apiVersion", "kind"],
        &properties,
    )
}

/// The settings of a controller.
pub(super) fn controller(generator: &mut SchemaGenerator) -> Value {
    let mut properties = head(controller::KIND, controller::DESCRIPTION);
    let mut fields = Controller::json_schema(generator).to_value();
    if let Some(Value::Object(fields)) = fields.get_mut("properties") {
        properties.append(fields);
    }
    object(
        controller::KIND,
        controller::DESCRIPTION,
        &["apiVersion", "kind"],
        &properties,
    )
}

fn patches(generator: &mut SchemaGenerator) -> Value {
    let target = described(
        "Which documents are changed: those to which all that is written applies.",
        of::<WrittenTarget>(generator),
    );
    let path = |description: &str| json!({ "type": "string", "pattern": "^/", "description": description });
    let operation = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["op", "path"],
        "properties": {
            "op": { "enum": ["add", "remove", "replace", "move", "copy", "test"], "description": "What is done." },
            "path": path("Where: `/spec/limits/memory`; `/spec/command/-` is the end of a list."),
            "from": path("From where, for `move` and `copy`."),
            "value": { "description": "What is added, put in place, or tested." },
        },
    });
    let merged = json!({
        "type": "object",
        "description": "Merged by key, devices by name; lists replace whole, `null` takes away.",
        "properties": {
            "metadata": { "type": "object", "description": "Labels, annotations, previous names." },
            "spec": { "type": "object", "description": "What it should be." },
            "lifecycle": described("How it is treated over its life.", of::<WrittenLifecycle>(generator)),
            "forEach": for_each(),
            "dependsOn": described("What must be there first.", of::<DependsOn>(generator)),
        },
    });
    json!({
        "type": "array",
        "description": "Changes of documents of this folder and of its bases, before `namePrefix` and `forEach`.",
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["target", "patch"],
            "properties": {
                "target": target,
                "patch": {
                    "description": "A part of a document that is merged, or the operations of a JSON patch (RFC 6902).",
                    "anyOf": [merged, { "type": "array", "items": operation }],
                },
            },
        },
    })
}

fn variables() -> Value {
    json!({
        "type": "object",
        "description": "Values that stand for `${var.NAME}` in this tree.",
        "additionalProperties": {
            "type": "object",
            "additionalProperties": false,
            "required": ["default"],
            "properties": {
                "type": { "enum": crate::substitute::TYPES, "default": "string", "description": "What it is." },
                "default": { "type": ["string", "number", "boolean"], "description": "Its value." },
                "description": { "type": "string", "description": "Free text." },
            },
        },
    })
}
