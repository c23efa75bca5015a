//! What a running machine is: read from QEMU by its monitor.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::devices::{limits_of, nodes_of};
use super::plan::DiskLimits;
use super::qmp::{Answers, Inquiry, MOMENT, Qmp, QmpError, RunState, Status};

/// What a monitor says of its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSeen {
    /// How it is.
    pub state: RunState,
    /// Processors that are plugged in.
    pub processors: u32,
    /// Bytes of memory that are plugged in; absent: it was not asked, since the balloon says what the guest has of it.
    pub memory: Option<u64>,
    /// Bytes of it that the balloon leaves to the guest; absent: there is no balloon.
    pub balloon: Option<u64>,
    /// Devices that were asked for, with what they are: `disk-root` is a `scsi-hd`. One without a name has its path.
    pub devices: BTreeMap<String, String>,
    /// Nodes that drives are on.
    pub nodes: BTreeMap<String, NodeSeen>,
    /// Drives that are empty or open, by device.
    pub empty: Vec<String>,
    /// The limits of groups: of those that were asked for, and of those that drives are in.
    pub limits: BTreeMap<String, DiskLimits>,
    /// Whether somebody in the guest serves the agent's port.
    pub agent: bool,
}

/// A node of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// Bytes that the guest sees.
    pub size: u64,
    /// Whether nothing is written to it.
    pub read_only: bool,
    /// Whether the host's memory is passed by.
    pub direct: bool,
    /// Whether flushes are ignored.
    pub no_flush: bool,
}

/// Where devices are that were given no name.
const NAMELESS: &str = "/machine/peripheral-anon";

/// How the guest's processors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// They run, or the guest has put itself to sleep.
    Running,
    /// Somebody, or an error, has stopped them where they are.
    Paused,
    /// The guest has switched itself off, or has panicked; its process only waits to be let go.
    Off,
}

impl MachineSeen {
    /// How the guest's processors are.
    pub fn power(&self) -> Power {
        power(self.state)
    }
}

/// What a state of QEMU means.
pub const fn power(state: RunState) -> Power {
    match state {
        RunState::Running | RunState::Suspended => Power::Running,
        RunState::Shutdown | RunState::GuestPanicked => Power::Off,
        _ => Power::Paused,
    }
}

/// What is known of a machine before its monitor is asked. QEMU 7.2 takes a quarter of a millisecond for each question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The groups of limits that the machine should have.
    pub groups: Vec<String>,
    /// How it is, where its companion was told.
    pub state: Option<RunState>,
    /// Bytes of memory that it was begun with, where the balloon has never taken any.
    pub memory: Option<u64>,
    /// How many processors it has, where the kernel tells.
    pub processors: Option<u32>,
    /// Whether somebody in the guest serves the agent's port, where its companion was told.
    pub agent: Option<bool>,
}

/// A machine that was asked what it is, and not listened to yet.
#[derive(Debug)]
pub struct Asked {
    inquiry: Inquiry,
    known: Known,
}

impl Asked {
    /// Asks a monitor that nobody talks with what is not `known`; `patience` is for all of the answers.
    ///
    /// # Errors
    /// There is no monitor.
    pub fn ask(path: &Path, known: Known, patience: Duration) -> Result<Self, QmpError> {
        let inquiry = Inquiry::ask(path, &questions(&known), patience, MOMENT)?;
        Ok(Self { inquiry, known })
    }

    /// Whether it has begun to speak, or does within a moment of when it was asked: somebody else may be connected to it.
    pub fn speaks(&self) -> bool {
        self.inquiry.speaks()
    }

    /// What it says, and the connection, which QEMU has work to let go of.
    ///
    /// # Errors
    /// QEMU does not answer, or not as QEMU does.
    pub fn seen(self) -> Result<(MachineSeen, Qmp), QmpError> {
        let (mut qmp, answers) = self.inquiry.answers()?;
        let seen = understood(&mut qmp, answers, &self.known, Memory::WithoutBalloon)?;
        Ok((seen, qmp))
    }
}

/// Asks a monitor all of it, also what memory is plugged in.
///
/// # Errors
/// QEMU does not answer, or not as QEMU does.
pub fn look(qmp: &mut Qmp) -> Result<MachineSeen, QmpError> {
    let known = Known::default();
    let answers = qmp.execute_each(&questions(&known))?;
    understood(qmp, answers, &known, Memory::Always)
}

/// As [`look`], but what is only of use to who changes it is left out, and what is `known`.
///
/// # Errors
/// As [`look`].
pub fn glance(qmp: &mut Qmp, known: &Known) -> Result<MachineSeen, QmpError> {
    let answers = qmp.execute_each(&questions(known))?;
    understood(qmp, answers, known, Memory::WithoutBalloon)
}

/// When it is asked what memory is plugged in: QEMU walks through all that it is made of for that, as for the balloon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Always,
    WithoutBalloon,
}

type Question = (&'static str, Value);

/// What every monitor is asked at first, in few words.
fn questions(known: &Known) -> Vec<Question> {
    let plain = |command| (command, Value::Null);
    let mut asked = vec![
        // Also what of each drive the node is that it is on.
        plain("query-block"),
        ("qom-list", json!({ "path": "/machine/peripheral" })),
        ("qom-list", json!({ "path": NAMELESS })),
    ];
    if known.state.is_none() {
        asked.push(plain("query-status"));
    }
    if known.memory.is_none() {
        asked.push(plain("query-balloon"));
    }
    if known.processors.is_none() {
        asked.push(plain("query-cpus-fast"));
    }
    if known.agent.is_none() {
        asked.push(plain("query-chardev"));
    }
    asked.extend(known.groups.iter().map(limits_question));
    asked
}

fn limits_question(group: &String) -> Question {
    let path = format!("/objects/{group}");
    ("qom-get", json!({ "path": path, "property": "limits" }))
}

/// What the answers to the [`questions`] mean; asks the rest where there is some.
fn understood(
    qmp: &mut Qmp,
    answers: Answers,
    known: &Known,
    memory: Memory,
) -> Result<MachineSeen, QmpError> {
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or(Ok(Value::Null));
    let blocks = next()?;
    let mut devices = children(&next()?);
    let nameless = children(&next()?).into_iter();
    devices.extend(nameless.map(|(name, kind)| (format!("{NAMELESS}/{name}"), kind)));
    let state = match known.state {
        Some(state) => state,
        None => understood_status(next()?)?,
    };
    let has = |is: fn(&str) -> bool| devices.values().any(|kind| is(kind));
    // Also what is plugged in belongs to the guest.
    let known_memory = known.memory.filter(|_| !has(is_memory));
    let mut balloon = match known.memory {
        Some(_) => known_memory.filter(|_| has(is_balloon)),
        // Refused where a guest has no balloon.
        None => next().ok().as_ref().and_then(actual),
    };
    let processors = match known.processors {
        Some(processors) => processors,
        None => u32::try_from(list(&next()?).count()).unwrap_or(u32::MAX),
    };
    let agent = match known.agent {
        Some(agent) => agent,
        None => serves_agent(&next()?),
    };
    let mut limits = limits_among(&known.groups, answers);
    // Those of disks that no manifest has any more.
    let others: Vec<String> = list(&blocks)
        .map(|block| &block["inserted"])
        .filter(|node| node["drv"] == "throttle")
        .filter_map(|node| Some(nodes_of(node["node-name"].as_str()?.to_owned()).group))
        .filter(|group| !known.groups.contains(group))
        .collect();
    let mut more: Vec<Question> = others.iter().map(limits_question).collect();
    let asks_balloon = known.memory.is_some() && known_memory.is_none() && has(is_balloon);
    if asks_balloon {
        more.push(("query-balloon", Value::Null));
    }
    let is_told = balloon.is_some() || known_memory.is_some() || asks_balloon;
    let asks_memory = memory == Memory::Always || !is_told;
    if asks_memory {
        more.push(("query-memory-size-summary", Value::Null));
    }
    let mut answers = qmp.execute_each(&more)?;
    let memory = match asks_memory.then(|| answers.pop()).flatten() {
        None => known_memory,
        Some(summary) => {
            let summary = summary?;
            let of = |part: &str| summary[part].as_u64().unwrap_or(0);
            Some(of("base-memory") + of("plugged-memory"))
        }
    };
    if asks_balloon {
        let answer = answers.pop().and_then(Result::ok);
        balloon = answer.as_ref().and_then(actual);
    }
    limits.extend(limits_among(&others, answers.into_iter()));
    Ok(MachineSeen {
        state,
        processors,
        memory,
        balloon,
        devices,
        nodes: list(&blocks).filter_map(seen_node).collect(),
        empty: list(&blocks).filter_map(empty_drive).collect(),
        limits,
        agent,
    })
}

fn understood_status(answer: Value) -> Result<RunState, QmpError> {
    serde_json::from_value::<Status>(answer)
        .map(|status| status.state)
        .map_err(|source| QmpError::Unexpected {
            command: "query-status".to_owned(),
            source,
        })
}

/// What the balloon leaves to the guest.
fn actual(balloon: &Value) -> Option<u64> {
    balloon["actual"].as_u64()
}

fn is_balloon(kind: &str) -> bool {
    kind.starts_with("virtio-balloon")
}

/// Whether a device is memory that was plugged in.
fn is_memory(kind: &str) -> bool {
    kind.ends_with("dimm") || kind.starts_with("virtio-mem") || kind.starts_with("virtio-pmem")
}

/// One that is not ours may have a group of another name, and one that should be there may not: refused.
fn limits_among(
    groups: &[String],
    answers: impl Iterator<Item = Result<Value, QmpError>>,
) -> BTreeMap<String, DiskLimits> {
    let told = groups.iter().zip(answers);
    told.filter_map(|(group, found)| Some((group.clone(), limits_of(&found.ok()?))))
        .collect()
}

fn serves_agent(chardevs: &Value) -> bool {
    list(chardevs)
        .any(|one| one["label"] == "agent" && one["frontend-open"].as_bool().unwrap_or(false))
}

/// Whether somebody in the guest serves the agent's port.
///
/// # Errors
/// QEMU does not answer.
pub fn has_agent(qmp: &mut Qmp) -> Result<bool, QmpError> {
    let chardevs = qmp.execute("query-chardev", Value::Null)?;
    Ok(serves_agent(&chardevs))
}

/// The children of an object, with their types: `child<scsi-hd>` is one, `string` is none.
fn children(list_of: &Value) -> BTreeMap<String, String> {
    let child = |one: &Value| {
        let kind = one["type"].as_str()?;
        let kind = kind.strip_prefix("child<")?.strip_suffix('>')?;
        Some((one["name"].as_str()?.to_owned(), kind.to_owned()))
    };
    list(list_of).filter_map(child).collect()
}

fn list(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.as_array().into_iter().flatten()
}

/// The node that a drive is on, with its name.
fn seen_node(block: &Value) -> Option<(String, NodeSeen)> {
    let node = &block["inserted"];
    let seen = NodeSeen {
        size: node["image"]["virtual-size"].as_u64().unwrap_or(0),
        read_only: node["ro"].as_bool().unwrap_or(false),
        direct: node["cache"]["direct"].as_bool().unwrap_or(false),
        no_flush: node["cache"]["no-flush"].as_bool().unwrap_or(false),
    };
    Some((node["node-name"].as_str()?.to_owned(), seen))
}

/// The device of a drive with nothing in it, or whose tray is open.
fn empty_drive(block: &Value) -> Option<String> {
    let open = block["tray_open"].as_bool().unwrap_or(false);
    let is_empty = block.get("inserted").is_none_or(Value::is_null);
    let path = block["qdev"].as_str()?;
    // `/machine/peripheral/ID`, with `/virtio-backend` behind it for some; or the id alone.
    let id = match path.strip_prefix("/machine/peripheral/") {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None => path,
    };
    (open || is_empty).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_one_of_three() {
        for (state, wanted) in [
            (RunState::Running, Power::Running),
            (RunState::Suspended, Power::Running),
            (RunState::Paused, Power::Paused),
            (RunState::PreLaunch, Power::Paused),
            (RunState::IoError, Power::Paused),
            (RunState::Shutdown, Power::Off),
            (RunState::GuestPanicked, Power::Off),
        ] {
            assert_eq!(power(state), wanted, "{state:?}");
        }
    }

    /// What is understood of the answers to the first questions, where `more` is said to those that follow.
    fn told(known: &Known, answers: [Value; 9], more: &'static str) -> (MachineSeen, String) {
        use std::io::{Read as _, Write as _};
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let greeting = "{\"QMP\": {}}\n{\"return\": {}, \"id\": 1}\n";
        theirs.write_all(greeting.as_bytes()).unwrap();
        theirs.write_all(more.as_bytes()).unwrap();
        let mut qmp = Qmp::over(ours.into(), Duration::from_secs(10)).unwrap();
        let answers = answers.map(|answer| match answer.is_null() {
            true => Err(QmpError::Closed),
            false => Ok(answer),
        });
        let answers = answers.into_iter().take(questions(known).len()).collect();
        let seen = understood(&mut qmp, answers, known, Memory::WithoutBalloon).unwrap();
        drop(qmp);
        let mut sent = String::new();
        theirs.read_to_string(&mut sent).unwrap();
        (seen, sent.lines().skip(1).collect())
    }

    fn known(groups: &[&str]) -> Known {
        Known {
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Known::default()
        }
    }

    /// A machine with a disk of git's and one that somebody plugged in.
    fn answers(balloon: Value) -> [Value; 9] {
        let drive = |id: &str| {
            json!({"qdev": id, "inserted": {"node-name": id, "drv": "throttle", "ro": false,
                "cache": {"direct": true, "no-flush": false}, "image": {"virtual-size": 4096}}})
        };
        [
            json!([drive("disk-root"), drive("disk-other"), {"qdev": "cd", "tray_open": true}]),
            json!([{"name": "type", "type": "string"}, {"name": "disk-root", "type": "child<scsi-hd>"}]),
            json!([{"name": "device[0]", "type": "child<usb-tablet>"}]),
            json!({"status": "running", "running": true}),
            balloon,
            json!([{}, {}]),
            json!([{"label": "agent", "frontend-open": true}]),
            json!({"bps-total": 7, "iops-read": 0}),
            Value::Null,
        ]
    }

    #[test]
    fn what_is_not_as_expected_is_asked_after() {
        let more = "{\"return\": {\"iops-total\": 9}, \"id\": 2}\n";
        let with_balloon = answers(json!({"actual": 64}));
        let one_is_gone = known(&["disk-root.l", "disk-gone.l"]);
        let (seen, sent) = told(&one_is_gone, with_balloon.clone(), more);
        assert!(
            sent.contains("/objects/disk-other.l") && !sent.contains("memory"),
            "{sent}"
        );
        assert_eq!((seen.memory, seen.balloon), (None, Some(64)));
        assert_eq!((seen.processors, seen.agent), (2, true));
        assert_eq!(seen.nodes["disk-other"].size, 4096);
        assert_eq!(seen.empty, ["cd"]);
        let names: Vec<_> = seen.devices.keys().collect();
        assert_eq!(names, ["/machine/peripheral-anon/device[0]", "disk-root"]);
        let limit = |group: &str| {
            seen.limits
                .get(group)
                .map(|limits| (limits.bytes, limits.operations))
        };
        assert_eq!(limit("disk-root.l"), Some((Some(7), None)));
        assert_eq!(limit("disk-other.l"), Some((None, Some(9))));
        // One that should be there is not.
        assert_eq!(limit("disk-gone.l"), None);
        // Without a balloon the memory is what is plugged in.
        let more = "{\"return\": {\"iops-total\": 9}, \"id\": 2}\n\
                    {\"return\": {\"base-memory\": 128, \"plugged-memory\": 32}, \"id\": 3}\n";
        let (seen, _) = told(&one_is_gone, answers(Value::Null), more);
        assert_eq!((seen.memory, seen.balloon), (Some(160), None));
        // Where all is as expected nothing more is said.
        let as_expected = known(&["disk-root.l", "disk-other.l"]);
        let (_, sent) = told(&as_expected, with_balloon.clone(), "");
        assert_eq!(sent, "");
        // What is known is not asked, and not looked for in the answers.
        let known = Known {
            processors: Some(7),
            agent: Some(false),
            state: Some(RunState::Paused),
            ..as_expected
        };
        assert_eq!(questions(&known).len(), 6);
        let [blocks, named, nameless, _, balloon, _, _, limits, _] = with_balloon;
        let shorter = padded([blocks, named, nameless, balloon, limits]);
        let (seen, _) = told(&known, shorter, "");
        assert_eq!((seen.processors, seen.agent), (7, false));
        assert_eq!((seen.state, seen.balloon), (RunState::Paused, Some(64)));
        assert_eq!(seen.limits["disk-root.l"].bytes, Some(7));
    }

    fn padded<const N: usize>(answers: [Value; N]) -> [Value; 9] {
        let mut all = answers.into_iter();
        std::array::from_fn(|_| all.next().unwrap_or(Value::Null))
    }

    #[test]
    fn memory_that_is_known_is_asked_after_only_where_some_was_plugged_in() {
        let known = Known {
            processors: Some(1),
            agent: Some(false),
            state: Some(RunState::Running),
            memory: Some(256),
            ..Known::default()
        };
        let with = |kinds: &[&str], more| {
            let devices = kinds
                .iter()
                .map(|kind| json!({"name": kind, "type": format!("child<{kind}>")}));
            let devices = Value::Array(devices.collect());
            let (seen, sent) = told(&known, padded([json!([]), devices, json!([])]), more);
            (seen.balloon, seen.memory, sent)
        };
        let none = String::new();
        assert_eq!(
            with(&["virtio-balloon-pci"], ""),
            (Some(256), Some(256), none.clone())
        );
        assert_eq!(with(&[], ""), (None, Some(256), none));
        let more = "{\"return\": {\"actual\": 320}, \"id\": 2}\n";
        let (balloon, memory, sent) = with(&["virtio-balloon-pci", "pc-dimm"], more);
        assert_eq!((balloon, memory), (Some(320), None));
        assert!(sent.contains("query-balloon"), "{sent}");
    }

    #[test]
    fn a_drive_is_empty_when_nothing_is_in_it_or_its_tray_is_open() {
        let one = |block: Value| empty_drive(&block);
        let full = json!({"qdev": "disk-root", "inserted": {"ro": false}});
        assert_eq!(one(full), None);
        let open = json!({"qdev": "disk-cd", "tray_open": true, "inserted": {}});
        assert_eq!(one(open), Some("disk-cd".to_owned()));
        let gone = json!({"qdev": "/machine/peripheral/disk-a/virtio-backend"});
        assert_eq!(one(gone), Some("disk-a".to_owned()));
    }
}
