//! [`IdMapEntry`]: a line of `security.idmap.extra`, as in Incus' `raw.idmap`: `both 1000 1000`.

use std::fmt;
use std::str::FromStr;

use super::BadScalar;

/// Which ids a line concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMapKind {
    /// Users.
    Uid,
    /// Groups.
    Gid,
    /// Users and groups.
    Both,
}

/// Host ids that an instance sees under ids of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMapEntry {
    /// Users, groups or both.
    pub kind: IdMapKind,
    /// The first id on the host.
    pub host: u32,
    /// The first id in the instance.
    pub instance: u32,
    /// How many ids.
    pub count: u32,
}

impl FromStr for IdMapEntry {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let wrong = || {
            BadScalar::new(format!(
                "`{text}` is no id mapping: write `both 1000 1000`, `uid HOST INSTANCE` or `gid 50-60 500-510`"
            ))
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [kind, host, instance] = words.as_slice() else {
            return Err(wrong());
        };
        let kind = match *kind {
            "uid" => IdMapKind::Uid,
            "gid" => IdMapKind::Gid,
            "both" => IdMapKind::Both,
            _ => return Err(wrong()),
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
            Some((first, last.checked_sub(first)?.checked_add(1)?))
        };
        match (range(host), range(instance)) {
            (Some((host, count)), Some((instance, same))) if count == same => Ok(Self {
                kind,
                host,
                instance,
                count,
            }),
            (Some(_), Some(_)) => Err(BadScalar::new(format!(
                "`{text}`: the two ranges differ in length"
            ))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for IdMapEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            IdMapKind::Uid => "uid",
            IdMapKind::Gid => "gid",
            IdMapKind::Both => "both",
        };
        let range = |first: u32| match self.count {
            1 => first.to_string(),
            count => format!("{first}-{}", u64::from(first) + u64::from(count) - 1),
        };
        write!(
            formatter,
            "{word} {} {}",
            range(self.host),
            range(self.instance)
        )
    }
}

crate::text_scalar!(IdMapEntry, "an id mapping such as `both 1000 1000`", {
    "type": "string",
    "pattern": "^\\s*(uid|gid|both)\\s+[0-9]+(-[0-9]+)?\\s+[0-9]+(-[0-9]+)?\\s*$",
    "examples": ["both 1000 1000"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_raw_idmap() {
        for text in ["both 1000 1000", "uid 50-60 500-510", "gid 0 0"] {
            assert_eq!(text.parse::<IdMapEntry>().expect(text).to_string(), text);
        }
        for wrong in [
            "",
            "both 1000",
            "all 1 1",
            "uid 5-1 5-1",
            "uid 1-2 1-3",
            "uid 0-4294967295 0-4294967295",
        ] {
            assert!(wrong.parse::<IdMapEntry>().is_err(), "{wrong}");
        }
    }
}
