//! What each code means, how to mend it, and an example: the texts of `keel explain CODE`. Guards explain themselves where
//! they are.
//!
//! To add one: a line here, and a case in `tests/rejects` that shows it. A test sees that every code of this crate is in
//! the list.

use crate::diagnostic::Code;
use crate::rules::{
    cycle_free, one_meaning, quota_fits, requirements, restrictions, unique_addresses,
};
use crate::{decode, parse, resolve, substitute, support};

/// One code.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// What it is called.
    pub title: &'static str,
    /// What it means and how to mend it.
    pub explanation: &'static str,
    /// What is wrong, and the same mended; YAML.
    pub example: (&'static str, &'static str),
}

/// All codes of manifests, by code.
pub const ALL: &[Entry] = &[
    Entry {
        code: parse::SYNTAX,
        title: "no YAML",
        explanation: "The text cannot be read as YAML 1.2: a bracket or quote is not closed, a line is indented by a tab, \
                      two values stand where one belongs, or it nests deeper than 64 levels. Often the mistake is a \
                      little before the place that is named.",
        example: ("command: [sleep, infinity", "command: [sleep, infinity]"),
    },
    Entry {
        code: parse::DUPLICATE_KEY,
        title: "a key that is written twice",
        explanation: "A map has each key once. Of two values one would be dropped in silence, so neither is taken. Put \
                      what belongs together under one key.",
        example: (
            "limits: { cpu: 1 }\nlimits: { memory: 1GiB }",
            "limits: { cpu: 1, memory: 1GiB }",
        ),
    },
    Entry {
        code: parse::NOT_IN_THE_LANGUAGE,
        title: "YAML that manifests do not have",
        explanation: "Tags such as `!!python/object`, keys that are no texts, NUL characters, and aliases that blow a \
                      document up are not part of the language. Anchors and aliases themselves are.",
        example: ("name: !!str 12", "name: \"12\""),
    },
    Entry {
        code: decode::UNKNOWN_FIELD,
        title: "an unknown field",
        explanation: "The object has no field of this name. Fields are written in camelCase, and case counts. The nearest \
                      right word is named where there is one; `keel explain instance.spec` lists all.",
        example: ("limits: { memmory: 4GiB }", "limits: { memory: 4GiB }"),
    },
    Entry {
        code: decode::WRONG_TYPE,
        title: "a value of the wrong type",
        explanation: "A text stands where a number, a list or a map belongs, or the other way round. Quotes make a number a \
                      text; without them `no`, `yes`, `on` and `off` are texts, `true` and `false` are not.",
        example: ("profiles: web", "profiles: [web]"),
    },
    Entry {
        code: decode::UNKNOWN_WORD,
        title: "a word that is not possible here",
        explanation: "The field takes one of a few words, and this is none of them. All that are possible are named.",
        example: ("state: running", "state: Running"),
    },
    Entry {
        code: decode::BAD_VALUE,
        title: "a value that cannot be understood",
        explanation: "A size, a duration, an address, a schedule or a number is not written as the language has it. \
                      `512MiB` is 2^20 and `512MB` 10^6 bytes; `512Mi` is neither. In `expiry` a bare `m` is refused, \
                      since some read it as minutes and some as months.",
        example: ("memory: 512Mi", "memory: 512MiB"),
    },
    Entry {
        code: decode::MISSING_FIELD,
        title: "a field that must be written",
        explanation: "The field has no default that would make sense.",
        example: ("eth0: { type: nic }", "eth0: { type: nic, network: lan }"),
    },
    Entry {
        code: resolve::BAD_NAME,
        title: "a name that is not allowed",
        explanation: "Names become parts of paths, interfaces, host names and commands, so each kind has rules: those of \
                      Incus. Instances have names of hosts (letters, digits and `-`).",
        example: ("metadata: { name: web_1 }", "metadata: { name: web-1 }"),
    },
    Entry {
        code: resolve::TWICE,
        title: "an object that is declared twice",
        explanation: "Two documents have the same kind, project and name. Which of them should count cannot be told, so \
                      neither does. Rename one, or take one away.",
        example: (
            "kind: Network\nmetadata: { name: lan }\n---\nkind: Network\nmetadata: { name: lan }",
            "kind: Network\nmetadata: { name: lan }\n---\nkind: Network\nmetadata: { name: dmz }",
        ),
    },
    Entry {
        code: resolve::NO_ROOT,
        title: "no root disk, or two",
        explanation: "Every instance has one root disk: a device of type disk with `path: /` on a StoragePool. Where there \
                      is exactly one pool it may be left out.",
        example: (
            "devices: {}",
            "devices: { root: { type: disk, path: /, pool: fast } }",
        ),
    },
    Entry {
        code: resolve::BAD_PATCH,
        title: "a patch that cannot be made",
        explanation: "A patch of keel.yaml changes the documents that its target means: by kind, name (`*` stands for any \
                      characters) and labels. One that means no document is a mistake, and so is an operation on a \
                      value that is not there, a `test` that fails, and a change of kind or name.",
        example: (
            "patches: [{ target: { kind: Instance, name: wbe-* }, patch: { spec: { state: Running } } }]",
            "patches: [{ target: { kind: Instance, name: web-* }, patch: { spec: { state: Running } } }]",
        ),
    },
    Entry {
        code: resolve::BAD_EACH,
        title: "a `forEach` that cannot be understood",
        explanation: "`forEach` is a list of words, each of which makes one object, or a count of at most 10000. A value \
                      that cannot be understood would be an object that is deleted, so none is made.",
        example: (
            "forEach: web",
            "forEach: [web-1, web-2]   # or { count: 2 }",
        ),
    },
    Entry {
        code: substitute::UNDEFINED,
        title: "a variable that is not defined",
        explanation: "`${var.NAME}` is declared under `variables` of keel.yaml; `${each.value}` and `${each.index}` are \
                      known in a document with `forEach`. Every other `${…}` is literal text.",
        example: (
            "description: \"${var.enviroment}\"",
            "description: \"${var.environment}\"",
        ),
    },
    Entry {
        code: resolve::NESTED,
        title: "a source within a source",
        explanation: "A folder below one with a keel.yaml has a keel.yaml of its own. Each object has one source, so either \
                      the inner folder is named in .keelignore of the outer one, or its keel.yaml is taken away.",
        example: (
            "edge/keel.yaml\nedge/lab/keel.yaml",
            "edge/keel.yaml\nedge/.keelignore   # lab/",
        ),
    },
    Entry {
        code: resolve::BAD_BASE,
        title: "a base that cannot be taken",
        explanation: "A base is a folder of manifests, named relative to the keel.yaml that stands on it, in the same git \
                      repository and behind no symbolic link. Layers do not stand on each other in a circle, and two \
                      bases that give a variable different values need a layer over them that says which one counts.",
        example: (
            "# base/keel.yaml: bases: [../production]\n# production/keel.yaml: bases: [../base]",
            "# production/keel.yaml: bases: [../base]",
        ),
    },
    Entry {
        code: one_meaning::CONTRADICTION,
        title: "fields that exclude each other",
        explanation: "Two fields are written of which only one can count.",
        example: (
            "eth0: { type: nic, network: lan, parent: br0 }",
            "eth0: { type: nic, network: lan }",
        ),
    },
    Entry {
        code: resolve::NOT_TAKEN,
        title: "a file that cannot be taken in",
        explanation: "A text may be the content of a file of the same repository, named relative to the manifest. It is \
                      UTF-8, has at most 1 MiB, and lies inside of the source; symbolic links are not followed, and its \
                      name has no variables in it.",
        example: (
            "content: { file: /etc/motd }",
            "content: { file: ./files/motd }",
        ),
    },
    Entry {
        code: substitute::IN_A_KEY,
        title: "a variable in a key",
        explanation: "`${var.NAME}` and `${each.…}` stand in values. A key says what is meant, and would mean something else \
                      in each layer.",
        example: (
            "environment: { \"${var.name}_URL\": a }",
            "environment: { SHOP_URL: \"${var.url}\" }",
        ),
    },
    Entry {
        code: resolve::DANGLING,
        title: "a reference to nothing",
        explanation: "The object that is named is not declared in this source. A name is looked up in the project of the \
                      object that names it, if that project has the feature, else in project `default`. What somebody \
                      else owns is named under `external` of keel.yaml.",
        example: (
            "eth0: { type: nic, network: lna }",
            "eth0: { type: nic, network: lan }",
        ),
    },
    Entry {
        code: cycle_free::CYCLE,
        title: "objects that wait for each other",
        explanation: "References and `dependsOn` make a circle, so that none of them could be made first. Take one of the \
                      arrows away.",
        example: (
            "# a: dependsOn: [Instance/b]\n# b: dependsOn: [Instance/a]",
            "# a: dependsOn: [Instance/b]\n# b: no dependsOn",
        ),
    },
    Entry {
        code: unique_addresses::TAKEN,
        title: "something that two claim",
        explanation: "Two objects claim one address, hardware address, subnet, interface, path or port of the host, or two \
                      pools one folder, device, dataset or thin pool. The place where it was claimed first is shown as \
                      well.",
        example: (
            "# web-1: ipv4: 10.20.0.10\n# web-2: ipv4: 10.20.0.10",
            "# web-1: ipv4: 10.20.0.10\n# web-2: ipv4: 10.20.0.11",
        ),
    },
    Entry {
        code: unique_addresses::OUTSIDE,
        title: "an address outside of its network",
        explanation: "The address is not in the subnet of the network, or it is the network's own or its broadcast \
                      address, or an IPv6 address is fixed where guests choose theirs.",
        example: (
            "# network 10.20.0.1/24\neth0: { type: nic, network: lan, ipv4: 10.21.0.10 }",
            "# network 10.20.0.1/24\neth0: { type: nic, network: lan, ipv4: 10.20.0.10 }",
        ),
    },
    Entry {
        code: resolve::NOT_OF_PROJECT,
        title: "a project without objects of this kind",
        explanation: "`features` of a Project say what it has for itself. Without the feature its objects of that kind are \
                      those of project `default`.",
        example: (
            "kind: Network\nmetadata: { name: lan, project: shop }",
            "kind: Project\nmetadata: { name: shop }\nspec: { features: { networks: true } }",
        ),
    },
    Entry {
        code: quota_fits::OVER,
        title: "more than a project may have",
        explanation: "The objects of a project together ask for more than `limits` of the Project allow, or one of them \
                      does not say how much it may use of what is limited (a percentage cannot be summed).",
        example: (
            "# limits: { memory: 2GiB }, two instances of memory: 2GiB",
            "# limits: { memory: 4GiB }, two instances of memory: 2GiB",
        ),
    },
    Entry {
        code: restrictions::RESTRICTED,
        title: "something that the project does not allow",
        explanation: "`restrictions` of the Project are enabled, and the object asks for what they block.",
        example: (
            "security: { privileged: true }",
            "# restrictions: { enabled: true, privileged: allow }",
        ),
    },
    Entry {
        code: requirements::NOT_FOR_IT,
        title: "an image that is not for this instance",
        explanation: "The Image says what instances that start from it must be: privileged or not, allowed to nest, a \
                      container or a machine, of an architecture. Change the instance, or what the Image asks for.",
        example: (
            "# the Image: requirements: { nesting: true }\nimage: docker",
            "image: docker\nsecurity: { nesting: true }",
        ),
    },
    Entry {
        code: support::KIND,
        title: "a kind that the engine does not have yet",
        explanation: "The manifest is right, and this engine cannot make such objects. It is a warning of `validate` and an \
                      error of `plan` and `apply`, so that nothing is dropped in silence.",
        example: (
            "kind: NetworkForward",
            "# another engine, or a later version",
        ),
    },
    Entry {
        code: support::FIELD,
        title: "a field that the engine does not put in force yet",
        explanation: "The manifest is right, and this engine would not do what the field says. It is a warning of \
                      `validate` and an error of `plan` and `apply`. Take the field away, or use another engine.",
        example: ("driver: openvswitch", "driver: native"),
    },
    Entry {
        code: support::HOST,
        title: "a field that this host cannot put in force",
        explanation: "The engine can do it and this host does not grant what that needs: a controller, a kernel feature, a \
                      capability. `keel doctor` says what the host has. It is told where the host is known: in `plan` \
                      and `apply`.",
        example: (
            "limits: { hugepages: { 2MB: 64MiB } }",
            "# a host whose kernel has the hugetlb controller",
        ),
    },
];

/// The entry of a code, in any case.
pub fn find(code: &str) -> Option<&'static Entry> {
    ALL.iter()
        .find(|entry| entry.code.0.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_this_crate_has_a_text() {
        fn walk(folder: &std::path::Path, codes: &mut Vec<String>) {
            for path in crate::path_io::list(folder).expect("a folder") {
                if path.is_dir() {
                    walk(&path, codes);
                    continue;
                }
                let text = crate::path_io::read_to_string(&path).expect("a text");
                let declared = text.split("Code = Code(\"").skip(1);
                codes.extend(
                    declared
                        .filter_map(|rest| rest.split('"').next())
                        .map(str::to_owned),
                );
            }
        }
        let mut codes = Vec::new();
        walk(
            std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
            &mut codes,
        );
        assert!(codes.len() > 20, "{codes:?}");
        for code in &codes {
            assert!(find(code).is_some(), "{code} has no text");
        }
        assert_eq!(
            codes.len(),
            ALL.len(),
            "a code is declared twice: {codes:?}"
        );
        assert!(
            ALL.windows(2)
                .all(|pair| matches!(pair, [a, b] if order(a) < order(b)))
        );
    }

    fn order(entry: &Entry) -> (usize, &'static str) {
        let letters = ["E", "R", "U"];
        let letter = letters
            .iter()
            .position(|letter| entry.code.0.starts_with(letter));
        (letter.expect("a known letter"), entry.code.0)
    }
}
