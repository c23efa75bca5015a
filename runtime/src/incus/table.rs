//! Keys of the server and fields of ours, as tables: each line says which key a field is, how its value is spelled, and what
//! the server means where there is none. Both directions come from the same lines, so that what was written is read back.

use manifests::observed::Unseen;
use manifests::pointer::Pointer;
use manifests::scalar::cpu::CpuLimit;
use manifests::scalar::duration::Duration;
use manifests::scalar::expiry::Expiry;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::wire::Config;

/// How a value is spelled.
#[derive(Debug, Clone, Copy)]
pub(super) enum Codec {
    /// `true` and `false`; the server also has `1`, `yes` and `on`.
    Bool,
    /// As we spell it.
    Text,
    Number,
    /// A truth value, or a text.
    Switch,
    /// Whole seconds.
    Seconds,
    /// As dnsmasq has it: `1h`, `45m`, seconds.
    Lease,
    /// `30M`, `12H`, `7d`, `1m`: minutes are great, months small.
    Expiry,
    /// With commas in between.
    List,
    /// One a line.
    Lines,
    Autostart,
    Cpu,
    /// Octal digits.
    Mode,
    /// Ours and theirs.
    Words(&'static [(&'static str, &'static str)]),
}

/// What the server means where it has no such key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent {
    Null,
    Bool(bool),
    Number(i64),
    Text(&'static str),
    /// An empty list.
    Empty,
}

impl Absent {
    fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Number(number) => Value::from(number),
            Self::Text(text) => Value::from(text),
            Self::Empty => Value::Array(Vec::new()),
        }
    }
}

/// A field of ours (`limits/memory`), the server's key, how it is spelled, what its absence means.
pub(super) struct Row(
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) Codec,
    pub(super) Absent,
);

impl Codec {
    /// A value of ours as the server has it; none for nothing.
    pub(super) fn encode(self, value: &Value) -> Result<Option<String>, String> {
        let plain = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(on) => Ok(on.to_string()),
            other => Err(format!("{other} is no plain value")),
        };
        if value.is_null() {
            return Ok(None);
        }
        Ok(Some(match self {
            Self::Bool | Self::Text | Self::Number | Self::Switch | Self::Mode => plain(value)?,
            Self::Seconds => {
                let length: Duration = plain(value)?.parse().map_err(told)?;
                length.seconds().to_string()
            }
            Self::Lease => {
                let length: Expiry = plain(value)?.parse().map_err(told)?;
                match length.seconds() {
                    hours if hours % 3600 == 0 => format!("{}h", hours / 3600),
                    minutes if minutes % 60 == 0 => format!("{}m", minutes / 60),
                    seconds => seconds.to_string(),
                }
            }
            Self::Expiry => expiry(&plain(value)?)?,
            Self::List | Self::Lines => {
                let parts = value.as_array().ok_or("a list is wanted")?;
                let parts: Vec<String> = parts.iter().map(plain).collect::<Result<_, _>>()?;
                if parts.is_empty() {
                    return Ok(None);
                }
                parts.join(if matches!(self, Self::List) {
                    ","
                } else {
                    "\n"
                })
            }
            Self::Autostart => match value {
                Value::Bool(on) => on.to_string(),
                _ => return Ok(None),
            },
            Self::Cpu => CpuLimit::deserialize(value).map_err(told)?.to_string(),
            Self::Words(words) => {
                let ours = plain(value)?;
                let found = words.iter().find(|(word, _)| *word == ours);
                found.map_or(ours.clone(), |(_, theirs)| (*theirs).to_owned())
            }
        }))
    }

    /// A value of the server as we have it.
    pub(super) fn decode(self, text: &str) -> Result<Value, String> {
        Ok(match self {
            Self::Bool => Value::Bool(switch(text).ok_or("it is neither true nor false")?),
            Self::Text => Value::from(text),
            Self::Number => Value::from(text.trim().parse::<i64>().map_err(told)?),
            Self::Switch => switch(text).map_or_else(|| Value::from(text), Value::Bool),
            Self::Seconds => {
                let seconds: u64 = text.trim().parse().map_err(told)?;
                Value::from(format!("{seconds}s"))
            }
            Self::Lease => match (text.strip_suffix('m'), text.parse::<u64>()) {
                (Some(minutes), _) => Value::from(format!("{minutes}min")),
                (None, Ok(seconds)) => Value::from(format!("{seconds}s")),
                (None, Err(_)) => Value::from(text),
            },
            Self::Expiry => Value::from(our_expiry(text)?),
            Self::List => words(text.split(',')),
            Self::Lines => words(text.lines()),
            Self::Autostart => match switch(text) {
                Some(on) => Value::Bool(on),
                None => Value::from("lastState"),
            },
            Self::Cpu => cpu(text)?,
            Self::Mode => {
                let digits = text.trim_start_matches("0o");
                let mode = u32::from_str_radix(digits, 8).map_err(told)?;
                Value::from(format!("{mode:04o}"))
            }
            Self::Words(words) => {
                let found = words.iter().find(|(_, theirs)| *theirs == text);
                Value::from(found.map_or(text, |(ours, _)| *ours))
            }
        })
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The server's truth values, in any case.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" | "" => Some(false),
        _ => None,
    }
}

fn words<'a>(parts: impl Iterator<Item = &'a str>) -> Value {
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts.map(Value::from).collect()
}

fn cpu(text: &str) -> Result<Value, String> {
    if !text.contains('=') {
        let limit: CpuLimit = text.trim().parse().map_err(told)?;
        return serde_json::to_value(limit).map_err(told);
    }
    let mut topology = Map::new();
    for part in text.split(',') {
        let (key, count) = part.split_once('=').ok_or("it is no topology")?;
        let count: u32 = count.trim().parse().map_err(told)?;
        topology.insert(key.trim().to_owned(), Value::from(count));
    }
    Ok(Value::Object(topology))
}

fn expiry(ours: &str) -> Result<String, String> {
    let length: Expiry = ours.parse().map_err(told)?;
    let (months, seconds) = length.parts();
    let mut parts = Vec::new();
    if months > 0 {
        parts.push(format!("{months}m"));
    }
    match seconds {
        0 => {}
        days if days % 86_400 == 0 => parts.push(format!("{}d", days / 86_400)),
        hours if hours % 3600 == 0 => parts.push(format!("{}H", hours / 3600)),
        minutes if minutes % 60 == 0 => parts.push(format!("{}M", minutes / 60)),
        _ => {
            return Err(format!(
                "`{ours}` has seconds, and the server counts minutes"
            ));
        }
    }
    Ok(parts.join(" "))
}

fn our_expiry(text: &str) -> Result<String, String> {
    let mut ours = String::new();
    let mut number = String::new();
    for character in text.chars().filter(|character| !character.is_whitespace()) {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        let unit = match character {
            'S' => "s",
            'M' => "min",
            'H' => "h",
            'd' => "d",
            'w' => "w",
            'm' => "mo",
            'y' => "y",
            _ => return Err(format!("`{text}` is no length of time of the server's")),
        };
        ours.push_str(&std::mem::take(&mut number));
        ours.push_str(unit);
    }
    Ok(ours)
}

/// What fields of a spec are in the server's keys. What is as it is without a key has none.
pub(super) fn to_config(rows: &[Row], spec: &Value, out: &mut Config) -> Result<(), String> {
    for Row(path, key, codec, absent) in rows {
        let value = spec.pointer(&format!("/{path}")).unwrap_or(&Value::Null);
        let wrong = |why| format!("{}: {why}", path.replace('/', "."));
        let encoded = codec.encode(value).map_err(wrong)?;
        if encoded != codec.encode(&absent.value()).map_err(wrong)?
            && let Some(encoded) = encoded
        {
            out.insert((*key).to_owned(), encoded);
        }
    }
    Ok(())
}

/// What becomes of a field that has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyless {
    /// It is what the server means.
    Meant,
    /// It is left out: something else says it.
    LeftOut,
}

/// The fields that the server's keys are; what cannot be read is as if it were absent, and told.
pub(super) fn from_config(
    rows: &[Row],
    config: &Config,
    keyless: Keyless,
    at: &Pointer,
    out: &mut Value,
    unseen: &mut Vec<Unseen>,
) {
    for Row(path, key, codec, absent) in rows {
        let value = match config.get(*key).filter(|text| !text.is_empty()) {
            None if keyless == Keyless::LeftOut => continue,
            None => absent.value(),
            Some(text) => codec.decode(text).unwrap_or_else(|why| {
                let path = path.split('/').fold(at.clone(), |at, step| at.field(step));
                unseen.push(Unseen {
                    path,
                    why: format!("{key} is `{text}`: {why}"),
                });
                absent.value()
            }),
        };
        put(out, path, value);
    }
}

/// Puts a value at `limits/memory`.
pub(super) fn put(spec: &mut Value, path: &str, value: Value) {
    if value.is_null() {
        return;
    }
    let mut at = spec;
    for step in path.split('/') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[step];
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_read_back_as_they_were_written() {
        let words = Codec::Words(&[("forceStop", "force-stop")]);
        for (codec, ours, theirs) in [
            (Codec::Bool, json!(true), "true"),
            (Codec::Text, json!("1GiB"), "1GiB"),
            (Codec::Number, json!(7), "7"),
            (Codec::Switch, json!(false), "false"),
            (Codec::Switch, json!("512MiB"), "512MiB"),
            (Codec::Seconds, json!("90s"), "90"),
            (Codec::Lease, json!("12h"), "12h"),
            (Codec::Lease, json!("45min"), "45m"),
            (Codec::Expiry, json!("7d"), "7d"),
            (Codec::Expiry, json!("30min"), "30M"),
            (Codec::Expiry, json!("1mo"), "1m"),
            (Codec::List, json!(["a", "b"]), "a,b"),
            (Codec::Lines, json!(["both 1 1"]), "both 1 1"),
            (Codec::Autostart, json!(true), "true"),
            (Codec::Cpu, json!(2), "2"),
            (Codec::Cpu, json!("0-3"), "0-3"),
            (
                Codec::Cpu,
                json!({"sockets": 1, "cores": 2, "threads": 1}),
                "sockets=1,cores=2,threads=1",
            ),
            (Codec::Mode, json!("0660"), "0660"),
            (words, json!("forceStop"), "force-stop"),
            (words, json!("stop"), "stop"),
        ] {
            assert_eq!(
                codec.encode(&ours),
                Ok(Some(theirs.to_owned())),
                "{codec:?}"
            );
            assert_eq!(codec.decode(theirs), Ok(ours), "{codec:?} {theirs}");
        }
    }

    #[test]
    fn what_the_server_spells_otherwise_means_the_same() {
        for (codec, theirs, ours) in [
            (Codec::Bool, "Yes", json!(true)),
            (Codec::Mode, "660", json!("0660")),
            (Codec::List, " a , b ", json!(["a", "b"])),
            (Codec::Expiry, "1m 2d", json!("1mo2d")),
            (Codec::Autostart, "last-state", json!("lastState")),
        ] {
            assert_eq!(codec.decode(theirs), Ok(ours), "{theirs}");
        }
        assert_eq!(Codec::Cpu.decode("0,1,2,3"), Codec::Cpu.decode("0-3"));
    }

    #[test]
    fn what_is_as_without_a_key_has_none_and_what_is_not_understood_is_told() {
        let rows = [
            Row(
                "boot/priority",
                "boot.autostart.priority",
                Codec::Number,
                Absent::Number(0),
            ),
            Row("limits/memory", "limits.memory", Codec::Text, Absent::Null),
        ];
        let mut config = Config::new();
        let spec = json!({"boot": {"priority": 0}, "limits": {"memory": "1GiB"}});
        to_config(&rows, &spec, &mut config).expect("it can be said");
        assert_eq!(
            config,
            Config::from([("limits.memory".to_owned(), "1GiB".to_owned())])
        );
        config.insert("boot.autostart.priority".to_owned(), "high".to_owned());
        let (mut read, mut unseen) = (json!({}), Vec::new());
        from_config(
            &rows,
            &config,
            Keyless::Meant,
            &Pointer::new("/spec"),
            &mut read,
            &mut unseen,
        );
        assert_eq!(read, spec);
        assert_eq!(unseen[0].path.as_str(), "/spec/boot/priority");
        config.remove("boot.autostart.priority");
        let mut read = json!({});
        let at = Pointer::new("/spec");
        from_config(
            &rows,
            &config,
            Keyless::LeftOut,
            &at,
            &mut read,
            &mut unseen,
        );
        assert_eq!(read, json!({"limits": {"memory": "1GiB"}}));
    }
}
