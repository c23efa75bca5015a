//! Host tests: a test that needs root runs again in mount, network and UTS namespaces of its own, and on request with
//! processes of its own.
#![expect(
    clippy::disallowed_methods,
    reason = "a test harness starts itself again and reads its own marker"
)]

use std::process::Command;

/// Set in the environment of the inner run.
const INSIDE: &str = "KEEL_HOST_TEST_INSIDE";

/// What the inner run prepares before the test: private mounts, a sysfs of the new network namespace with the cgroup
/// mounts of the host moved into it, an empty `/run`, the loopback up. Nothing of it is seen outside.
const PREPARE: &str = r#"set -e
mount --make-rprivate /
keep=$(mktemp -d)
mount -t tmpfs tmpfs "$keep"
mkdir "$keep/cgroup"
mount --rbind /sys/fs/cgroup "$keep/cgroup"
mount -t sysfs sysfs /sys
mount --move "$keep/cgroup" /sys/fs/cgroup
umount "$keep"
rmdir "$keep"
mount -t tmpfs tmpfs /run
ip link set lo up
"#;

/// How the test begins where it sees all processes of the host.
const BEGIN: &str = r#"exec "$@""#;

/// How the test begins in a process namespace of its own: the shell stays its init, which collects what is orphaned.
const BEGIN_AS_CHILD: &str = r#"mount -t proc proc /proc
"$@" &
wait $!
exit $?"#;

/// Whether the caller is the inner run; the outer one runs itself again and answers `false` when that has passed.
///
/// Use it through [`host_test!`](crate::host_test).
///
/// # Panics
/// The inner run failed, or this is not root (host tests are never skipped in silence).
pub fn inside(module: &str, test: &str) -> bool {
    enter(module, test, &[], BEGIN)
}

/// [`inside`] in a process namespace of its own as well.
///
/// Use it through [`own_processes_test!`](crate::own_processes_test).
///
/// # Panics
/// As [`inside`].
pub fn inside_with_own_processes(module: &str, test: &str) -> bool {
    let flags = ["--pid", "--fork", "--kill-child"];
    enter(module, test, &flags, BEGIN_AS_CHILD)
}

fn enter(module: &str, test: &str, flags: &[&str], begin: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "host tests need root; run tests/run.sh"
    );
    let path = module
        .split_once("::")
        .map_or(test.to_owned(), |(_, inner)| format!("{inner}::{test}"));
    let program = std::env::current_exe().expect("the path of the test binary");
    let status = Command::new("unshare")
        .args(["--mount", "--net", "--uts", "--propagation", "private"])
        .args(flags)
        .args(["sh", "-c", &format!("{PREPARE}{begin}"), "sh"])
        .arg(program)
        .args(["--exact", &path, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare (util-linux) starts");
    assert!(
        status.success(),
        "the test failed in its own namespaces: {status}"
    );
    false
}

/// Whether this is the guest of `tests/guest.sh`, which has all that tests need: there nothing is left out.
pub fn in_guest() -> bool {
    std::env::var_os("KEEL_TEST_GUEST").is_some()
}

/// Whether this kernel has a device mapper. The guest's has one.
///
/// # Panics
/// It is the guest, and has none.
pub fn has_device_mapper() -> bool {
    let known = std::fs::read_to_string("/proc/misc").unwrap_or_default();
    let has = known.contains("device-mapper");
    assert!(has || !in_guest(), "the guest has a device mapper");
    has
}

/// Whether tests of every driver are to try this one: all of them, unless `KEEL_TEST_DRIVER` names one.
pub fn is_asked_for(driver: &str) -> bool {
    std::env::var("KEEL_TEST_DRIVER").map_or(true, |asked| asked == driver)
}

/// Declares a `#[test]` that runs as root in mount, network and UTS namespaces of its own.
#[macro_export]
macro_rules! host_test {
    ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
        $(#[$attribute])*
        #[test]
        fn $name() {
            if $crate::testing::host::inside(module_path!(), stringify!($name)) $body
        }
    };
}

/// A [`host_test!`](crate::host_test) with processes of its own: it sees no others, whatever it starts becomes a child
/// of its init, and nothing outlives it. Process ids are not unique on the host: name nothing outside by them.
#[macro_export]
macro_rules! own_processes_test {
    ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
        $(#[$attribute])*
        #[test]
        fn $name() {
            if $crate::testing::host::inside_with_own_processes(module_path!(), stringify!($name)) $body
        }
    };
}

#[cfg(test)]
mod tests {
    crate::host_test! {
        fn a_host_test_has_a_network_of_its_own() {
            let links = manifests::path_io::list("/sys/class/net").expect("sysfs of the new namespace");
            assert_eq!(links, [std::path::PathBuf::from("/sys/class/net/lo")]);
        }
    }
    crate::own_processes_test! {
        fn a_test_with_processes_of_its_own_sees_no_others() {
            let processes = manifests::path_io::list("/proc").expect("its own view of processes");
            let numbers = processes.iter().filter(|path| {
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok())
            });
            assert_eq!(numbers.count(), 2, "the shell and this test");
        }
    }
}
