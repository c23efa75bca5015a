//! Settings as people write them, and what is wrong with some.

use super::*;
use crate::controller::source::VerifyMode;

#[test]
fn settings_mean_what_they_say() {
    let text = "\
apiVersion: evenkeel/v1
kind: Controller
interval: 5m
sources:
  - name: edge
    git:
      url: git@git.example.org:team/edge.git
      branch: main
      path: hosts/edge
      ssh: { key: /etc/keel/id, knownHosts: /etc/keel/known_hosts }
      verify: { mode: range, allowedSigners: /etc/keel/signers }
    projects: [shop]
    dependsOn: [base]
  - name: base
    directory: { path: /etc/keel/base }
";
    let (controller, found) = read("controller.yaml", text);
    let controller = controller.unwrap_or_else(|| panic!("{found:?}"));
    let git = controller.sources[0].git.as_ref().expect("a repository");
    assert_eq!(git.wanted().to_string(), "branch main");
    assert_eq!(git.interval, Duration::from_seconds(60));
    let verify = git.verify.as_ref().expect("signers");
    assert_eq!(verify.mode, VerifyMode::Range);
    assert_eq!(controller.sources[1].depends_on, Vec::<String>::new());
    let empty = "apiVersion: evenkeel/v1\nkind: Controller\n";
    assert_eq!(read("x", empty).0, Some(Controller::default()));
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place() {
    let text = "\
apiVersion: evenkeel/v1
kind: Controler
interval: 0s
sources:
  - name: edge
    git:
      url: /srv/git/edge.git
      branch: main
      tag: v1
      path: ../x
      ssh: { key: /etc/keel/id }
      verify: { mode: head }
    dependsOn: [bas, b]
  - name: edge
    directory: { path: /a }
  - name: b
    git: { url: 'https://git.example.org/b', https: { token: {}, proxy: nowhere }, verify: { mode: tag, keyring: /k } }
    dependsOn: [edge]
  - name: base
  - directory: {}
";
    let (controller, found) = read("c.yaml", text);
    assert_eq!(controller, None);
    let told: Vec<String> = found
        .sorted()
        .iter()
        .map(|one| format!("{}:{} {}", one.origin.line, one.origin.column, one.message))
        .collect();
    let expected = [
        "2:7 the settings of a controller are of kind Controller",
        "3:11 0s is too short",
        "9:12 both `branch` and `tag` say what is followed",
        "10:13 `../x` is no folder of a repository",
        "11:12 /srv/git/edge.git is not reached by ssh",
        "12:15 field `allowedSigners` is missing in sources.0.git.verify",
        "13:17 there is no source `bas`",
        "14:11 two sources are called `edge`",
        "17:62 a token is in one place",
        "17:73 `nowhere` is no proxy",
        "17:100 no tag is followed here",
        "19:5 field `git` is missing in sources.3",
        "20:5 field `name` is missing in sources.4",
        "20:16 field `path` is missing in sources.4.directory",
    ];
    let plain: Vec<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(plain, expected, "{told:#?}");
}

#[test]
fn sources_do_not_wait_for_each_other() {
    let text = "\
apiVersion: evenkeel/v1
kind: Controller
sources:
  - { name: a, directory: { path: /a }, dependsOn: [b] }
  - { name: b, directory: { path: /b }, dependsOn: [c] }
  - { name: c, directory: { path: /c }, dependsOn: [b] }
  - { name: d, directory: { path: /d } }
";
    let (_, found) = read("c.yaml", text);
    let told: Vec<&str> = found
        .sorted()
        .iter()
        .map(|one| one.message.as_str())
        .collect();
    assert_eq!(told, ["these sources wait for each other: a, b, c"]);
}

#[test]
fn words_that_are_not_known_have_a_nearest_one() {
    let text = "\
apiVersion: evenkeel/v1
kind: Controller
source: []
sources:
  - name: edge
    git: { url: 'http://git.example.org/e', brnch: main, commit: abc }
";
    let (_, found) = read("c.yaml", text);
    let hints: Vec<String> = found
        .sorted()
        .iter()
        .map(|one| {
            format!(
                "{} | {}",
                one.message,
                one.hint.as_deref().unwrap_or_default()
            )
        })
        .collect();
    assert!(
        hints[0].contains("`source`") && hints[0].contains("sources"),
        "{hints:#?}"
    );
    assert!(
        hints
            .iter()
            .any(|one| one.contains("brnch") && one.contains("branch")),
        "{hints:#?}"
    );
    assert!(
        hints.iter().any(|one| one.contains("by http")),
        "{hints:#?}"
    );
    assert!(
        hints
            .iter()
            .any(|one| one.contains("40 hexadecimal digits")),
        "{hints:#?}"
    );
    assert!(read("c.yaml", "").1.has_errors());
    assert!(read("c.yaml", "- a\n").1.has_errors());
}

#[test]
fn targets_of_messages_are_checked_as_a_whole() {
    let text = "\
apiVersion: evenkeel/v1
kind: Controller
notifications:
  - name: team
    events: [failed, recoverd]
    webhook: { url: https://chat.example.org/x }
";
    let (controller, found) = read("c.yaml", text);
    assert_eq!(controller, None);
    let message = &found.sorted()[0].message;
    assert!(message.contains("recoverd"), "{message}");
    let text = "\
apiVersion: evenkeel/v1
kind: Controller
notifications:
  - name: team
    sources: [edge]
    repeat: 1s
    webhook: {}
    exec: { command: [tell] }
  - name: team
    matrix: { room: abc }
  - name: c
    mail: { to: ['-oQ/tmp', ops@example.org], from: \"a\\nb\" }
    repeat: 0s
  - name: d
    slack: { url: https://a.example.org/, urlFrom: { credential: slack } }
  - name: e
";
    let (controller, found) = read("c.yaml", text);
    assert_eq!(controller, None);
    let told: Vec<String> = found
        .sorted()
        .iter()
        .map(|one| format!("{}:{} {}", one.origin.line, one.origin.column, one.message))
        .collect();
    let expected = [
        "5:15 there is no source `edge`",
        "6:13 1s is too short to be reminded",
        "7:14 field `url` is missing in notifications.0.webhook",
        "8:11 a target is in one place",
        "8:22 `tell` is no whole path",
        "9:11 two targets are called `team`",
        "10:13 field `server` is missing in notifications.1.matrix",
        "10:13 field `token` is missing in notifications.1.matrix",
        "10:21 `abc` is no room",
        "12:18 `-oQ/tmp` is no address of mail",
        "12:53 `a\\nb` is no address of mail",
        "15:52 both `url` and `urlFrom` say where messages go",
        "16:5 field `webhook` is missing in notifications.4",
    ];
    assert_eq!(told, expected);
}

#[test]
fn who_asks_over_the_network_is_told_by_one_thing() {
    let text = "\
apiVersion: evenkeel/v1
kind: Controller
api:
  tls:
    listen: everywhere
    certificate: /etc/keel/tls/server.pem
    access:
      - { subject: alice, fingerprint: 'sha256:00' }
      - { role: admin }
";
    let (_, found) = read("c.yaml", text);
    let told: Vec<String> = found
        .sorted()
        .iter()
        .map(|one| format!("{}:{} {}", one.origin.line, one.origin.column, one.message))
        .collect();
    let expected = [
        "5:5 field `authority` is missing in api.tls",
        "5:5 field `key` is missing in api.tls",
        "5:13 `everywhere` is no address with a port",
        "8:9 a line is about one subject or one fingerprint",
        "8:40 a fingerprint has 64 hexadecimal digits",
        "9:9 a line is about one subject or one fingerprint",
    ];
    let plain: Vec<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(plain, expected, "{told:#?}");
    let access = CertificateAccess {
        fingerprint: Some(format!("SHA256:{}", ["AB"; 32].join(":"))),
        ..CertificateAccess::default()
    };
    assert_eq!(access.digits(), Some("ab".repeat(32)));
}
