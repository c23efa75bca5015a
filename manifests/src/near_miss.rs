//! What was probably meant: the nearest right word, and the words and forms of other tools.

use crate::explain;
use crate::kind::Kind;
use crate::pointer::Pointer;

/// The known word nearest to a wrong one, where one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    // `vm` is short for `virtual-machine`.
    let initials = |candidate: &str| -> String {
        candidate
            .split('-')
            .filter_map(|part| part.chars().next())
            .collect()
    };
    if lower.len() > 1
        && let Some(short) = known.iter().find(|known| initials(known) == lower)
    {
        return Some(short);
    }
    // A slip of two neighbours (`lna`) is one edit; a long word may have more of them.
    let bearable = (lower.len() / 3).max(1);
    let score = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        let near = strsim::damerau_levenshtein(&lower, &candidate) <= bearable;
        let alike = strsim::jaro_winkler(&lower, &candidate);
        (near || alike > 0.8).then_some(alike)
    };
    known
        .iter()
        .filter_map(|candidate| Some((score(candidate)?, *candidate)))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// What is said where nothing is near.
pub const NOT_KNOWN: &str = "not known here";

/// Keys of other tools, and what is written here.
const KEYS: &[(&[&str], &str)] = &[
    (
        &["ports", "publish", "expose"],
        "a device of `type: proxy` forwards a port",
    ),
    (
        &["volumes", "mounts", "binds", "volumeMounts"],
        "a device of `type: disk` mounts a volume or a folder of the host",
    ),
    (
        &["networks", "nics", "interfaces"],
        "a device of `type: nic` joins a network",
    ),
    (
        &["restart", "restartPolicy"],
        "write `boot: { autorestart: true }`",
    ),
    (&["namespace"], "did you mean `project`?"),
    (
        &["replicas", "scale"],
        "`forEach: { count: 3 }` beside `spec` makes three objects of one document",
    ),
    (&["resources", "constraints"], "did you mean `limits`?"),
    (&["hostname"], "the host name of an instance is its name"),
    (&["entrypoint", "cmd", "args"], "did you mean `command`?"),
    (&["ulimits", "rlimits"], "write `limits: { kernel: { … } }`"),
    (
        &["subnet", "cidr"],
        "write `ipv4: { address: 10.20.0.1/24 }`",
    ),
    (&["mac", "macAddress"], "did you mean `hwaddr`?"),
    (&["bridge"], "did you mean `network`?"),
    (&["path", "dir", "folder"], "did you mean `source`?"),
    (&["ip", "ipAddress"], "did you mean `ipv4`?"),
    (&["readOnly", "ro"], "did you mean `readonly`?"),
];

/// What was meant by a key that is not known here; `known` are.
pub fn key(word: &str, known: &[&str]) -> String {
    // `limits.memory`, as the options of Incus are called.
    if let Some((first, rest)) = word.split_once('.')
        && known.contains(&first)
    {
        return format!("write `{}`", nested(first, rest.split('.')));
    }
    let fits = |hint: &str| match hint.split('`').nth(1) {
        Some(meant) if hint.starts_with("did you") => known.contains(&meant),
        _ => true,
    };
    let of_other_tools = KEYS
        .iter()
        .find(|(words, hint)| words.contains(&word) && fits(hint));
    match (of_other_tools, nearest(word, known)) {
        (Some((_, hint)), _) => (*hint).to_owned(),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => NOT_KNOWN.to_owned(),
    }
}

/// Where a key of this name stands in documents of a kind, as what is to be written: a key that is in the wrong place.
/// `map` is the map that has it.
pub fn elsewhere(kind: Kind, word: &str, map: &Pointer) -> Option<String> {
    let place = explain::place_of(kind, word)?;
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    let here: Vec<String> = map.steps().collect();
    if here.len() < place.len() && here.iter().zip(&place).all(|(here, there)| here == there) {
        let (first, rest) = place[here.len()..].split_first()?;
        return Some(format!("write `{}`", nested(first, rest.iter().copied())));
    }
    Some(format!(
        "it belongs in `{}`",
        place[..place.len() - 1].join(".")
    ))
}

/// `security: { privileged: … }`.
fn nested<'a>(first: &str, rest: impl Iterator<Item = &'a str>) -> String {
    let mut text = format!("{first}: ");
    let mut depth = 0;
    for step in rest {
        text.push_str(&format!("{{ {step}: "));
        depth += 1;
    }
    text.push('…');
    text.push_str(&" }".repeat(depth));
    text
}

/// Words of other tools in small letters, and the word for it here.
const WORDS: &[(&[&str], &str)] = &[
    (&["started", "start", "up", "active", "present"], "Running"),
    (&["down", "off", "absent"], "Stopped"),
    (&["paused", "suspended"], "Frozen"),
    (&["lxc", "docker", "ct", "oci"], "container"),
    (&["kvm", "qemu"], "virtual-machine"),
    (&["bind", "mount", "tmpfs", "volume"], "disk"),
    (
        &[
            "network",
            "bridge",
            "bridged",
            "veth",
            "ethernet",
            "interface",
        ],
        "nic",
    ),
    (&["port", "forward"], "proxy"),
    (&["keep", "retain"], "orphan"),
    (&["remove", "destroy"], "delete"),
];

/// What was meant by a word that is not possible; `known` are.
pub fn word(word: &str, known: &[&str]) -> String {
    let lower = word.to_lowercase();
    let of_other_tools = WORDS
        .iter()
        .filter(|(words, _)| words.contains(&lower.as_str()))
        .map(|(_, here)| *here)
        .chain(truth(word))
        .find(|here| known.contains(here));
    match of_other_tools.or_else(|| nearest(word, known)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => NOT_KNOWN.to_owned(),
    }
}

/// Words for yes and no.
fn truth(word: &str) -> Option<&'static str> {
    match word.to_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "always" | "enabled" | "on-failure" | "unless-stopped" => {
            Some("true")
        }
        "false" | "no" | "off" | "n" | "never" | "disabled" => Some("false"),
        _ => None,
    }
}

/// What was meant by a value of the wrong type at `at`: `found` and `expected` are in the words of the finding.
pub fn r#type(found: &str, expected: &str, at: &Pointer) -> Option<String> {
    let steps: Vec<String> = at.steps().collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let text = found
        .strip_prefix("the text `")
        .and_then(|rest| rest.strip_suffix('`'));
    let number = found.strip_prefix("the number ");
    match (expected, text) {
        (list, Some(text)) if list.starts_with("a list") => {
            let words = match steps.last() {
                Some(&("command" | "exec")) => words_of(text),
                _ => vec![text.to_owned()],
            };
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            return Some(format!("write `[{}]`", words.join(", ")));
        }
        ("a map", Some(text)) => {
            let field = match steps.as_slice() {
                [.., "ipv4" | "ipv6"] => "address",
                [.., "files", _] => "content",
                [.., "source"] => return source(text),
                _ => return None,
            };
            return Some(format!("write `{{ {field}: {} }}`", quoted(text)));
        }
        ("true or false", Some(text)) => {
            let truth = truth(text)?;
            let quotes = if truth == text {
                ", without quotes"
            } else {
                ""
            };
            return Some(format!("did you mean `{truth}`{quotes}?"));
        }
        ("a map", None) if steps.last() == Some(&"dhcp") => {
            return matches!(found, "`true`" | "`false`")
                .then(|| format!("write `{{ enabled: {} }}`", found.trim_matches('`')));
        }
        ("a map", None) if found == "a list" && steps.last() == Some(&"devices") => {
            return Some("write the name as a key: `eth0: { type: nic, … }`".to_owned());
        }
        ("a map", None) if found == "a list" => {
            return Some("write lines `name: value`, without `-`".to_owned());
        }
        _ => {}
    }
    match steps.as_slice() {
        ["spec", "limits", "cpu"] if found == "a list" => {
            Some("write the set as one text: `\"0-3,5\"`".to_owned())
        }
        ["spec", "limits", "cpu"] => {
            let share: f64 = number?.parse().ok()?;
            (share > 0.0).then(|| cpu_share(share * 1000.0))
        }
        ["spec", "limits", ..]
            if matches!(text, Some("unlimited" | "max" | "infinity" | "none")) =>
        {
            Some("leave it out: what is not limited has no line".to_owned())
        }
        _ => None,
    }
}

/// Where an image comes from, from the one word that other tools have for it.
fn source(text: &str) -> Option<String> {
    if text.contains("://") {
        return Some(format!("write `{{ url: {text}, sha256: … }}`"));
    }
    if text.starts_with(['/', '.']) {
        return Some(format!("write `{{ file: {text} }}`"));
    }
    let (server, alias) = text.split_once(':')?;
    Some(format!(
        "write `{{ alias: {}, server: {server} }}`",
        quoted(alias)
    ))
}

/// What is written for so many thousandths of a processor.
pub fn cpu_share(thousandths: f64) -> String {
    format!(
        "a part of a processor is a quota: `cpuAllowance: {}ms/100ms`",
        (thousandths / 10.0).round().max(1.0)
    )
}

/// The words of a command line, as a shell takes them apart.
fn words_of(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t' | '\n') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// A text as it stands in a list or map of YAML.
fn quoted(text: &str) -> String {
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_./+@=".contains(&b))
        && text
            .bytes()
            .any(|b| b.is_ascii_alphabetic() || b == b'/' || b == b'.')
        && truth(text).is_none()
        && !text.starts_with('@');
    if plain || (text.starts_with('-') && text.len() > 1 && !text.contains(' ')) {
        text.to_owned()
    } else {
        serde_json::to_string(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_other_tools_and_of_other_places_are_understood() {
        let spec = ["environment", "limits", "security", "command", "state"];
        let cases = [
            ("enviroment", "did you mean `environment`?"),
            ("ports", "a device of `type: proxy` forwards a port"),
            ("args", "did you mean `command`?"),
            ("limits.memory", "write `limits: { memory: … }`"),
            ("nonsense", NOT_KNOWN),
        ];
        for (word, hint) in cases {
            assert_eq!(key(word, &spec), hint, "{word}");
        }
        // Where there is no `command`, nobody means it.
        assert_eq!(key("args", &["cpu"]), NOT_KNOWN);
        let cases = [
            ("privileged", "/spec", "write `security: { privileged: … }`"),
            ("nofile", "/spec/limits", "write `kernel: { nofile: … }`"),
            ("limits", "", "write `spec: { limits: … }`"),
            ("labels", "/spec", "it belongs in `metadata`"),
        ];
        for (word, map, hint) in cases {
            let found = elsewhere(Kind::Instance, word, &Pointer::new(map));
            assert_eq!(found.as_deref(), Some(hint), "{word}");
        }
        assert_eq!(
            elsewhere(Kind::Instance, "nonsense", &Pointer::root()),
            None
        );
    }

    #[test]
    fn words_of_other_tools_are_understood() {
        // That of `lifecycle.ignore` is in the elements of a list.
        assert_eq!(
            elsewhere(Kind::StoragePool, "path", &Pointer::new("/spec")),
            None
        );
        assert_eq!(key("path", &["driver", "source"]), "did you mean `source`?");
        let devices = ["disk", "nic", "proxy"];
        assert_eq!(word("tmpfs", &devices), "did you mean `disk`?");
        assert_eq!(word("Bridge", &devices), "did you mean `nic`?");
        assert_eq!(word("tmpfs", &["Running"]), NOT_KNOWN);
    }

    #[test]
    fn values_of_the_wrong_type_are_understood() {
        let cases = [
            (
                "the text `/bin/sh -c \"sleep 1\"`",
                "a list",
                "/spec/command",
                "write `[/bin/sh, -c, \"sleep 1\"]`",
            ),
            (
                "the text `web`",
                "a list",
                "/spec/profiles",
                "write `[web]`",
            ),
            (
                "the text `10.0.0.1/24`",
                "a map",
                "/spec/ipv4",
                "write `{ address: 10.0.0.1/24 }`",
            ),
            (
                "the text `never`",
                "true or false",
                "/spec/boot/autorestart",
                "did you mean `false`?",
            ),
            (
                "the text `images:debian/12`",
                "a map",
                "/spec/source",
                "write `{ alias: debian/12, server: images }`",
            ),
            (
                "`false`",
                "a map",
                "/spec/ipv4/dhcp",
                "write `{ enabled: false }`",
            ),
            (
                "the text `instance/db`",
                "a list of names such as `[Instance/db-1]`",
                "/dependsOn",
                "write `[instance/db]`",
            ),
            (
                "the text `true`",
                "true or false",
                "/spec/ephemeral",
                "did you mean `true`, without quotes?",
            ),
            (
                "the number 1.5",
                "a number of processors",
                "/spec/limits/cpu",
                "a part of a processor is a quota: `cpuAllowance: 150ms/100ms`",
            ),
        ];
        for (found, expected, at, hint) in cases {
            let said = r#type(found, expected, &Pointer::new(at));
            assert_eq!(said.as_deref(), Some(hint), "{found}");
        }
        assert_eq!(
            r#type("the text `x`", "a map", &Pointer::new("/spec/oci")),
            None
        );
    }
}
