//! What people and machines read: pure functions from data to text. To add a form of output: write `view/<name>.rs`
//! and give it an arm in the commands that offer it.

pub mod accept;
pub mod console;
pub mod controller;
pub mod diagnostics;
pub mod drift;
pub mod due;
pub mod elsewhere;
pub mod escape;
pub mod explain;
pub mod findings;
pub mod github;
pub mod gitlab;
pub mod history;
pub mod html;
pub mod images;
pub mod junit;
pub mod live_document;
pub mod manifest;
pub mod markdown;
pub mod missed;
pub mod objects;
pub mod places;
pub mod plan;
pub mod plan_check;
pub mod plan_document;
pub mod progress;
#[cfg(test)]
mod samples;
pub mod sarif;
pub mod saved_plan;
pub mod style;
pub mod text;
pub mod trash;
pub mod values;
pub mod versioned;
