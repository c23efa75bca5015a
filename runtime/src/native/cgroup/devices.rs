//! Device access of an instance: a program on cgroup2 where it is mounted, else the v1 `devices` controller.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use manifests::path_io::{self, AtPath as _, PathError};
use rustix::fs::{Mode, OFlags, XattrFlags};

use super::device_program::{OURS, assemble, name};
use super::device_rules::{DeviceAccess, DeviceRule, DeviceRules, Permissions};
use super::hierarchies::Controller;
use super::instance::{CgroupError, InstanceCgroups};
use super::lifecycle::Frozen;
use super::limits::Seen;
use super::patience::Patience;
use crate::sys::bpf;

/// The rules that the attached program was made of, kept beside it: a program cannot be read back as rules.
const ATTRIBUTE: &str = "user.keel.devices";

/// So many programs are kept loaded: instances mostly have the same rules.
const KEPT: usize = 8;

/// The program of these rules, by their text. One is checked by the kernel once and not with each instance.
fn loaded(rules: &DeviceRules) -> io::Result<Arc<OwnedFd>> {
    static LOADED: Mutex<VecDeque<(String, Arc<OwnedFd>)>> = Mutex::new(VecDeque::new());
    let text = rules.to_string();
    let mut kept = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, program)) = kept.iter().find(|(of, _)| *of == text) {
        return Ok(Arc::clone(program));
    }
    let program = Arc::new(bpf::load_device_program(&assemble(rules), &name(rules))?);
    kept.truncate(KEPT - 1);
    kept.push_front((text, Arc::clone(&program)));
    Ok(program)
}

impl InstanceCgroups {
    /// Lets the container use exactly these devices, also while it runs, and never fewer in between: on cgroup2 in one
    /// step, on v1 it stands still where there is no other way.
    ///
    /// # Errors
    /// [`CgroupError::NoHierarchy`] where rules are wanted and the host has neither means; the kernel's refusals.
    /// [`CgroupError::NotFrozen`] where a running one does not stand still; its devices are then as they were.
    pub fn set_devices(&self, wanted: &DeviceAccess) -> Result<(), CgroupError> {
        match (self.payload(), self.place(Controller::Devices)) {
            (Some(payload), _) => self.set_program(&payload, wanted),
            (None, Some(place)) => self.set_list(&place.payload, wanted),
            (None, None) if *wanted == DeviceAccess::All => Ok(()),
            (None, None) => Err(CgroupError::NoHierarchy),
        }
    }

    /// Which devices the container may use.
    pub fn devices(&self) -> Seen<DeviceAccess> {
        let seen = match (self.payload(), self.place(Controller::Devices)) {
            (Some(payload), _) => self.seen_program(&payload),
            (None, Some(place)) => seen_list(&place.payload),
            (None, None) => Ok(Seen::Known(DeviceAccess::All)),
        };
        seen.unwrap_or_else(|error| Seen::Unknown(format!("{error}: {}", error.source)))
    }

    fn set_program(&self, payload: &Path, wanted: &DeviceAccess) -> Result<(), CgroupError> {
        let cgroup = open(payload)?;
        let mut ours = attached(&cgroup, payload)?;
        ours.retain(|program| program.name.starts_with(OURS));
        if let DeviceAccess::Rules(rules) = wanted {
            let program = loaded(rules).at("load the device program of", payload)?;
            let replaced = ours.pop();
            bpf::attach_device_program(
                cgroup.as_fd(),
                program.as_fd(),
                replaced.as_ref().map(|old| old.program.as_fd()),
            )
            .at("attach a device program to", payload)?;
            if let Some(home) = self.home() {
                rustix::fs::setxattr(
                    home,
                    ATTRIBUTE,
                    rules.to_string().as_bytes(),
                    XattrFlags::empty(),
                )
                .at("set an attribute of", home)?;
            }
        }
        for program in ours {
            bpf::detach_device_program(cgroup.as_fd(), program.program.as_fd())
                .at("detach a device program from", payload)?;
        }
        Ok(())
    }

    fn set_list(&self, folder: &Path, wanted: &DeviceAccess) -> Result<(), CgroupError> {
        let now = path_io::read_to_string(folder.join("devices.list"))?;
        let writes = list_writes(now.trim(), wanted);
        // Who runs through "none" is refused what it may always use: a daemon that cannot open /dev/null ends. The kernel
        // also passes through it on the way to "all" (devcgroup_update_access clears the list first).
        let stands_still = writes.iter().any(|(_, line)| line == EVERY)
            && self.frozen()? != Frozen::Frozen
            && !self.processes()?.is_empty();
        if stands_still {
            self.freeze(Patience::default())?;
        }
        let written = writes
            .iter()
            .try_for_each(|(file, line)| path_io::write_kernel_file(folder.join(file), line));
        if stands_still {
            self.thaw()?;
        }
        Ok(written?)
    }

    fn seen_program(&self, payload: &Path) -> Result<Seen<DeviceAccess>, PathError> {
        let programs = attached(&open(payload)?, payload)?;
        let noted = self.home().and_then(noted_rules);
        Ok(match (programs.as_slice(), noted) {
            ([], _) => Seen::Known(DeviceAccess::All),
            ([program], Some(rules)) if program.name == name(&rules) => {
                Seen::Known(DeviceAccess::Rules(rules))
            }
            (programs, _) => {
                let names: Vec<&str> = programs.iter().map(|p| p.name.as_str()).collect();
                Seen::Other(format!("device programs {}", names.join(", ")))
            }
        })
    }
}

fn noted_rules(home: &Path) -> Option<DeviceRules> {
    let mut buffer = vec![0u8; 65_536];
    let length = rustix::fs::getxattr(home, ATTRIBUTE, buffer.as_mut_slice()).ok()?;
    std::str::from_utf8(buffer.get(..length)?)
        .ok()?
        .parse()
        .ok()
}

fn open(folder: &Path) -> Result<OwnedFd, PathError> {
    rustix::fs::open(
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .at("open", folder)
}

fn attached(cgroup: &OwnedFd, folder: &Path) -> Result<Vec<bpf::AttachedProgram>, PathError> {
    bpf::attached_device_programs(cgroup.as_fd()).at("query the device programs of", folder)
}

/// v1 shows a whole cgroup that may use all as one rule of kind `a`.
const ALL: &str = "a *:* rwm";

fn seen_list(folder: &Path) -> Result<Seen<DeviceAccess>, PathError> {
    let text = path_io::read_to_string(folder.join("devices.list"))?;
    Ok(if text.trim() == ALL {
        Seen::Known(DeviceAccess::All)
    } else {
        match text.parse() {
            Ok(rules) => Seen::Known(DeviceAccess::Rules(rules)),
            Err(_) => Seen::Other(format!("devices {}", text.trim().replace('\n', ", "))),
        }
    })
}

/// What is written to allow or deny all.
const EVERY: &str = "a";

/// The writes that turn one v1 list into another: what is new is allowed before what is old is denied, so that a running
/// container never loses what it keeps, but for the ways from and to "all".
fn list_writes(now: &str, wanted: &DeviceAccess) -> Vec<(&'static str, String)> {
    let rules = match wanted {
        DeviceAccess::All if now == ALL => return Vec::new(),
        DeviceAccess::All => return vec![("devices.allow", EVERY.to_owned())],
        DeviceAccess::Rules(rules) => rules,
    };
    let allow = |rule: DeviceRule| ("devices.allow", rule.to_string());
    // From "all" there is no way but through "none".
    let Ok(old) = now.parse::<DeviceRules>() else {
        let mut writes = vec![("devices.deny", EVERY.to_owned())];
        writes.extend(rules.iter().map(allow));
        return writes;
    };
    let has = |list: &DeviceRules, rule: DeviceRule| list.iter().any(|other| other == rule);
    let new = rules.iter().filter(|rule| !has(&old, *rule));
    let mut writes: Vec<_> = new.map(allow).collect();
    for rule in old.iter().filter(|rule| !has(rules, *rule)) {
        // Of the same numbers with fewer permissions only those are denied that go.
        let kept = rules.iter().find(|kept| kept.numbers == rule.numbers);
        let gone = DeviceRule {
            permissions: kept.map_or(rule.permissions, |kept| {
                rule.permissions.without(kept.permissions)
            }),
            ..rule
        };
        if gone.permissions != Permissions::default() {
            writes.push(("devices.deny", gone.to_string()));
        }
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v1_list_loses_nothing_that_it_keeps() {
        let rules = |text: &str| DeviceAccess::Rules(text.parse().unwrap());
        for (now, wanted, writes) in [
            (ALL, DeviceAccess::All, vec![]),
            ("c 1:3 rwm", DeviceAccess::All, vec!["+a"]),
            (
                ALL,
                rules("c 1:3 rwm\nb *:* m"),
                vec!["-a", "+c 1:3 rwm", "+b *:* m"],
            ),
            ("c 1:3 rwm", rules("c 1:3 rwm"), vec![]),
            (
                "c 1:3 rwm\nc 1:5 r",
                rules("c 1:3 rwm\nc 1:7 r"),
                vec!["+c 1:7 r", "-c 1:5 r"],
            ),
            ("c 1:3 rwm", rules("c 1:3 r"), vec!["+c 1:3 r", "-c 1:3 wm"]),
            ("c 1:3 r", rules("c 1:3 rwm"), vec!["+c 1:3 rwm"]),
        ] {
            let found: Vec<String> = list_writes(now, &wanted)
                .into_iter()
                .map(|(file, line)| {
                    format!("{}{line}", if file == "devices.allow" { '+' } else { '-' })
                })
                .collect();
            assert_eq!(found, writes, "{now} to {wanted:?}");
        }
    }
}
