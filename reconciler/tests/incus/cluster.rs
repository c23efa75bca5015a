//! Three members as a cluster: made on each of them, one of them killed, evacuated, and a fourth that joins.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use manifests::path_io;

use crate::ended::ended;
use crate::world::Server;

const FAST: &str = "\
apiVersion: evenkeel/v1
kind: StoragePool
metadata: { name: clu-fast }
spec:
  driver: btrfs
  size: 256MiB
  members: { n2: { size: 320MiB } }
lifecycle: { prune: delete }
";

const THREE: &str = "\
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: clu-three }
spec:
  image: clu
  state: Running
  placement: { member: n3 }
  devices:
    root: { type: disk, path: /, pool: clu-pool }
    eth0: { type: nic, network: clu0 }
";

fn folder() -> PathBuf {
    let folder = std::env::var_os("KEEL_TEST_CLUSTER");
    folder
        .expect("there is no cluster: run this by tests/incus.sh --cluster")
        .into()
}

/// Starts a member: one that was killed, or a new one.
fn begin(number: u32) {
    let status = Command::new(folder().join("begin"))
        .arg(number.to_string())
        .status();
    assert!(status.expect("it starts").success(), "member {number}");
}

fn kill(number: u32) {
    let file = folder().join(format!("n{number}/incusd.pid"));
    let pid = path_io::read_to_string(file).expect("its process");
    let pid = pid
        .trim()
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

impl Server {
    /// Waits until a member is as it is to be: `ONLINE`.
    #[track_caller]
    fn until_member(&self, name: &str, state: &str) {
        let began = Instant::now();
        loop {
            let all = self.incus("cluster list -f csv -c ns");
            if all.lines().any(|line| line == format!("{name},{state}")) {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{name} is not {state}:\n{all}"
            );
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Runs the server's own client until it succeeds: a member that came back takes no such word at once.
    #[track_caller]
    fn incus_soon(&self, words: &[&str]) {
        let began = Instant::now();
        loop {
            let mut command = Command::new("incus");
            command.args(words).env("HOME", self.path().join("home"));
            let ended = ended(&mut command);
            if ended.code == Some(0) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{ended:#?}");
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn locations(&self) -> Vec<String> {
        let all = self.incus("list -f csv -c nL");
        let mut all: Vec<String> = all.lines().map(str::to_owned).collect();
        all.sort_unstable();
        all
    }
}

#[test]
fn what_a_cluster_has_is_as_git_says_whatever_its_members_do() {
    let server = Server::furnished("clu", 79);
    server.write("fast.yaml", FAST);
    server.write("three.yaml", THREE);
    server.edit(
        "two.yaml",
        "  state: Stopped\n",
        "  state: Running\n  placement: { member: n2 }\n",
    );
    server.edit(
        "one.yaml",
        "  state: Running\n",
        "  state: Running\n  placement: { member: n1 }\n",
    );
    server.converge();
    assert_eq!(
        server.locations(),
        ["clu-one,n1", "clu-three,n3", "clu-two,n2"]
    );
    let size = |member: &str| {
        let size = server.incus(&format!("storage get clu-fast size --target {member}"));
        size.trim_end().to_owned()
    };
    assert_eq!([size("n1"), size("n2")], ["256MiB", "320MiB"]);
    server.edit("fast.yaml", "320MiB", "384MiB");
    server.edit("fast.yaml", "256MiB", "288MiB");
    server.converge();
    assert_eq!(
        [size("n1"), size("n2"), size("n3")],
        ["288MiB", "384MiB", "288MiB"]
    );
    server.incus("storage set clu-fast size 300MiB --target n3");
    assert_eq!(server.drifted(), ["storage-pool/clu-fast /spec/members/n3"]);
    server.edit("fast.yaml", "288MiB", "300MiB");
    server.converge();
    // Where it was to be made is a hint: nothing happens where somebody says otherwise afterwards.
    server.edit("three.yaml", "member: n3", "member: n1");
    server.converge();
    assert_eq!(
        server.locations(),
        ["clu-one,n1", "clu-three,n3", "clu-two,n2"]
    );

    // A member is gone: what it has is not known, and nothing is concluded from that.
    kill(2);
    server.until_member("n2", "OFFLINE");
    let two =
        path_io::read_to_string(server.path().join("manifests/two.yaml")).expect("it is there");
    for gone in [false, true] {
        if gone {
            server.unwrite("two.yaml");
        }
        let plan = server.keel(&["plan", "-o", "json"]).with(0).json();
        assert_eq!(
            plan["changes"].as_array().map(Vec::len),
            Some(0),
            "{plan:#}"
        );
        let status = server.keel(&["status"]).with(0).stdout;
        assert!(
            status.contains("member n2 of the cluster is out of reach"),
            "{status}"
        );
    }
    server.write("two.yaml", &two);
    begin(2);
    server.until_member("n2", "ONLINE");
    server.nothing_to_do();
    assert_eq!(
        server.locations(),
        ["clu-one,n1", "clu-three,n3", "clu-two,n2"]
    );

    server.incus_soon(&["cluster", "evacuate", "n2", "--force"]);
    server.nothing_to_do();
    server.incus_soon(&["cluster", "restore", "n2", "--force"]);
    server.until_member("n2", "ONLINE");
    server.nothing_to_do();

    // What is on each member is on a new one as well.
    server.unwrite("fast.yaml");
    server
        .keel(&["apply", "--yes", "--approve", "G102"])
        .with(0);
    begin(4);
    server.until_member("n4", "ONLINE");
    server.nothing_to_do();
    server.write(
        "four.yaml",
        &THREE
            .replace("clu-three", "clu-four")
            .replace("member: n3", "member: n4"),
    );
    server.converge();
    assert!(
        server.locations().contains(&"clu-four,n4".to_owned()),
        "{:?}",
        server.locations()
    );
    server.destroy();
}
