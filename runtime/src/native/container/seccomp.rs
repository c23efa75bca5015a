//! The seccomp policy of containers: plain rules, settled with the manifest's lists, compiled by libseccomp.
//!
//! Everything is allowed but what is listed, as LXD does it for system containers; the boundary is the user namespace,
//! and this takes away the kernel's riskiest entrances.

use std::collections::BTreeSet;

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};

/// What the manifest says about system calls, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Seccomp {
    /// Not denied, even where the default policy denies it.
    pub allow: Vec<String>,
    /// Denied in addition (`EPERM`); wins over `allow`.
    pub deny: Vec<String>,
    /// Kill programs of the 32-bit ABI instead of filtering them alike.
    pub deny_compat: bool,
    /// Let the container make user namespaces of its own.
    pub nesting: bool,
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// A name that this libseccomp does not know.
    #[error("no system call is named {0}")]
    UnknownCall(String),
    /// libseccomp could not compile the policy.
    #[error("compile the seccomp filter: {0}")]
    Compile(#[from] libseccomp::error::SeccompError),
    /// The filter could not be read back.
    #[error("export the seccomp filter")]
    Export(#[source] std::io::Error),
}

/// Denies a call, always or only with certain bits in one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule<'n> {
    /// Name of the call.
    pub call: &'n str,
    /// What the caller gets.
    pub errno: i32,
    /// Only then.
    pub when: Option<When>,
}

/// `argument & mask == value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// Counts from 0.
    pub argument: u32,
    /// Bits that are looked at. The kernel ignores the upper half of `int` arguments, so a mask must as well.
    pub mask: u64,
    /// What they have to be.
    pub value: u64,
}

const fn always(call: &'static str, errno: i32) -> Rule<'static> {
    Rule {
        call,
        errno,
        when: None,
    }
}

const fn when(
    call: &'static str,
    errno: i32,
    argument: u32,
    mask: u64,
    value: u64,
) -> Rule<'static> {
    Rule {
        call,
        errno,
        when: Some(When {
            argument,
            mask,
            value,
        }),
    }
}

const INT: u64 = 0xffff_ffff;
const NEW_USER: u64 = libc::CLONE_NEWUSER as u64;

/// Denied to every container.
const DEFAULTS: [Rule<'static>; 28] = [
    // The host's kernel image and modules.
    always("kexec_load", libc::ENOSYS),
    always("kexec_file_load", libc::ENOSYS),
    always("init_module", libc::ENOSYS),
    always("finit_module", libc::ENOSYS),
    always("delete_module", libc::ENOSYS),
    always("create_module", libc::ENOSYS),
    always("query_module", libc::ENOSYS),
    always("get_kernel_syms", libc::ENOSYS),
    // Opens what no path of the container leads to ("shocker").
    always("open_by_handle_at", libc::ENOSYS),
    // Large entrances with a history; a namespace of one's own gives nothing that needs them.
    always("bpf", libc::EPERM),
    always("perf_event_open", libc::EPERM),
    always("userfaultfd", libc::EPERM),
    always("io_uring_setup", libc::ENOSYS),
    always("io_uring_enter", libc::ENOSYS),
    always("io_uring_register", libc::ENOSYS),
    // Of the whole host.
    always("swapon", libc::EPERM),
    always("swapoff", libc::EPERM),
    always("acct", libc::EPERM),
    always("nfsservctl", libc::ENOSYS),
    always("lookup_dcookie", libc::EPERM),
    always("uselib", libc::ENOSYS),
    always("iopl", libc::EPERM),
    always("ioperm", libc::EPERM),
    always("vm86", libc::ENOSYS),
    // Types into the terminal of somebody else; TIOCLINUX pastes (CVE-2023-28339 and older).
    when("ioctl", libc::EPERM, 1, INT, libc::TIOCSTI),
    when("ioctl", libc::EPERM, 1, INT, libc::TIOCLINUX),
    // Talks to the hypervisor around every network rule.
    when("socket", libc::EAFNOSUPPORT, 0, INT, libc::AF_VSOCK as u64),
    // Lets a network file system of the host hang.
    when(
        "umount2",
        libc::EACCES,
        1,
        libc::MNT_FORCE as u64,
        libc::MNT_FORCE as u64,
    ),
];

/// Denied where nesting is off. clone3 keeps its flags in memory that a filter cannot read: callers fall back to clone.
const WITHOUT_NESTING: [Rule<'static>; 3] = [
    always("clone3", libc::ENOSYS),
    when("clone", libc::EPERM, 0, NEW_USER, NEW_USER),
    when("unshare", libc::EPERM, 0, NEW_USER, NEW_USER),
];

/// The rules that a policy means.
pub fn rules(policy: &Seccomp) -> Vec<Rule<'_>> {
    let listed: BTreeSet<&str> = policy
        .allow
        .iter()
        .chain(&policy.deny)
        .map(String::as_str)
        .collect();
    let nesting: &[Rule<'static>] = if policy.nesting {
        &[]
    } else {
        &WITHOUT_NESTING
    };
    DEFAULTS
        .iter()
        .chain(nesting)
        .filter(|rule| !listed.contains(rule.call))
        .copied()
        .chain(policy.deny.iter().map(|call| Rule {
            call,
            errno: libc::EPERM,
            when: None,
        }))
        .collect()
}

/// The names of a policy that no system call has, for a diagnostic while planning.
pub fn unknown_calls(policy: &Seccomp) -> Vec<&str> {
    policy
        .allow
        .iter()
        .chain(&policy.deny)
        .map(String::as_str)
        .filter(|name| ScmpSyscall::from_name(name).is_err())
        .collect()
}

/// Compiles a policy into the `struct sock_filter`s that the kernel takes.
///
/// # Errors
/// A name that is no system call, or libseccomp's answer.
pub fn compile(policy: &Seccomp) -> Result<Vec<u8>, SeccompError> {
    if let Some(name) = unknown_calls(policy).first() {
        return Err(SeccompError::UnknownCall((*name).to_owned()));
    }
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
    // x32 programs and foreign architectures have numbers of their own for all of the above.
    filter.set_act_badarch(ScmpAction::KillProcess)?;
    filter.set_ctl_nnp(false)?;
    let compat = match ScmpArch::native() {
        ScmpArch::X8664 => Some(ScmpArch::X86),
        ScmpArch::Aarch64 => Some(ScmpArch::Arm),
        _ => None,
    };
    if let Some(compat) = compat.filter(|_| !policy.deny_compat) {
        filter.add_arch(compat)?;
    }
    for rule in rules(policy) {
        // Not every name is a call on every architecture.
        let Ok(call) = ScmpSyscall::from_name(rule.call) else {
            continue;
        };
        let action = ScmpAction::Errno(rule.errno);
        match rule.when {
            None => filter.add_rule(action, call)?,
            Some(when) => filter.add_rule_conditional(
                action,
                call,
                &[ScmpArgCompare::new(
                    when.argument,
                    ScmpCompareOp::MaskedEqual(when.mask),
                    when.value,
                )],
            )?,
        };
    }
    export(&filter)
}

fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>, SeccompError> {
    let io = |error: rustix::io::Errno| SeccompError::Export(error.into());
    let memory =
        rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC).map_err(io)?;
    filter.export_bpf(&memory)?;
    let length = rustix::fs::fstat(&memory).map_err(io)?.st_size;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut read = 0;
    while read < bytes.len() {
        let offset = u64::try_from(read).unwrap_or(u64::MAX);
        match rustix::io::pread(&memory, &mut bytes[read..], offset).map_err(io)? {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_change_the_default_rules() {
        let policy = Seccomp {
            allow: vec!["bpf".to_owned(), "ioctl".to_owned()],
            deny: vec!["ptrace".to_owned(), "io_uring_setup".to_owned()],
            deny_compat: false,
            nesting: true,
        };
        let rules = rules(&policy);
        let of = |call: &str| {
            rules
                .iter()
                .filter(|rule| rule.call == call)
                .collect::<Vec<_>>()
        };
        assert!(of("bpf").is_empty() && of("ioctl").is_empty() && of("clone3").is_empty());
        assert_eq!(of("ptrace").len(), 1);
        assert_eq!(of("io_uring_setup")[0].errno, libc::EPERM);
        assert_eq!(of("kexec_load")[0].errno, libc::ENOSYS);
    }

    #[test]
    fn a_denied_call_is_denied_even_when_it_is_also_allowed() {
        let policy = Seccomp {
            allow: vec!["keyctl".to_owned()],
            deny: vec!["keyctl".to_owned()],
            ..Seccomp::default()
        };
        assert!(rules(&policy).iter().any(|rule| rule.call == "keyctl"));
    }

    #[test]
    fn a_policy_becomes_whole_instructions() {
        let bytes = compile(&Seccomp::default()).unwrap();
        assert!(!bytes.is_empty() && bytes.len().is_multiple_of(8));
        let compat = compile(&Seccomp {
            deny_compat: true,
            ..Seccomp::default()
        });
        assert!(compat.unwrap().len() < bytes.len());
    }

    #[test]
    fn a_wrong_name_is_said() {
        let policy = Seccomp {
            deny: vec!["frobnicate".to_owned()],
            ..Seccomp::default()
        };
        let error = compile(&policy).unwrap_err();
        assert_eq!(error.to_string(), "no system call is named frobnicate");
    }
}
