//! Who asks, and what they may: by the credentials of a socket, as the kernel tells them.

use std::collections::BTreeSet;

use manifests::controller::{LocalAccess, Role, SocketSettings};
use manifests::id::Address;
use manifests::path_io;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// For records: the name of a user.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The projects of which they see objects and with which they may do it; empty: all, and what belongs to the host.
    pub projects: BTreeSet<String>,
}

impl Caller {
    /// Whether they may see an object.
    pub fn sees(&self, address: &Address) -> bool {
        self.sees_all()
            || (!address.kind.belongs_to_host() && self.projects.contains(address.project_name()))
    }

    /// Whether they see everything.
    pub fn sees_all(&self) -> bool {
        self.projects.is_empty()
    }
}

/// Who may come in through the socket, and as what.
#[derive(Debug, Clone)]
pub struct LocalDoor {
    /// The user that the controller runs as, who may everything, as root.
    pub own: u32,
    /// What the settings say.
    pub settings: SocketSettings,
}

/// The files in which a host has its users and groups.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    users: String,
    groups: String,
}

impl Accounts {
    /// As they are now.
    pub fn read() -> Self {
        let read = |path| path_io::read_if_exists(path).ok().flatten();
        Self {
            users: read("/etc/passwd").unwrap_or_default(),
            groups: read("/etc/group").unwrap_or_default(),
        }
    }

    fn name_of(&self, uid: u32) -> Option<&str> {
        let number = uid.to_string();
        self.users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            (fields.nth(1) == Some(number.as_str())).then_some(name)
        })
    }

    /// The number of a group, by its name or as a number.
    pub fn group(&self, text: &str) -> Option<u32> {
        let named = self.groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok())?
        });
        named.or_else(|| text.parse().ok())
    }

    /// Whether a user is in a group: it is their own one, or names them.
    fn is_in(&self, group: &str, user: Option<&str>, own: u32) -> bool {
        if self.group(group) == Some(own) {
            return true;
        }
        let Some(user) = user else { return false };
        self.groups.lines().any(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let is_it = fields.first() == Some(&group) || fields.get(2) == Some(&group);
            let members = fields.get(3).copied().unwrap_or_default();
            is_it && members.split(',').any(|member| member == user)
        })
    }
}

impl LocalDoor {
    /// Who somebody of these numbers is; none: they may not come in.
    pub fn admits(&self, accounts: &Accounts, uid: u32, gid: u32) -> Option<Caller> {
        let user = accounts.name_of(uid);
        let name = user.map_or_else(|| format!("uid {uid}"), str::to_owned);
        if uid == 0 || uid == self.own {
            return Some(Caller {
                name,
                role: Role::Admin,
                projects: BTreeSet::new(),
            });
        }
        let fits = |access: &&LocalAccess| {
            let by_user = access
                .user
                .as_ref()
                .is_some_and(|wanted| user == Some(wanted.as_str()) || *wanted == uid.to_string());
            let by_group = access.group.as_ref();
            by_user || by_group.is_some_and(|group| accounts.is_in(group, user, gid))
        };
        if let Some(access) = self.settings.access.iter().find(fits) {
            return Some(Caller {
                name,
                role: access.role,
                projects: access.projects.iter().cloned().collect(),
            });
        }
        let group = self.settings.group.as_ref()?;
        accounts.is_in(group, user, gid).then(|| Caller {
            name,
            role: Role::Viewer,
            projects: BTreeSet::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> LocalDoor {
        let access = |user: Option<&str>, group: Option<&str>, role, projects: &[&str]| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            LocalAccess {
                user: owned(user),
                group: owned(group),
                role,
                projects: projects.iter().map(|one| (*one).to_owned()).collect(),
            }
        };
        LocalDoor {
            own: 900,
            settings: SocketSettings {
                group: Some("keel".to_owned()),
                access: vec![
                    access(Some("alice"), None, Role::Operator, &[]),
                    access(None, Some("shop"), Role::Operator, &["shop"]),
                    access(Some("1003"), None, Role::Admin, &[]),
                ],
            },
        }
    }

    #[test]
    fn the_first_line_that_fits_counts_and_nobody_else_comes_in() {
        let accounts = Accounts {
            users: "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:\nbob:x:1001:1001::/:\ncarol:x:1002:60::/:\ndave:x:1004:1004::/:\n"
                .to_owned(),
            groups: "keel:x:50:dave,alice\nshop:x:60:bob\n".to_owned(),
        };
        type Found = Option<(&'static str, Role, &'static [&'static str])>;
        let table: &[(u32, u32, Found)] = &[
            (0, 0, Some(("root", Role::Admin, &[]))),
            (900, 900, Some(("uid 900", Role::Admin, &[]))),
            (1000, 1000, Some(("alice", Role::Operator, &[]))),
            (1001, 1001, Some(("bob", Role::Operator, &["shop"]))),
            (1002, 60, Some(("carol", Role::Operator, &["shop"]))),
            (1003, 1003, Some(("uid 1003", Role::Admin, &[]))),
            (1004, 1004, Some(("dave", Role::Viewer, &[]))),
            (1005, 50, Some(("uid 1005", Role::Viewer, &[]))),
            (1006, 1006, None),
        ];
        for (uid, gid, expected) in table {
            let found = door().admits(&accounts, *uid, *gid);
            let expected = expected.map(|(name, role, projects)| Caller {
                name: name.to_owned(),
                role,
                projects: projects.iter().map(|one| (*one).to_owned()).collect(),
            });
            assert_eq!(found, expected, "{uid}:{gid}");
        }
    }

    #[test]
    fn who_has_some_projects_sees_nothing_else() {
        let caller = Caller {
            name: "bob".to_owned(),
            role: Role::Viewer,
            projects: ["shop".to_owned()].into(),
        };
        for (object, sees) in [
            ("instance/shop/web", true),
            ("instance/web", false),
            ("instance/other/web", false),
            ("storage-pool/fast", false),
        ] {
            let address: Address = object.parse().expect("an address");
            assert_eq!(caller.sees(&address), sees, "{object}");
        }
    }
}
