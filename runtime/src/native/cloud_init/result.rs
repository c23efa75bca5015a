//! How cloud-init's work went, in its own words.

use serde_json::Value;

/// Where it says so (cloud-init documentation, "status.json and result.json"). It is not there before the end.
pub const FILE: &str = "/run/cloud-init/result.json";

/// What it said: through, or failed with these words. None: it is not through yet.
pub fn of(text: &[u8]) -> Option<Result<(), String>> {
    let result: Value = serde_json::from_slice(text).ok()?;
    let errors = result["v1"]["errors"].as_array()?;
    Some(match errors.first() {
        None => Ok(()),
        Some(first) => Err(first
            .as_str()
            .map_or_else(|| first.to_string(), str::to_owned)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_how_it_went() {
        assert_eq!(of(b""), None);
        assert_eq!(
            of(br#"{"v1": {"datasource": "x", "errors": []}}"#),
            Some(Ok(()))
        );
        assert_eq!(
            of(br#"{"v1": {"errors": ["('scripts-user', RuntimeError())"]}}"#),
            Some(Err("('scripts-user', RuntimeError())".to_owned()))
        );
    }
}
