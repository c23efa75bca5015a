//! `keel` asks a controller over the network: what it answers is told as of this host, and what it cannot do is refused.

use std::io::Write as _;
use std::process::{Command, Stdio};

use manifests::path_io;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::controller::{begin, soon, state, until};
use crate::world::{Ended, TestWorld, ended, of_output};

const ADDRESS: &str = "https://127.0.0.1:8443";

/// Somebody who signs certificates, below a folder.
fn sign(folder: &std::path::Path, authority: &str, names: &[&str]) {
    let write = |name: String, text: String| {
        path_io::write(folder.join(name), text).expect("written");
    };
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).expect("a certificate");
    write(format!("{authority}.pem"), own.pem());
    let issuer = Issuer::new(params, key);
    for name in names {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, *name);
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        write(format!("{name}.pem"), certificate.pem());
        write(format!("{name}.key"), key.serialize_pem());
    }
}

/// A `keel` on another host, which has neither state folder nor root's rights to it.
struct There<'w> {
    world: &'w TestWorld,
    authority: &'static str,
    token: Option<String>,
}

impl There<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let authority = self.world.path().join(self.authority);
        let mut command = self.world.command(arguments);
        command
            .env("KEEL_STATE_DIR", "/proc/none")
            .env("KEEL_CONTROLLER", ADDRESS)
            .env("KEEL_CONTROLLER_AUTHORITY", authority);
        if let Some(token) = &self.token {
            command.env("KEEL_TOKEN", token);
        }
        command
    }

    fn keel(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }
}

runtime::own_processes_test! {
    fn a_controller_is_asked_over_the_network_as_on_its_host() {
        let world = TestWorld::furnished();
        sign(world.path(), "authority", &["server", "alice"]);
        sign(world.path(), "stranger", &[]);
        let file = |name: &str| world.path().join(name).display().to_string();
        let settings = file("controller.yaml");
        let text = format!(
            "apiVersion: evenkeel/v1\nkind: Controller\napi:\n  tls:\n    listen: '127.0.0.1:8443'\n    certificate: {}\n    key: {}\n    \
             authority: {}\n    access:\n    - {{ subject: alice, role: operator }}\nsources:\n- name: crash\n  directory: {{ path: {} }}\n",
            file("server.pem"), file("server.key"), file("authority.pem"), file("manifests")
        );
        path_io::write(&settings, text).expect("written");
        let running = begin(&world, &["--config", &settings]);
        until("it runs", &world, || world.log().contains("settled"));
        let token = |name: &str, role: &str| {
            let made = world.keel(&["token", "create", name, "--role", role]).with(0);
            Some(made.stdout.trim().to_owned())
        };
        let authority = "authority.pem";
        let admin = There { world: &world, authority, token: token("admin", "admin") };
        let viewer = There { world: &world, authority, token: token("viewer", "viewer") };
        let nobody = There { world: &world, authority, token: None };

        // What is seen.
        assert!(admin.keel(&["status"]).with(0).stdout.contains("The controller"));
        let table = admin.keel(&["get", "instances"]).with(0).stdout;
        assert!(table.contains("one") && table.contains("Running") && table.contains("synced"), "{table}");
        let one = admin.keel(&["get", "instance/one", "-o", "json"]).with(0).json();
        assert_eq!(one["status"]["state"], json!("Running"), "{one:#}");
        let list = admin.keel(&["get", "instances", "-o", "json"]).with(0).json();
        assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list:#}");
        let told = admin.keel(&["describe", "instance", "one"]).with(0).stdout;
        assert!(told.contains("one.yaml:") && told.contains("startedAt"), "{told}");
        assert!(admin.keel(&["history"]).with(0).stdout.contains("crash"));
        assert!(admin.keel(&["history", "instance/one", "-o", "json"]).with(0).stdout.contains("started"));
        assert_eq!(admin.keel(&["plan"]).with(0).stdout, "nothing to do\n");
        assert!(admin.keel(&["events"]).with(0).stdout.contains("instance/one"));
        admin.keel(&["logs", "one"]).with(0);
        admin.keel(&["get", "instance/none"]).with(1).saying("no source has instance/none");

        // What is done.
        admin.keel(&["reconcile"]).with(0);
        admin.keel(&["suspend", "instance/two", "--reason", "its disk is looked at"]).with(0);
        assert!(world.keel(&["status"]).with(0).stdout.contains("its disk is looked at"));
        admin.keel(&["resume", "instance/two"]).with(0);
        admin.keel(&["stop", "two", "--force", "--hold", "1h", "--reason", "test"]).with(0);
        assert_eq!(state(&world, "two").as_deref(), Some("Stopped"));
        admin.keel(&["start", "two"]).with(0);
        soon("it runs again", &world, || state(&world, "two").as_deref() == Some("Running"));

        // A command, its streams and its end.
        let ran = admin.keel(&["exec", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), "out\n"), "{ran:?}");
        assert!(ran.stderr.contains("err"), "{ran:?}");
        admin.keel(&["exec", "one", "--", "/no/such/program"]).with(127);
        let killed = admin.keel(&["exec", "one", "--", "sh", "-c", "kill -9 $$"]);
        assert_eq!(killed.code, Some(137), "{killed:?}");
        let mut child = admin
            .command(&["exec", "one", "--", "sha256sum"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("keel starts");
        let mut input = child.stdin.take().expect("its input");
        // More than fits anywhere on the way.
        let writes = std::thread::spawn(move || input.write_all(&vec![b'x'; 8 << 20]).expect("written"));
        let summed = of_output(&child.wait_with_output().expect("its end"));
        writes.join().expect("written");
        let here = Command::new("sh")
            .args(["-c", "head -c 8388608 /dev/zero | tr '\\0' x | sha256sum"])
            .output()
            .expect("sums");
        assert_eq!(summed.stdout, String::from_utf8_lossy(&here.stdout), "{summed:?}");
        // Its terminal has the size of that of whoever asks, also when that changes.
        let keel = crate::world::program().display().to_string();
        let line = format!(
            "stty cols 99 rows 33; (sleep 3; stty -F /dev/tty cols 120 rows 40) & {keel} exec -t one -- sh -c 'stty size; sleep 6; stty size'"
        );
        let mut script = admin.command(&[]);
        let script = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env_clear()
            .envs(script.stdin(Stdio::null()).get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::null())
            .output()
            .expect("script is installed");
        let shown = of_output(&script);
        assert!(shown.stdout.contains("33 99") && shown.stdout.contains("40 120"), "{shown:?}");

        // A certificate says who somebody is, too.
        let (certificate, key) = (file("alice.pem"), file("alice.key"));
        let by_certificate = ["--controller-certificate", &certificate, "--controller-key", &key];
        nobody.keel(&[&by_certificate[..], &["status"]].concat()).with(0);
        nobody.keel(&[&by_certificate[..], &["exec", "one", "--", "true"]].concat()).with(125).saying("admin");
        nobody.keel(&[&by_certificate[..2], &["status"]].concat()).with(64).saying("private key");

        // What is refused, and why.
        nobody.keel(&["status"]).with(1).saying("nothing tells who you are").saying("--controller-token");
        viewer.keel(&["status"]).with(0);
        viewer.keel(&["reconcile"]).with(4).saying("viewer");
        viewer.keel(&["exec", "one", "--", "true"]).with(125);
        admin.keel(&["apply", "--yes"]).with(64).saying("done on the host itself");
        admin.keel(&["get", "--all"]).with(64).saying("--all is for this host");
        admin.keel(&["plan", "--save", "p.json"]).with(64).saying("--save is for this host");
        let stranger = There { world: &world, authority: "stranger.pem", token: None };
        stranger.keel(&["status"]).with(1).saying("invalid peer certificate").saying("--controller-authority");
        let elsewhere = ["--controller", "https://127.0.0.1:8444", "status"];
        admin.keel(&elsewhere).with(1).saying("https://127.0.0.1:8444").saying("refused");
        admin.keel(&["--controller", "edge", "status"]).with(64).saying("https://HOST:PORT");
        let missing = ["--controller-token", "/proc/none", "status"];
        admin.keel(&missing).with(64).saying("/proc/none");

        running.leave();
        world.destroy();
    }
}
