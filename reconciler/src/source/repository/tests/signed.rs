//! Commits and tags that are signed, wrongly signed, and not signed.

use manifests::controller::{HttpsAccess, Verify, VerifyMode};
use manifests::path_io;
use runtime::sys::command::run;

use super::server::Server;
use super::team::{Team, last, moved};
use super::*;
use crate::source::failure::SourceClass;

/// People with keys, of whom Ann may sign.
struct Signing {
    team: Team,
}

impl Signing {
    fn new() -> Self {
        let team = Team::new();
        let folder = team.folder.path();
        for (name, kind) in [
            ("ann", "ed25519"),
            ("eve", "ed25519"),
            ("old", "ecdsa"),
            ("big", "rsa"),
        ] {
            let key = folder.join(name);
            let key = key.to_str().expect("a path");
            run(
                "ssh-keygen",
                ["-q", "-t", kind, "-N", "", "-C", name, "-f", key],
                None,
            )
            .expect("a key");
        }
        let this = Self { team };
        this.allow(&["ann", "old", "big"], "");
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.team.folder.path().join(name)
    }

    fn allow(&self, names: &[&str], options: &str) {
        let line = |name: &&str| {
            let key = path_io::read_to_string(self.path(&format!("{name}.pub"))).expect("a key");
            format!("{name}@example.org {options} {key}")
        };
        let text: String = names.iter().map(line).collect();
        path_io::write(self.path("signers"), text).expect("written");
    }

    /// Commits something new, signed by somebody or nobody, and pushes it.
    fn commit(&self, by: Option<&str>, text: &str) -> String {
        self.team.write("web.yaml", text);
        self.team.git(&["add", "-A"]);
        self.sign(by, &["commit", "-q", "--allow-empty", "-m", "x"]);
        self.team
            .git(&["push", "-q", "--force", "--tags", "origin", "HEAD"]);
        self.team.git(&["rev-parse", "HEAD"])
    }

    fn sign(&self, by: Option<&str>, words: &[&str]) {
        let key = by.map(|by| format!("user.signingKey={}", self.path(by).display()));
        let mut all = vec!["-c", "gpg.format=ssh"];
        if let Some(key) = &key {
            all.extend(["-c", key]);
        }
        all.extend(words);
        if by.is_some() {
            all.push("-S");
        }
        self.team.git(&all);
    }

    fn follow(&self, mode: VerifyMode, change: impl FnOnce(&mut GitSource)) -> Git {
        let signers = self.path("signers");
        self.team.follow(|git| {
            git.verify = Some(Verify {
                mode,
                allowed_signers: Some(signers.to_str().expect("a path").parse().expect("a path")),
                keyring: None,
            });
            change(git);
        })
    }

    fn refused(&self, mode: VerifyMode, words: &str) {
        let error = self.follow(mode, |_| {}).latest(None).expect_err(words);
        assert_eq!(
            (error.class(), error.reason()),
            (SourceClass::Refused, "SourceNotVerified"),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn only_what_somebody_signed_who_may_is_taken_over() {
    let signing = Signing::new();
    let head = || signing.follow(VerifyMode::Head, |_| {});
    signing.commit(None, "a: 1\n");
    signing.refused(VerifyMode::Head, "not signed");
    for name in ["ann", "old", "big"] {
        signing.commit(Some(name), &format!("a: {name}\n"));
        let by = moved(&mut head(), None).signed_by;
        assert_eq!(by, Some(format!("{name}@example.org")));
    }
    signing.commit(Some("eve"), "a: 3\n");
    signing.refused(VerifyMode::Head, "nobody among the allowed signers");
    let commit = signing.commit(Some("ann"), "a: 4\n");
    // The same signature under another content.
    let text = signing.team.git(&["cat-file", "commit", &commit]);
    let forged = text.replace("\n\nx", "\n\ny") + "\n";
    let work = signing.team.work("");
    let make = [
        "-C",
        work.to_str().expect("a path"),
        "hash-object",
        "-t",
        "commit",
        "-w",
        "--stdin",
    ];
    let made = run("git", make, Some(forged.as_bytes())).expect("a commit");
    let made = String::from_utf8_lossy(&made).trim().to_owned();
    let to = format!("{made}:refs/heads/main");
    signing.team.git(&["push", "-q", "--force", "origin", &to]);
    signing.refused(VerifyMode::Head, "changed since");
    signing
        .team
        .git(&["push", "-q", "--force", "origin", "HEAD"]);
    signing.allow(&["ann"], "namespaces=\"file\"");
    signing.refused(VerifyMode::Head, "something else than git");
    signing.allow(&["ann"], "valid-before=\"20200101Z\"");
    signing.refused(VerifyMode::Head, "not valid any more");
    path_io::write(signing.path("signers"), "ann nonsense\n").expect("written");
    let error = head().latest(None).expect_err("no signers");
    assert_eq!(error.class(), SourceClass::Config, "{error}");
}

#[test]
fn every_commit_since_the_one_in_force_is_looked_at() {
    let signing = Signing::new();
    let server = Server::of(signing.team.bare());
    let authority = signing.path("ca.pem");
    path_io::write(&authority, &server.certificate).expect("written");
    let elsewhere = |git: &mut GitSource| {
        let authority = authority.to_str().expect("a path").parse();
        git.url = Some(server.address.parse().expect("an address"));
        git.https = Some(HttpsAccess {
            authority: Some(authority.expect("a path")),
            ..HttpsAccess::default()
        });
    };
    let range = || {
        [
            signing.follow(VerifyMode::Range, |_| {}),
            signing.follow(VerifyMode::Range, elsewhere),
        ]
    };
    let refused = |in_force: &Last| {
        for mut source in range() {
            let error = source
                .latest(Some(in_force))
                .expect_err("not all are signed");
            assert_eq!(error.reason(), "SourceNotVerified", "{error}");
        }
    };
    let taken = |in_force: Option<&Last>| {
        let [one, other] = range().map(|mut source| last(&moved(&mut source, in_force)));
        assert_eq!(one, other);
        one
    };
    signing.commit(Some("ann"), "a: 1\n");
    let first = taken(None);
    signing.commit(Some("ann"), "a: 2\n");
    signing.commit(Some("old"), "a: 3\n");
    let second = taken(Some(&first));
    // One that nobody signed, below one that Ann signed.
    let before = signing.commit(None, "a: 4\n");
    signing.commit(Some("ann"), "a: 5\n");
    refused(&second);
    let mut head = signing.follow(VerifyMode::Head, |_| {});
    moved(&mut head, Some(&second));
    // One on a branch that began before the one in force and was merged by Ann.
    let git = |words: &[&str]| signing.team.git(words);
    git(&["reset", "-q", "--hard", &format!("{before}~1")]);
    git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
    signing.team.write("other.yaml", "b: 1\n");
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "x"]);
    git(&["checkout", "-q", "main"]);
    signing.sign(Some("ann"), &["merge", "-q", "--no-ff", "-m", "x", "side"]);
    git(&["push", "-q", "--force", "origin", "HEAD"]);
    refused(&second);
}

#[test]
fn a_signed_tag_is_that_tag() {
    let signing = Signing::new();
    let (team, range) = (&signing.team, "^1");
    signing.commit(None, "a: 1\n");
    let tag = |name: &str, by: &str| {
        let key = format!("user.signingKey={}", signing.path(by).display());
        team.git(&[
            "-c",
            "gpg.format=ssh",
            "-c",
            &key,
            "tag",
            "-s",
            "-m",
            "x",
            name,
        ]);
    };
    let push = || team.git(&["push", "-q", "--force", "--tags", "origin", "HEAD"]);
    let follow = || {
        signing.follow(VerifyMode::Tag, |git| {
            git.semver = Some(range.parse().expect("a range"));
        })
    };
    tag("v1.0.0", "ann");
    push();
    let tree = moved(&mut follow(), None);
    assert_eq!(tree.signed_by.as_deref(), Some("ann@example.org"));
    // The signed tag again, under a higher name.
    team.git(&["update-ref", "refs/tags/v1.9.0", "refs/tags/v1.0.0"]);
    push();
    let error = follow().latest(None).expect_err("it lies");
    assert!(
        error.to_string().contains("that of the tag `v1.0.0`"),
        "{error}"
    );
    tag("v1.10.0", "eve");
    push();
    let error = follow().latest(None).expect_err("by Eve");
    assert_eq!(error.reason(), "SourceNotVerified", "{error}");
    team.git(&["tag", "v1.11.0"]);
    push();
    let error = follow().latest(None).expect_err("no annotated tag");
    assert!(error.to_string().contains("not signed"), "{error}");
}

#[test]
fn a_signature_of_gnupg_is_checked_against_a_keyring() {
    let signing = Signing::new();
    let home = signing.path("gnupg");
    path_io::create_dir_all(&home).expect("a folder");
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    std::fs::set_permissions(&home, mode).expect("private");
    let home = home.to_str().expect("a path").to_owned();
    let gpg = |words: &[&str]| {
        let mut all = vec!["--homedir", &home, "--batch", "--quiet", "--passphrase", ""];
        all.extend(words);
        run("gpg", all, None).unwrap_or_else(|error| panic!("{error}"))
    };
    for name in ["Ann <ann@example.org>", "Eve <eve@example.org>"] {
        gpg(&["--quick-generate-key", name, "ed25519", "sign", "never"]);
    }
    let ring = signing.path("ring.gpg");
    path_io::write(&ring, gpg(&["--export", "ann@example.org"])).expect("written");
    let program = signing.path("sign");
    path_io::write(
        &program,
        format!("#!/bin/sh\nexec gpg --homedir {home} --batch --passphrase '' \"$@\"\n"),
    )
    .expect("written");
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("a program");
    let commit = |by: &str| {
        let (program, key) = (
            format!("gpg.program={}", program.display()),
            format!("user.signingKey={by}"),
        );
        signing.team.write("web.yaml", &format!("a: {by}\n"));
        signing.team.git(&["add", "-A"]);
        signing
            .team
            .git(&["-c", &program, "-c", &key, "commit", "-q", "-m", "x", "-S"]);
        signing
            .team
            .git(&["push", "-q", "--force", "origin", "HEAD"]);
    };
    let follow = |ring: &std::path::Path| {
        signing.follow(VerifyMode::Head, |git| {
            let verify = git.verify.as_mut().expect("settings");
            verify.keyring = Some(ring.to_str().expect("a path").parse().expect("a path"));
        })
    };
    commit("ann@example.org");
    let by = moved(&mut follow(&ring), None).signed_by.expect("Ann");
    assert!(by.starts_with("Ann <ann@example.org> ("), "{by}");
    assert!(!signing.team.stores().join("edge.signature").exists());
    signing.refused(VerifyMode::Head, "no `keyring` is set");
    commit("eve@example.org");
    let error = follow(&ring).latest(None).expect_err("by Eve");
    assert_eq!(error.reason(), "SourceNotVerified", "{error}");
    let error = follow(&signing.path("gone"))
        .latest(None)
        .expect_err("no keyring");
    assert_eq!(error.class(), SourceClass::Config, "{error}");
    let stop = ["--homedir", &home, "--kill", "gpg-agent"];
    run("gpgconf", stop, None).expect("ended");
}
