//! Keys of instances.

use serde_json::json;

use crate::engine;
use crate::keys::{Key, furnished, gone};

#[test]
fn keys_of_instances() {
    let (folder, engine) = engine();
    let mut tried = furnished(&engine, folder.path(), "ikeys", 76);
    tried.each(
        vec![
            Key("boot/autostart", json!(true), "boot.autostart", "false"),
            Key("boot/priority", json!(5), "boot.autostart.priority", "9"),
            Key("boot/delay", json!("90s"), "boot.autostart.delay", "30"),
            Key("boot/stopPriority", json!(3), "boot.stop.priority", "1"),
            Key("boot/autorestart", json!(true), "boot.autorestart", "no"),
            Key(
                "boot/hostShutdownAction",
                json!("forceStop"),
                "boot.host_shutdown_action",
                "stop",
            ),
            Key(
                "boot/hostShutdownTimeout",
                json!("45s"),
                "boot.host_shutdown_timeout",
                "60",
            ),
            Key("limits/cpu", json!(1), "limits.cpu", "2"),
            Key("limits/cpu", json!("0-1"), "limits.cpu", "1"),
            Key(
                "limits/cpuNodes",
                json!("0"),
                "limits.cpu.nodes",
                "balanced",
            ),
            Key(
                "limits/cpuAllowance",
                json!("50%"),
                "limits.cpu.allowance",
                "25ms/100ms",
            ),
            Key("limits/cpuPriority", json!(5), "limits.cpu.priority", "3"),
            Key("limits/memory", json!("64MiB"), "limits.memory", "128MiB"),
            Key("limits/memory", json!("50%"), "limits.memory", "128MiB"),
            Key(
                "limits/memoryEnforce",
                json!("soft"),
                "limits.memory.enforce",
                "hard",
            ),
            Key(
                "limits/memorySwap",
                json!(false),
                "limits.memory.swap",
                "true",
            ),
            Key(
                "limits/memoryOomPriority",
                json!(100),
                "limits.memory.oom_priority",
                "5",
            ),
            Key("limits/processes", json!(100), "limits.processes", "50"),
            Key("limits/diskPriority", json!(3), "limits.disk.priority", "7"),
            Key(
                "limits/kernel/nofile",
                json!("1000:2000"),
                "limits.kernel.nofile",
                "500",
            ),
            Key(
                "limits/kernel/as",
                json!("unlimited"),
                "limits.kernel.as",
                "1000000",
            ),
            Key(
                "limits/kernel/core",
                json!("0"),
                "limits.kernel.core",
                "unlimited",
            ),
            Key(
                "limits/kernel/cpu",
                json!("3600"),
                "limits.kernel.cpu",
                "60",
            ),
            Key(
                "limits/kernel/data",
                json!("1000000"),
                "limits.kernel.data",
                "2000000",
            ),
            Key(
                "limits/kernel/fsize",
                json!("1000000"),
                "limits.kernel.fsize",
                "2000000",
            ),
            Key(
                "limits/kernel/locks",
                json!("100"),
                "limits.kernel.locks",
                "200",
            ),
            Key(
                "limits/kernel/memlock",
                json!("65536"),
                "limits.kernel.memlock",
                "unlimited",
            ),
            Key(
                "limits/kernel/nice",
                json!("20"),
                "limits.kernel.nice",
                "30",
            ),
            Key(
                "limits/kernel/nproc",
                json!("100:200"),
                "limits.kernel.nproc",
                "300",
            ),
            Key(
                "limits/kernel/rtprio",
                json!("10"),
                "limits.kernel.rtprio",
                "20",
            ),
            Key(
                "limits/kernel/sigpending",
                json!("100"),
                "limits.kernel.sigpending",
                "200",
            ),
            Key(
                "limits/hugepages/2MiB",
                json!("64MiB"),
                "limits.hugepages.2MB",
                "128MiB",
            ),
            // Which ids it has is another matter for one that has none of the host's.
            Key(
                "security",
                json!({"privileged": true}),
                "security.privileged",
                "false",
            ),
            Key("security/nesting", json!(true), "security.nesting", "false"),
            Key(
                "security/idmap/isolated",
                json!(true),
                "security.idmap.isolated",
                "off",
            ),
            Key(
                "security/idmap",
                json!({"isolated": true, "size": 100_000}),
                "security.idmap.size",
                "70000",
            ),
            Key(
                "security/idmap",
                json!({"isolated": true, "base": 3_000_000}),
                "security.idmap.base",
                "4000000",
            ),
            Key(
                "security/idmap/extra",
                json!(["both 1000 1000"]),
                "raw.idmap",
                "both 1001 1001",
            ),
            Key(
                "security/guestApi",
                json!(false),
                "security.guestapi",
                "true",
            ),
            Key(
                "security/seccomp/deny",
                json!(["kexec_load"]),
                "security.syscalls.deny",
                "reboot",
            ),
            Key(
                "security/seccomp/denyCompat",
                json!(true),
                "security.syscalls.deny_compat",
                "0",
            ),
            Key(
                "security/seccomp/profile",
                json!("unconfined"),
                "security.syscalls.deny_default",
                "true",
            ),
            Key(
                "security/intercept/mknod",
                json!(true),
                "security.syscalls.intercept.mknod",
                "false",
            ),
            Key(
                "security/intercept/setxattr",
                json!(true),
                "security.syscalls.intercept.setxattr",
                "false",
            ),
            Key(
                "security/intercept/bpf",
                json!(true),
                "security.syscalls.intercept.bpf",
                "false",
            ),
            Key(
                "security/intercept/sysinfo",
                json!(true),
                "security.syscalls.intercept.sysinfo",
                "false",
            ),
            Key(
                "security/intercept/schedSetscheduler",
                json!(true),
                "security.syscalls.intercept.sched_setscheduler",
                "false",
            ),
            Key(
                "security/intercept/mount",
                json!({"allowed": ["ext4"]}),
                "security.syscalls.intercept.mount.allowed",
                "xfs",
            ),
            Key(
                "security/intercept/mount",
                json!({"shift": true}),
                "security.syscalls.intercept.mount",
                "false",
            ),
            Key(
                "environment",
                json!({"FOO": "bar"}),
                "environment.FOO",
                "baz",
            ),
            Key(
                "sysctl",
                json!({"net.ipv4.ip_forward": "1"}),
                "linux.sysctl.net.ipv4.ip_forward",
                "0",
            ),
            Key(
                "credentials",
                json!({"word": "secret"}),
                "systemd.credential.word",
                "other",
            ),
            Key("user", json!({"team": "web"}), "user.team", "db"),
            Key(
                "cloudInit/userData",
                json!("#cloud-config\n{}\n"),
                "cloud-init.user-data",
                "#cloud-config",
            ),
            Key(
                "cloudInit/userData",
                json!({"packages": ["curl"]}),
                "cloud-init.user-data",
                "#cloud-config",
            ),
            Key(
                "cloudInit/vendorData",
                json!("#cloud-config\n"),
                "cloud-init.vendor-data",
                "#cloud-config\n{}",
            ),
            Key(
                "cloudInit/networkConfig",
                json!({"version": 2}),
                "cloud-init.network-config",
                "version: 1",
            ),
            Key(
                "snapshots/schedule",
                json!("@daily"),
                "snapshots.schedule",
                "@hourly",
            ),
            Key(
                "snapshots/schedule",
                json!("0 3 * * *"),
                "snapshots.schedule",
                "5 3 * * *",
            ),
            Key(
                "snapshots/scheduleStopped",
                json!(true),
                "snapshots.schedule.stopped",
                "false",
            ),
            Key("snapshots/expiry", json!("7d"), "snapshots.expiry", "3d"),
            Key("snapshots/expiry", json!("30min"), "snapshots.expiry", "1m"),
            Key(
                "snapshots/pattern",
                json!("a-%d"),
                "snapshots.pattern",
                "b-%d",
            ),
            Key(
                "config",
                json!({"limits.memory.swap.priority": "5"}),
                "limits.memory.swap.priority",
                "3",
            ),
            Key(
                "config",
                json!({"migration.stateful": "true"}),
                "migration.stateful",
                "false",
            ),
        ],
        &["config", "set", "ikeys-one"],
    );
    gone(&tried, "ikeys");
    tried.all_hold();
}
