//! Which device nodes an instance may use: rules as LXC writes them, `c 10:237 rwm`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Every device of the host: no restriction beyond the node's owner and mode.
    All,
    /// What the rules allow together, nothing else.
    Rules(DeviceRules),
}

/// The kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    /// Character device.
    Character,
    /// Block device.
    Block,
}

/// Which devices a rule is about; `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumbers {
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
}

/// What is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Permissions {
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `m`: making the node.
    pub make: bool,
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Which devices.
    pub numbers: DeviceNumbers,
    /// What is allowed.
    pub permissions: Permissions,
}

/// Rules, one for each set of numbers: order and repetition mean nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceRules(BTreeMap<DeviceNumbers, Permissions>);

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a device rule such as \"c 10:237 rwm\"")]
pub struct NotADeviceRule(pub String);

/// What every container may use, the list of LXC and Incus: making any node (a container in a user namespace cannot
/// anyway), the harmless memory devices, terminals, FUSE and TUN.
const DEFAULT: [&str; 13] = [
    "b *:* m",
    "c *:* m",
    "c 136:* rwm",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 10:229 rwm",
    "c 10:200 rwm",
];

impl DeviceRules {
    /// What every container may use.
    pub fn defaults() -> Self {
        DEFAULT
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect()
    }

    /// One more rule; permissions of the same numbers add up.
    pub fn add(&mut self, rule: DeviceRule) {
        let permissions = self.0.entry(rule.numbers).or_default();
        *permissions = permissions.with(rule.permissions);
    }

    /// The rules, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = DeviceRule> + '_ {
        self.0.iter().map(|(numbers, permissions)| DeviceRule {
            numbers: *numbers,
            permissions: *permissions,
        })
    }

    /// Whether the rules allow this use of one device, as the kernel decides it: one rule must allow all of it.
    pub fn allow(&self, kind: DeviceKind, major: u32, minor: u32, wanted: Permissions) -> bool {
        self.0.iter().any(|(numbers, permissions)| {
            numbers.kind == kind
                && numbers.major.is_none_or(|number| number == major)
                && numbers.minor.is_none_or(|number| number == minor)
                && permissions.with(wanted) == *permissions
        })
    }
}

impl FromIterator<DeviceRule> for DeviceRules {
    fn from_iter<I: IntoIterator<Item = DeviceRule>>(rules: I) -> Self {
        let mut all = Self::default();
        rules.into_iter().for_each(|rule| all.add(rule));
        all
    }
}

/// One rule a line.
impl fmt::Display for DeviceRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{rule}")?;
        }
        Ok(())
    }
}

impl FromStr for DeviceRules {
    type Err = NotADeviceRule;

    fn from_str(text: &str) -> Result<Self, NotADeviceRule> {
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(str::parse)
            .collect()
    }
}

impl Permissions {
    fn with(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            write: self.write || other.write,
            make: self.make || other.make,
        }
    }

    /// What these have and others have not.
    pub(super) fn without(self, other: Self) -> Self {
        Self {
            read: self.read && !other.read,
            write: self.write && !other.write,
            make: self.make && !other.make,
        }
    }
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.numbers.kind {
            DeviceKind::Character => 'c',
            DeviceKind::Block => 'b',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        write!(
            f,
            "{kind} {}:{} ",
            number(self.numbers.major),
            number(self.numbers.minor)
        )?;
        for (allowed, letter) in [
            (self.permissions.read, "r"),
            (self.permissions.write, "w"),
            (self.permissions.make, "m"),
        ] {
            if allowed {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl FromStr for DeviceRule {
    type Err = NotADeviceRule;

    fn from_str(text: &str) -> Result<Self, NotADeviceRule> {
        let wrong = || NotADeviceRule(text.to_owned());
        let words: Vec<&str> = text.split_whitespace().collect();
        let [kind, numbers, letters] = words[..] else {
            return Err(wrong());
        };
        let kind = match kind {
            "c" => DeviceKind::Character,
            "b" => DeviceKind::Block,
            _ => return Err(wrong()),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
        // Twelve and twenty bits: include/linux/kdev_t.h.
        let number = |text: &str, bits: u32| match text {
            "*" => Ok(None),
            digits => digits
                .parse::<u32>()
                .ok()
                .filter(|number| *number < 1 << bits)
                .map(Some)
                .ok_or_else(wrong),
        };
        let numbers = DeviceNumbers {
            kind,
            major: number(major, 12)?,
            minor: number(minor, 20)?,
        };
        let mut permissions = Permissions::default();
        for letter in letters.chars() {
            match letter {
                'r' => permissions.read = true,
                'w' => permissions.write = true,
                'm' => permissions.make = true,
                _ => return Err(wrong()),
            }
        }
        Ok(Self {
            numbers,
            permissions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_shown() {
        for (text, shown) in [
            ("c 10:237 rwm", "c 10:237 rwm"),
            ("b  8:* mr", "b 8:* rm"),
            ("c *:* m", "c *:* m"),
        ] {
            assert_eq!(text.parse::<DeviceRule>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "c 10 rwm",
            "x 1:2 r",
            "c 4096:0 r",
            "c 1:2 rwx",
            "c 1:2",
            "c -1:2 r",
            "c 1:2 r w",
        ] {
            assert!(text.parse::<DeviceRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_defaults_are_all_there_and_add_up() {
        let mut rules = DeviceRules::defaults();
        assert_eq!(rules.iter().count(), DEFAULT.len());
        let read = Permissions {
            read: true,
            ..Permissions::default()
        };
        assert!(rules.allow(DeviceKind::Character, 1, 3, read));
        assert!(!rules.allow(DeviceKind::Block, 8, 0, read));
        rules.add("b 8:0 r".parse().unwrap());
        rules.add("b 8:0 w".parse().unwrap());
        assert!(rules.to_string().ends_with("b 8:0 rw"), "{rules}");
        assert_eq!(rules.to_string().parse(), Ok(rules));
    }
}
