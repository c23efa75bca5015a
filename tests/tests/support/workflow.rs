//! The shell steps of workflows, and how they are run without the forge.

use std::path::Path;

use manifests::path_io;
use serde_json::Value;

use crate::yaml;

/// A step of a job that runs a shell.
#[derive(Debug)]
pub(crate) struct Step {
    /// What people see of it.
    pub(crate) name: String,
    /// What it runs.
    pub(crate) run: String,
    /// Its variables, with expressions in them.
    pub(crate) env: Vec<(String, String)>,
    /// When it is run.
    pub(crate) condition: Option<String>,
    /// The job goes on where it fails.
    pub(crate) may_fail: bool,
}

/// The one document of a file.
pub(crate) fn document(file: &Path) -> Value {
    let text = path_io::read_to_string(file).expect("a workflow");
    let mut documents = yaml::documents(&text);
    assert_eq!(documents.len(), 1, "{}", file.display());
    documents.remove(0)
}

/// The shell steps of a job, in order.
pub(crate) fn steps(workflow: &Value, job: &str) -> Vec<Step> {
    let steps = workflow["jobs"][job]["steps"].as_array();
    let steps = steps.unwrap_or_else(|| panic!("no job {job}"));
    let with_shell = steps.iter().filter_map(|step| {
        let run = step["run"].as_str()?.to_owned();
        let name = step["name"].as_str().expect("a shell step has a name");
        let env = step["env"].as_object().into_iter().flatten();
        let env = env.map(|(key, value)| (key.clone(), value.as_str().expect("text").to_owned()));
        Some(Step {
            name: name.to_owned(),
            run,
            env: env.collect(),
            condition: step["if"].as_str().map(str::to_owned),
            may_fail: step["continue-on-error"] == true,
        })
    });
    with_shell.collect()
}

/// How many commits a job checks out, 0 being all of them; `None` where it checks out nothing.
pub(crate) fn depth(workflow: &Value, job: &str) -> Option<u64> {
    let steps = workflow["jobs"][job]["steps"].as_array().expect("steps");
    let is_checkout = |uses: &str| uses.contains("actions/checkout@");
    let checkout = steps
        .iter()
        .find(|step| step["uses"].as_str().is_some_and(is_checkout))?;
    Some(checkout["with"]["fetch-depth"].as_u64().unwrap_or(1))
}
