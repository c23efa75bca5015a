//! What programs of LVM answer (`--reportformat json`). Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// A volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) tags: BTreeSet<String>,
    /// Bytes of which volumes are whole multiples.
    pub(super) extent: u64,
    /// All bytes that volumes can have.
    pub(super) size: u64,
    /// Bytes that no volume has.
    pub(super) free: u64,
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    /// Bytes.
    pub(super) size: u64,
    pub(super) tags: BTreeSet<String>,
    /// The thin pool that it lies in.
    pub(super) thin_pool: Option<String>,
    /// How much of it has data, in hundredths of a percent; `None`: it is not active, or is none of a thin pool.
    pub(super) data: Option<u64>,
    /// The same of the metadata of a thin pool.
    pub(super) metadata: Option<u64>,
}

impl Volume {
    /// Bytes that have data.
    pub(super) fn used(&self) -> u64 {
        let hundredths = u128::from(self.data.unwrap_or(0));
        let bytes = u128::from(self.size) * hundredths / 10_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

#[derive(Deserialize)]
struct Report {
    report: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    vg: Vec<BTreeMap<String, String>>,
    #[serde(default)]
    lv: Vec<BTreeMap<String, String>>,
}

fn parts(text: &[u8]) -> Result<Vec<Part>, String> {
    let report: Report = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    Ok(report.report)
}

fn text<'a>(row: &'a BTreeMap<String, String>, field: &str) -> Result<&'a str, String> {
    let text = row.get(field).map(String::as_str);
    text.ok_or_else(|| format!("there is no {field}"))
}

fn number(row: &BTreeMap<String, String>, field: &str) -> Result<u64, String> {
    let text = text(row, field)?;
    text.parse()
        .map_err(|_| format!("{field} is {text:?}, which is no number"))
}

fn tags(row: &BTreeMap<String, String>, field: &str) -> Result<BTreeSet<String>, String> {
    let tags = text(row, field)?.split(',').filter(|tag| !tag.is_empty());
    Ok(tags.map(str::to_owned).collect())
}

/// `11.04` as 1104.
fn hundredths(row: &BTreeMap<String, String>, field: &str) -> Result<Option<u64>, String> {
    let text = text(row, field)?;
    if text.is_empty() {
        return Ok(None);
    }
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let rest = format!("{rest:0<2}");
    let parsed = whole
        .parse::<u64>()
        .ok()
        .zip(rest.get(..2).and_then(|rest| rest.parse::<u64>().ok()));
    match parsed {
        Some((whole, rest)) => Ok(Some(whole.saturating_mul(100).saturating_add(rest))),
        None => Err(format!("{field} is {text:?}, which is no number")),
    }
}

/// The groups that `vgs` tells of, by name.
pub(super) fn groups(answer: &[u8]) -> Result<BTreeMap<String, Group>, String> {
    let mut groups = BTreeMap::new();
    for row in parts(answer)?.into_iter().flat_map(|part| part.vg) {
        let group = Group {
            tags: tags(&row, "vg_tags")?,
            extent: number(&row, "vg_extent_size")?,
            size: number(&row, "vg_size")?,
            free: number(&row, "vg_free")?,
        };
        groups.insert(text(&row, "vg_name")?.to_owned(), group);
    }
    Ok(groups)
}

/// The volumes that `lvs` tells of, by name.
pub(super) fn volumes(answer: &[u8]) -> Result<BTreeMap<String, Volume>, String> {
    let mut volumes = BTreeMap::new();
    for row in parts(answer)?.into_iter().flat_map(|part| part.lv) {
        let thin_pool = text(&row, "pool_lv")?;
        let volume = Volume {
            size: number(&row, "lv_size")?,
            tags: tags(&row, "lv_tags")?,
            thin_pool: (!thin_pool.is_empty()).then(|| thin_pool.to_owned()),
            data: hundredths(&row, "data_percent")?,
            metadata: hundredths(&row, "metadata_percent")?,
        };
        volumes.insert(text(&row, "lv_name")?.to_owned(), volume);
    }
    Ok(volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As LVM 2.03.16 answered.
    const LVS: &str = r#"
  {
      "report": [
          {
              "lv": [
                  {"lv_name":"keel_a", "lv_size":"67108864", "lv_tags":"keel:edge/pool-1", "pool_lv":"thin", "data_percent":"6.84", "metadata_percent":""},
                  {"lv_name":"keel_pool", "lv_size":"33554432", "lv_tags":"keel-unready,keel:edge/pool-1", "pool_lv":"", "data_percent":"", "metadata_percent":""},
                  {"lv_name":"thin", "lv_size":"490733568", "lv_tags":"", "pool_lv":"", "data_percent":"100.00", "metadata_percent":"11.04"}
              ]
          }
      ]
  }"#;

    #[test]
    fn volumes_are_read() {
        let volumes = volumes(LVS.as_bytes()).unwrap();
        let names: Vec<_> = volumes.keys().collect();
        assert_eq!(names, ["keel_a", "keel_pool", "thin"]);
        let a = &volumes["keel_a"];
        assert_eq!(
            (a.size, a.data, a.thin_pool.as_deref()),
            (64 << 20, Some(684), Some("thin"))
        );
        assert_eq!(a.used(), 4_590_246);
        assert!(volumes["keel_pool"].tags.contains("keel-unready"));
        assert_eq!(volumes["keel_pool"].data, None);
        let thin = &volumes["thin"];
        assert_eq!(
            (thin.used(), thin.metadata, thin.tags.len()),
            (thin.size, Some(1104), 0)
        );
    }

    #[test]
    fn groups_are_read_also_where_there_are_none() {
        let answer = r#"{"report":[{"vg":[{"vg_name":"g","vg_tags":"a,b","vg_extent_size":"4194304","vg_size":"8388608","vg_free":"0"}]}]}"#;
        let group = groups(answer.as_bytes()).unwrap().remove("g").unwrap();
        assert_eq!(
            (group.extent, group.free, group.tags.len()),
            (4 << 20, 0, 2)
        );
        assert_eq!(groups(br#"{"report":[{"vg":[]}]}"#).unwrap().len(), 0);
    }

    #[test]
    fn an_answer_that_is_none_is_told() {
        assert!(volumes(b"x").is_err());
        let odd = LVS.replace("6.84", "six");
        assert_eq!(
            volumes(odd.as_bytes()).unwrap_err(),
            "data_percent is \"six\", which is no number"
        );
        let lacks = LVS.replace("pool_lv", "else");
        assert_eq!(
            volumes(lacks.as_bytes()).unwrap_err(),
            "there is no pool_lv"
        );
    }
}
