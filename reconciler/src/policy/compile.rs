//! From text to an expression that is not too costly, or to what is wrong with it and where.

use cel::Program;
use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use manifests::codes::Entry;
use manifests::desired::Resource;
use manifests::diagnostic::{Code, Diagnostic};
use manifests::near_miss::nearest;
use manifests::pointer::Pointer;

/// An expression that is none.
const EXPRESSION: Code = Code("P0401");
/// An expression that could take for ever.
const COSTLY: Code = Code("P0402");

/// What the codes of this room mean.
pub const CODES: &[Entry] = &[
    Entry {
        code: EXPRESSION,
        title: "a policy whose expression cannot be understood",
        explanation: "The expression is no Common Expression Language, names a variable that there is not, or calls a \
                      function that there is not. There are `change` (action, class, effect, cause, reason, fields, \
                      live), `object` (kind, project, name, labels, declared, spec) and `plan` (source, host, purpose, \
                      actions, classes, changes), the functions of the language, and `byteSize(\"4GiB\")`.",
        example: (
            "expression: chang.action != \"delete\"",
            "expression: change.action != \"delete\"",
        ),
    },
    Entry {
        code: COSTLY,
        title: "a policy that could take too long",
        explanation: "An expression has at most 4096 bytes, 200 parts in each other (`1 + 1 + 1` are two of them) and \
                      two loops in each other (`all`, `exists`, `filter`, `map`). `plan.actions` and `plan.classes` have the counts of a plan without a loop.",
        example: (
            "expression: plan.changes.filter(c, c.class == \"destructive\").size() < 3",
            "expression: plan.classes.destructive < 3",
        ),
    },
];

/// Longest expression, in bytes.
const LONGEST: usize = 4096;
/// So many comprehensions may stand in each other.
const DEEPEST: usize = 2;
/// So many parts may stand in each other: each takes its share of the stack when it is weighed.
const MOST_LEVELS: usize = 200;
/// What an expression can ask. The description of the field tells of each.
pub(super) const VARIABLES: [&str; 3] = ["change", "object", "plan"];
/// Ours, besides those of the language.
pub(super) const BYTE_SIZE: &str = "byteSize";
/// The functions of the language, its operators apart; macros are none any more when it is compiled. The description of
/// the field tells of each.
pub(super) const FUNCTIONS: &[&str] = &[
    BYTE_SIZE,
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "matches",
    "max",
    "min",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    code: Code,
    message: String,
    hint: Option<String>,
}

impl Wrong {
    fn new(code: Code, message: String) -> Self {
        Self {
            code,
            message,
            hint: None,
        }
    }

    /// As a finding at the line of the expression.
    pub(super) fn diagnostic(self, resource: &Resource) -> Diagnostic {
        let at = Pointer::new("/spec/expression");
        let origin = resource.origin_of(&at);
        let one = Diagnostic::error(self.code, origin, self.message)
            .of(&resource.address)
            .at(at);
        match self.hint {
            Some(hint) => one.hint(hint),
            None => one,
        }
    }
}

/// Compiles an expression.
pub(super) fn compile(text: &str) -> Result<Program, Wrong> {
    if text.len() > LONGEST {
        let message = format!(
            "the expression has {} bytes; at most {LONGEST} are taken",
            text.len()
        );
        return Err(Wrong::new(COSTLY, message));
    }
    let program = Program::compile(text).map_err(|errors| {
        let first = errors.errors.first();
        // The parser has a limit of its own.
        if first.is_some_and(|error| error.msg.contains("Recursion limit")) {
            return too_deep();
        }
        let message = first.map_or_else(
            || "the expression cannot be understood".to_owned(),
            |error| {
                let (line, column) = error.pos;
                // Its first line says what was met; the rest draws it.
                let what = error.msg.lines().next().unwrap_or_default();
                format!("no expression: {what} (line {line}, character {column} of it)")
            },
        );
        Wrong::new(EXPRESSION, message)
    })?;
    let mut walk = Walk::default();
    walk.expression(program.expression(), 0);
    if walk.levels > MOST_LEVELS {
        return Err(too_deep());
    }
    if walk.deepest > DEEPEST {
        let message = format!(
            "{} loops stand in each other; at most {DEEPEST} may",
            walk.deepest
        );
        return Err(Wrong::new(COSTLY, message));
    }
    match walk.wrong {
        Some(wrong) => Err(wrong),
        None => Ok(program),
    }
}

fn too_deep() -> Wrong {
    let message = format!("its parts stand too deep in each other; at most {MOST_LEVELS} may");
    Wrong::new(COSTLY, message)
}

/// Looks at all of an expression.
#[derive(Default)]
struct Walk {
    /// The parts around the one that is looked at, and the most of them.
    level: usize,
    levels: usize,
    deepest: usize,
    /// Names that comprehensions around have made.
    own: Vec<String>,
    wrong: Option<Wrong>,
}

impl Walk {
    fn unknown(&mut self, what: &str, name: &str, known: &[&str]) {
        if self.wrong.is_none() {
            let mut wrong = Wrong::new(EXPRESSION, format!("there is no {what} `{name}`"));
            wrong.hint = Some(match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", known.join(", ")),
            });
            self.wrong = Some(wrong);
        }
    }

    fn expression(&mut self, expression: &IdedExpr, depth: usize) {
        self.level += 1;
        self.levels = self.levels.max(self.level);
        if self.level <= MOST_LEVELS {
            self.parts(expression, depth);
        }
        self.level -= 1;
    }

    fn parts(&mut self, expression: &IdedExpr, depth: usize) {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => {
                let is_known = VARIABLES.contains(&name.as_str())
                    || self.own.contains(name)
                    || FUNCTIONS.contains(&name.as_str());
                if !is_known {
                    self.unknown("variable", name, &VARIABLES);
                }
            }
            Expr::Call(call) => {
                // Operators are calls of names that nobody can write.
                let is_word = call
                    .func_name
                    .starts_with(|c: char| c.is_ascii_alphabetic());
                if is_word && !FUNCTIONS.contains(&call.func_name.as_str()) {
                    self.unknown("function", &call.func_name, FUNCTIONS);
                }
                for part in call.target.iter().map(AsRef::as_ref).chain(&call.args) {
                    self.expression(part, depth);
                }
            }
            Expr::Comprehension(loops) => {
                self.deepest = self.deepest.max(depth + 1);
                self.expression(&loops.iter_range, depth);
                self.expression(&loops.accu_init, depth);
                let before = self.own.len();
                self.own.push(loops.iter_var.clone());
                self.own.extend(loops.iter_var2.clone());
                self.own.push(loops.accu_var.clone());
                for part in [&loops.loop_cond, &loops.loop_step] {
                    self.expression(part, depth + 1);
                }
                self.expression(&loops.result, depth);
                self.own.truncate(before);
            }
            Expr::List(list) => {
                for part in &list.elements {
                    self.expression(part, depth);
                }
            }
            Expr::Select(select) => self.expression(&select.operand, depth),
            Expr::Map(map) => map.entries.iter().for_each(|e| self.entry(&e.expr, depth)),
            Expr::Struct(fields) => fields
                .entries
                .iter()
                .for_each(|e| self.entry(&e.expr, depth)),
        }
    }

    fn entry(&mut self, entry: &EntryExpr, depth: usize) {
        match entry {
            EntryExpr::StructField(field) => self.expression(&field.value, depth),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key, depth);
                self.expression(&entry.value, depth);
            }
        }
    }
}
