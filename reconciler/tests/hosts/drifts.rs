//! What is changed by hand, one thing at a time: seen with its field and the line that declares it, and put back.

use std::path::{Path, PathBuf};

use manifests::path_io;

use crate::footprint;
use crate::world::{self, TestWorld, as_published, shell};

/// One change by hand and where it must be seen.
struct Case {
    what: &'static str,
    /// The object and the field, as the report names them.
    object: &'static str,
    field: &'static str,
    /// The manifest and the words of its line.
    declared: (&'static str, &'static str),
    by_hand: fn(&TestWorld),
}

/// The file of this name in the cgroup of an instance's init, whichever hierarchy has it.
pub(crate) fn cgroup_file(world: &TestWorld, names: &[&str]) -> PathBuf {
    let init = world.init("one");
    let text = path_io::read_to_string(format!("/proc/{init}/cgroup")).expect("its cgroups");
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mut tried = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().expect("names"), parts.next().expect("a path"));
        let root = match controllers {
            "" if unified => "/sys/fs/cgroup".to_owned(),
            "" => "/sys/fs/cgroup/unified".to_owned(),
            names => format!("/sys/fs/cgroup/{names}"),
        };
        // The container itself is a cgroup below the one that is limited.
        let own = PathBuf::from(format!("{root}{path}"));
        for folder in [own.as_path(), own.parent().expect("above")] {
            for name in names {
                let file = folder.join(name);
                let text = path_io::read_to_string(&file).unwrap_or_default();
                let unlimited = ["", "max", "max 100000", "-1", "9223372036854771712"];
                if !unlimited.contains(&text.trim()) {
                    return file;
                }
                tried.push(file);
            }
        }
    }
    panic!("no limit in any of {tried:?}");
}

/// Writes another value into the file of this name in the cgroup of `one`.
pub(crate) fn rewrite(world: &TestWorld, names: &[&str], value: &str) {
    path_io::write_kernel_file(cgroup_file(world, names), value).expect("written by hand");
}

fn inside(world: &TestWorld, namespaces: &str, command: &str) {
    let init = world.init("one");
    shell(&format!("nsenter -t {init} {namespaces} {command}"));
}

/// The host's end of the link of `one`.
fn link(world: &TestWorld) -> String {
    let init = world.init("one");
    let peer = shell(&format!("nsenter -t {init} -n ip -o link show eth0"));
    let index = peer
        .split("eth0@if")
        .nth(1)
        .and_then(|rest| rest.split(':').next());
    let index = index.unwrap_or_else(|| panic!("a peer in {peer}"));
    let links = shell("ip -o link");
    let line = links
        .lines()
        .find(|line| line.starts_with(&format!("{index}: ")));
    let name = line.and_then(|line| line.split([' ', '@']).nth(1));
    name.expect("the host's end")
        .trim_end_matches(':')
        .to_owned()
}

const CASES: &[Case] = &[
    Case {
        what: "the memory limit rewritten",
        object: "instance/one",
        field: "/spec/limits/memory",
        declared: ("one.yaml", "memory:"),
        by_hand: |world| rewrite(world, &["memory.max", "memory.limit_in_bytes"], "134217728"),
    },
    Case {
        what: "the processor limit rewritten",
        object: "instance/one",
        field: "/spec/limits/cpuAllowance",
        declared: ("one.yaml", "cpuAllowance:"),
        by_hand: |world| {
            let file = cgroup_file(world, &["cpu.max", "cpu.cfs_quota_us"]);
            let value = if file.ends_with("cpu.max") {
                "20000 100000"
            } else {
                "20000"
            };
            path_io::write_kernel_file(file, value).expect("written by hand");
        },
    },
    Case {
        what: "the limit of processes rewritten",
        object: "instance/one",
        field: "/spec/limits/processes",
        declared: ("one.yaml", "processes:"),
        by_hand: |world| rewrite(world, &["pids.max"], "50"),
    },
    Case {
        what: "init killed",
        object: "instance/one",
        field: "/spec/state",
        declared: ("one.yaml", "state:"),
        by_hand: |world| {
            let init = world.init("one");
            shell(&format!("kill -9 {init}"));
            world.wait_for_state("one", "Stopped");
        },
    },
    Case {
        what: "its link deleted",
        object: "instance/one",
        field: "/spec/devices/eth0",
        declared: ("one.yaml", "eth0:"),
        by_hand: |world| {
            shell(&format!("ip link delete {}", link(world)));
        },
    },
    Case {
        what: "its link set down",
        object: "instance/one",
        field: "/spec/devices/eth0/connected",
        declared: ("one.yaml", "eth0:"),
        by_hand: |world| {
            shell(&format!("ip link set {} down", link(world)));
        },
    },
    Case {
        what: "the bridge's address removed",
        object: "network/lan",
        field: "/spec/ipv4/address",
        declared: ("host.yaml", "address: 10.77.0.1/24"),
        by_hand: |_| {
            shell("ip address del 10.77.0.1/24 dev lan");
        },
    },
    Case {
        what: "the guest's address removed",
        object: "instance/one",
        field: "/spec/devices/eth0/ipv4",
        declared: ("one.yaml", "ipv4: 10.77.0.10"),
        by_hand: |world| inside(world, "-n", "ip address flush dev eth0"),
    },
    Case {
        what: "the nftables table flushed",
        object: "network/lan",
        field: "/spec/ipv4/nat",
        declared: ("host.yaml", "nat: true"),
        by_hand: |_| {
            for line in shell("nft list tables").lines() {
                shell(&format!("nft flush {line}"));
            }
        },
    },
    Case {
        what: "the nftables table deleted",
        object: "network/lan",
        field: "/spec/ipv4/nat",
        declared: ("host.yaml", "nat: true"),
        by_hand: |_| {
            shell("nft flush ruleset");
        },
    },
    Case {
        what: "dnsmasq killed",
        object: "network/lan",
        field: "/spec/ipv4/dhcp/enabled",
        declared: ("host.yaml", "enabled: true"),
        by_hand: |_| {
            let mut killed = 0;
            for pid in footprint::processes() {
                if footprint::command_line(pid).contains("dnsmasq") {
                    shell(&format!("kill -9 {pid}"));
                    killed += 1;
                }
            }
            assert!(killed > 0, "a dnsmasq ran");
        },
    },
    Case {
        what: "an enforced file edited",
        object: "instance/one",
        field: "/spec/files/~1etc~1motd/content",
        declared: ("one.yaml", "content:"),
        by_hand: |world| inside(world, "-m -U -S 0 -G 0", "/bin/sh -c 'echo bye >/etc/motd'"),
    },
    Case {
        what: "a bind mount unmounted inside",
        object: "instance/one",
        field: "/spec/devices/data",
        declared: ("one.yaml", "data: {"),
        by_hand: |world| inside(world, "-m", "umount /data"),
    },
    Case {
        what: "frozen by hand",
        object: "instance/one",
        field: "/spec/state",
        declared: ("one.yaml", "state:"),
        by_hand: |world| {
            let freezer = cgroup_folder_of(world.init("one"));
            if freezer.join("cgroup.freeze").exists() {
                path_io::write_kernel_file(freezer.join("cgroup.freeze"), "1").expect("frozen");
            } else {
                path_io::write_kernel_file(freezer.join("freezer.state"), "FROZEN")
                    .expect("frozen");
            }
            world.wait_for_state("one", "Frozen");
        },
    },
];

/// The cgroup of a process in which it can be frozen.
fn cgroup_folder_of(pid: u32) -> PathBuf {
    let text = path_io::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    let root = Path::new("/sys/fs/cgroup");
    let freezer = text.lines().find_map(|line| line.split_once(":freezer:"));
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    let folder = match (freezer, unified) {
        (Some((_, path)), _) => root.join("freezer").join(path.trim_start_matches('/')),
        (None, Some(path)) => root.join(path.trim_start_matches('/')),
        (None, None) => panic!("no freezer in {text}"),
    };
    // On version 2 the one above is keel's, the inner one the container's own.
    folder
}

runtime::own_processes_test! {
    fn what_is_changed_by_hand_is_told_with_its_line_and_put_back() {
        let world = TestWorld::furnished();
        world.converge();
        for case in CASES {
            println!("{}", case.what);
            (case.by_hand)(&world);
            let line = world.line(case.declared.0, case.declared.1);

            let report = world.keel(&["drift", "--detailed-exitcode", "-o", "json"]).with(2).json();
            as_published("drift-report", &report);
            let drift = report["drift"].as_array().expect("a list");
            let field = drift.iter().find(|field| field["id"] == case.object && field["path"] == case.field);
            let field = field.unwrap_or_else(|| panic!("{} at {} {} in {report:#}", case.what, case.object, case.field));
            assert_eq!(field["source"]["path"], case.declared.0, "{}: {report:#}", case.what);
            assert_eq!(field["source"]["line"], line, "{}: {report:#}", case.what);
            assert_ne!(field["desired"], field["live"], "{}: {report:#}", case.what);

            let page = world.keel(&["drift", "--detailed-exitcode"]).with(2).stdout;
            assert!(page.contains(case.object), "{}: {page}", case.what);
            assert!(page.contains(&format!("{}:{line}", case.declared.0)), "{}: line {line} in {page}", case.what);

            let explained = world.keel(&["explain", case.object, "-o", "json"]).with(0).json();
            let fields = explained["fields"].as_array().expect("a list");
            let differs = |field: &&serde_json::Value| {
                field["path"].as_str().is_some_and(|path| path.starts_with(case.field)) && field["desired"] != field["live"]
            };
            assert!(fields.iter().any(|field| differs(&field)), "{}: {explained:#}", case.what);
            assert_ne!(explained["planned"], serde_json::json!([]), "{}: {explained:#}", case.what);

            world.keel(&["apply", "--yes"]).with(0);
            world.nothing_to_do();
        }
        // Whatever it was, both reach each other again.
        world.keel(&["exec", "two", "--", "ping", "-c1", "-W2", "10.77.0.10"]).with(0);
        assert_eq!(world.keel(&["exec", "one", "--", "cat", "/data/gold", "/etc/motd"]).with(0).stdout, "precious\nhello\n");
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn who_stopped_it_and_which_rules_are_stale_is_in_a_drift_report() {
        let world = TestWorld::furnished();
        let rules = "lifecycle:\n  ignore:\n    - { path: /spec/limits/memory }\n    - { path: /spec/limits/processes, until: 2020-01-01 }\n";
        world.write("one.yaml", &(world.one() + rules));
        world.converge();
        rewrite(&world, &["memory.max", "memory.limit_in_bytes"], "134217728");
        let report = world.keel(&["drift", "--detailed-exitcode", "-o", "json"]).with(0).json();
        as_published("drift-report", &report);
        let line = world.line("one.yaml", "until: 2020-01-01");
        let stale = report["staleRules"].as_array().expect("a list");
        assert_eq!(stale.len(), 1, "{report:#}");
        assert_eq!(stale[0]["why"], "expired", "{report:#}");
        assert_eq!(stale[0]["source"]["line"], line, "{report:#}");

        let words = ["stop", "one", "--hold", "2h", "--reason", "a new disk"];
        world::ended(world.command(&words).env("SUDO_USER", "alice")).with(0);

        let report = world.keel(&["drift", "--detailed-exitcode", "-o", "json"]).with(2).json();
        as_published("drift-report", &report);
        let drift = report["drift"].as_array().expect("a list");
        assert_eq!(drift.len(), 1, "{report:#}");
        assert_eq!(drift[0]["author"]["by"], "alice", "{report:#}");
        assert_eq!(drift[0]["author"]["command"], words.join(" ").replacen("stop", "keel stop", 1), "{report:#}");

        let page = world.keel(&["drift"]).with(0).stdout;
        assert!(page.contains("by alice (keel stop one"), "{page}");
        assert!(page.contains(&format!("one.yaml:{line}")), "{page}");
        let history = world.keel(&["history", "instance/one"]).with(0).stdout;
        assert!(history.lines().nth(1).is_some_and(|newest| newest.contains("alice")), "{history}");
        world.keel(&["start", "one"]).with(0);
        world.keel(&["drift", "--detailed-exitcode"]).with(0);

        // What was edited and not applied is no drift, and nobody is told that all is as git says.
        let edited = world.one().replace("processes: 100", "processes: 90");
        world.write("one.yaml", &(edited + rules));
        let report = world.keel(&["drift", "--detailed-exitcode", "-o", "json"]).with(0).json();
        as_published("drift-report", &report);
        assert_eq!(report["edited"], serde_json::json!(["instance/one"]), "{report:#}");
        let page = world.keel(&["drift"]).with(0).stdout;
        assert!(page.contains("1 object was edited in git and not applied yet"), "{page}");
        world.destroy();
    }
}
