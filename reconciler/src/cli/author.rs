//! Who does this, as far as the system knows: whoever called sudo, else whoever logged in.

use manifests::path_io;

use super::invocation::environment;

/// The login uid of what was not begun by somebody who logged in.
const NOBODY: &str = "4294967295";

/// The name of the person; none for what a service does.
pub(super) fn author() -> Option<String> {
    let read = |path| path_io::read_if_exists(path).ok().flatten();
    author_of(
        environment("SUDO_USER"),
        read("/proc/self/loginuid"),
        || read("/etc/passwd"),
    )
}

fn author_of(
    sudo: Option<String>,
    login: Option<String>,
    accounts: impl FnOnce() -> Option<String>,
) -> Option<String> {
    sudo.or_else(|| {
        let uid = login?.trim().to_owned();
        let is_somebody = uid != NOBODY && !uid.is_empty();
        is_somebody.then(|| {
            let accounts = accounts().unwrap_or_default();
            name_of(&uid, &accounts).unwrap_or_else(|| format!("uid {uid}"))
        })
    })
}

/// The name of a uid in a passwd file.
fn name_of(uid: &str, accounts: &str) -> Option<String> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1) == Some(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_called_sudo_counts_before_whoever_logged_in() {
        let accounts = "root:x:0:0::/root:/bin/sh\n:x:1000::\nalice:x:1000:1000::/:/bin/sh\n";
        for (sudo, login, by) in [
            (Some("bob"), Some("1000"), Some("bob")),
            (None, Some("1000\n"), Some("alice")),
            (None, Some("0"), Some("root")),
            (None, Some("1001"), Some("uid 1001")),
            (None, Some(NOBODY), None),
            (None, Some(""), None),
            (None, None, None),
        ] {
            let found = author_of(sudo.map(str::to_owned), login.map(str::to_owned), || {
                Some(accounts.to_owned())
            });
            assert_eq!(found.as_deref(), by, "{sudo:?} {login:?}");
        }
    }
}
