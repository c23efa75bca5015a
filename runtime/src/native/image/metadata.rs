//! What images say about themselves: `metadata.yaml` of LXD and Incus, `config.json` of OCI bundles and images.
//!
//! All of it is a stranger's word. Names of host files in it (templates) are not obeyed; what cannot be said in one
//! printable line is dropped.

use std::collections::BTreeMap;

use manifests::tree::Value;
use serde::Deserialize;

use super::record::ImageProperties;

/// Longest text that is taken over.
const LONGEST: usize = 4096;
/// Most entries of a map or list that are taken over.
const MOST: usize = 1024;

/// Reads `metadata.yaml`.
pub(super) fn from_metadata_yaml(text: &str) -> Result<ImageProperties, String> {
    let (mut documents, found) = manifests::parse::parse("metadata.yaml", text);
    if let Some(first) = found.sorted().first() {
        return Err(format!("line {}: {}", first.origin.line, first.message));
    }
    // An empty file says nothing, and that is no error.
    let Some(metadata) = documents.pop() else {
        return Ok(ImageProperties::default());
    };
    let Value::Map(_) = &metadata.value else {
        return Err(format!("is {} and no map", metadata.value.noun()));
    };
    let words = match metadata.get("properties").map(|node| &node.value) {
        None | Some(Value::Null) => &[][..],
        Some(Value::Map(words)) => words,
        Some(other) => return Err(format!("properties: is {} and no map", other.noun())),
    };
    let words = words
        .iter()
        .filter_map(|(key, node)| Some((line(key.name.clone())?, line(word(&node.value)?)?)));
    Ok(ImageProperties {
        architecture: metadata
            .get("architecture")
            .and_then(|node| word(&node.value))
            .and_then(line),
        words: words.take(MOST).collect(),
        ..ImageProperties::default()
    })
}

/// YAML without quotes makes numbers and booleans of versions and flags; lists, maps and nulls are not taken over.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) | Value::Integer(text) | Value::Float(text) => Some(text.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

#[derive(Deserialize)]
struct BundleConfig {
    process: Option<BundleProcess>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct BundleProcess {
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    cwd: Option<String>,
    user: BundleUser,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct BundleUser {
    uid: u32,
    gid: u32,
}

/// Reads `config.json` of a bundle (OCI runtime specification).
pub(super) fn from_bundle_config(text: &str) -> Result<ImageProperties, String> {
    let config: BundleConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let process = config.process.unwrap_or_default();
    let user = (process.user.uid, process.user.gid);
    Ok(ImageProperties {
        command: arguments(process.args.unwrap_or_default()),
        environment: environment(process.env.unwrap_or_default()),
        working_dir: process.cwd.and_then(line),
        user: (user != (0, 0)).then(|| format!("{}:{}", user.0, user.1)),
        ..ImageProperties::default()
    })
}

#[derive(Deserialize)]
struct OciConfig {
    architecture: Option<String>,
    config: Option<OciRun>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct OciRun {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// Reads the config blob of an OCI image.
pub(super) fn from_oci_config(text: &str) -> Result<ImageProperties, String> {
    let config: OciConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let run = config.config.unwrap_or_default();
    let mut command = run.entrypoint.unwrap_or_default();
    command.extend(run.cmd.unwrap_or_default());
    let labels = run.labels.unwrap_or_default().into_iter();
    Ok(ImageProperties {
        architecture: config
            .architecture
            .as_deref()
            .map(kernel_architecture)
            .map(str::to_owned)
            .and_then(line),
        command: arguments(command),
        environment: environment(run.env.unwrap_or_default()),
        working_dir: run.working_dir.filter(|dir| !dir.is_empty()).and_then(line),
        user: run.user.filter(|user| !user.is_empty()).and_then(line),
        stop_signal: run.stop_signal.and_then(line),
        words: labels
            .filter_map(|(key, value)| Some((line(key)?, line(value)?)))
            .take(MOST)
            .collect(),
    })
}

/// OCI writes Go's names.
pub(super) fn kernel_architecture(go: &str) -> &str {
    match go {
        "amd64" => "x86_64",
        "386" => "x86",
        "arm64" => "aarch64",
        other => other,
    }
}

/// A single printable line of bearable length.
fn line(text: String) -> Option<String> {
    (text.len() <= LONGEST && !text.chars().any(char::is_control)).then_some(text)
}

/// Arguments may have several lines; they may not have a NUL. A list with one bad argument is no command at all.
fn arguments(list: Vec<String>) -> Vec<String> {
    let bad = |argument: &String| argument.contains('\0') || argument.len() > 128 * 1024;
    if list.len() > MOST || list.iter().any(bad) {
        return Vec::new();
    }
    list
}

fn environment(list: Vec<String>) -> BTreeMap<String, String> {
    list.into_iter()
        .take(MOST)
        .filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            let good = !name.is_empty()
                && !name.chars().any(|c| c.is_control() || c.is_whitespace())
                && !value.contains('\0')
                && value.len() <= 128 * 1024;
            good.then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_yaml() {
        let text = "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Debian\n  release: 12\n  \
                    desktop: false\n  evil: \"a\\nlxc.hook = x\"\n  list: [1]\ntemplates:\n  /etc/shadow:\n    template: ../../x\n";
        let found = from_metadata_yaml(text).unwrap();
        assert_eq!(found.architecture.as_deref(), Some("x86_64"));
        let words: Vec<_> = found
            .words
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            words,
            [("desktop", "false"), ("os", "Debian"), ("release", "12")]
        );
        assert_eq!(
            from_metadata_yaml("{}").unwrap(),
            ImageProperties::default()
        );
        for bad in ["[", "properties: 3", "a: *b"] {
            from_metadata_yaml(bad).unwrap_err();
        }
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            use std::fmt::Write as _;
            let below = format!("*a{}, ", level - 1).repeat(10);
            let _ = writeln!(
                bomb,
                "a{level}: &a{level} [{}]",
                below.trim_end_matches(", ")
            );
        }
        from_metadata_yaml(&bomb).unwrap_err();
        let deep = format!("properties: {}", "[".repeat(20_000));
        from_metadata_yaml(&deep).unwrap_err();
    }

    #[test]
    fn oci_configs() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","BAD","=x","A=b=c","N\u0000=1"],
            "Entrypoint":["/entry"],"Cmd":["a","b"],"WorkingDir":"/srv","User":"1000:1000","StopSignal":"SIGQUIT","Labels":null}}"#;
        let found = from_oci_config(text).unwrap();
        assert_eq!(found.architecture.as_deref(), Some("x86_64"));
        assert_eq!(found.command, ["/entry", "a", "b"]);
        assert_eq!(found.environment.len(), 2);
        assert_eq!(found.environment["A"], "b=c");
        assert_eq!(found.user.as_deref(), Some("1000:1000"));
        let text = r#"{"ociVersion":"1.0.2","process":{"args":["sh","-c","a\nb"],"env":["X=1"],"cwd":"/","user":{"uid":3,"gid":4}}}"#;
        let found = from_bundle_config(text).unwrap();
        assert_eq!(found.command, ["sh", "-c", "a\nb"]);
        assert_eq!(found.user.as_deref(), Some("3:4"));
        let nul = r#"{"process":{"args":["sh","\u0000"]}}"#;
        assert_eq!(
            from_bundle_config(nul).unwrap().command,
            Vec::<String>::new()
        );
        for bad in ["", "[]", "{\"process\":3}"] {
            from_bundle_config(bad).unwrap_err();
        }
    }
}
