//! The ways to a repository elsewhere, and what may happen on them.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use manifests::controller::{HttpsAccess, SshAccess, Token};
use manifests::path_io;
use runtime::sys::command::run;

use super::server::Server;
use super::team::{Team, last, moved, names};
use super::*;
use crate::source::failure::SourceClass;

/// What follows a repository by https, its server, and who works in it.
struct Elsewhere {
    team: Team,
    server: Server,
}

impl Elsewhere {
    fn new() -> Self {
        let team = Team::new();
        team.write("keel.yaml", "kind: Source\n");
        team.write("edge/web.yaml", "a: 1\n");
        team.push("one");
        let server = Server::of(team.bare());
        path_io::write(team.folder.path().join("ca.pem"), &server.certificate).expect("written");
        Self { team, server }
    }

    fn follow(&self, change: impl FnOnce(&mut GitSource, &mut HttpsAccess)) -> Git {
        self.team.follow(|git| {
            git.url = Some(self.server.address.parse().expect("an address"));
            let authority = self.team.folder.path().join("ca.pem");
            let authority = authority.to_str().expect("a path").parse();
            let mut https = HttpsAccess {
                authority: Some(authority.expect("a path")),
                ..HttpsAccess::default()
            };
            change(git, &mut https);
            git.https = Some(https);
        })
    }
}

#[test]
fn a_repository_is_followed_by_https_in_both_protocols() {
    for is_old in [false, true] {
        let elsewhere = Elsewhere::new();
        let (team, server) = (&elsewhere.team, &elsewhere.server);
        server.set(|manner| manner.is_old = is_old);
        let mut source = elsewhere.follow(|_, _| {});
        let tree = moved(&mut source, None);
        assert_eq!(names(&tree), ["edge/web.yaml", "keel.yaml"]);
        let repository = tree.repository.clone().expect("a repository");
        assert!(
            repository
                .remote
                .expect("an address")
                .ends_with("/team/edge")
        );
        let first = last(&tree);
        // One question where nothing moved, two in the protocol that asks for references.
        server.set(|manner| manner.is_old = is_old);
        let unchanged = source.latest(Some(&first)).expect("asked");
        assert!(
            matches!(unchanged, Latest::Unchanged { .. }),
            "{unchanged:?}"
        );
        assert_eq!(server.questions().len(), if is_old { 1 } else { 2 });
        // So too after a commit that changed nothing, though the one in force stays the one before.
        team.push("empty");
        for questions in [if is_old { 2 } else { 3 }, if is_old { 1 } else { 2 }] {
            server.set(|manner| manner.is_old = is_old);
            let unchanged = source.latest(Some(&first)).expect("asked");
            assert!(
                matches!(unchanged, Latest::Unchanged { .. }),
                "{unchanged:?}"
            );
            assert_eq!(server.questions().len(), questions);
        }
        // Forward by more commits than one, of which only the last is fetched whole.
        for number in 2..6 {
            team.write("edge/web.yaml", &format!("a: {number}\n"));
            team.push("more");
        }
        let tree = moved(&mut source, Some(&first));
        assert_eq!(tree.texts.files[0].1, "a: 5\n");
        let history = team.stores().join("edge.git.history");
        assert!(!history.exists(), "thrown away");
        // Without its store it fetches again.
        runtime::sys::remove_tree::remove_tree(&team.stores().join("edge.git")).expect("removed");
        let mut again = elsewhere.follow(|_, _| {});
        let unchanged = again.latest(Some(&last(&tree))).expect("asked");
        assert!(
            matches!(unchanged, Latest::Unchanged { .. }),
            "{unchanged:?}"
        );
        let tips = path_io::read_to_string(team.stores().join("edge.git/keel-tips"));
        assert_eq!(tips.expect("tips").lines().count(), 1);
        team.git(&["reset", "-q", "--hard", "HEAD~2"]);
        team.write("edge/web.yaml", "a: 9\n");
        team.push("rewound");
        let error = source.latest(Some(&last(&tree))).expect_err("rewound");
        assert_eq!(error.reason(), "SourceRewound", "{error}");
    }
}

#[test]
fn a_long_way_forward_is_found_in_steps() {
    let elsewhere = Elsewhere::new();
    let mut source = elsewhere.follow(|_, _| {});
    let tree = moved(&mut source, None);
    let mut stream = String::new();
    for number in 0..200 {
        let from = if number == 0 {
            "from refs/heads/main^0\n"
        } else {
            ""
        };
        let (time, text) = (1_800_000_000 + number, format!("a: {number}\n"));
        stream.push_str(&format!(
            "commit refs/heads/main\ncommitter a <a@example.org> {time} +0000\ndata 1\nx\n{from}\
             M 100644 inline edge/web.yaml\ndata {}\n{text}\n",
            text.len()
        ));
    }
    let bare = elsewhere.team.bare();
    let import = [
        "--git-dir",
        bare.to_str().expect("a path"),
        "fast-import",
        "--quiet",
    ];
    run("git", import, Some(stream.as_bytes())).expect("imported");
    elsewhere.server.set(|_| {});
    let tree = moved(&mut source, Some(&last(&tree)));
    assert_eq!(tree.texts.files[0].1, "a: 199\n");
    // What can be done, what is there, the commit; then two depths of history.
    assert_eq!(elsewhere.server.questions().len(), 5);
}

#[test]
fn how_far_a_kept_commit_is_behind_is_counted_by_commits_alone_and_once() {
    for is_old in [false, true] {
        let elsewhere = Elsewhere::new();
        let (team, server) = (&elsewhere.team, &elsewhere.server);
        server.set(|manner| manner.is_old = is_old);
        let mut source = elsewhere.follow(|_, _| {});
        let kept = moved(&mut source, None).commit.expect("a commit");
        let ahead = |commit: &str, commits| {
            Some(Ahead {
                commit: commit.to_owned(),
                commits,
            })
        };
        assert_eq!(source.ahead(&kept).expect("asked"), ahead(&kept, Some(0)));
        for number in 2..4 {
            team.write("edge/web.yaml", &format!("a: {number}\n"));
            team.push("more");
        }
        team.git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
        team.push("side");
        team.git(&["checkout", "-q", "main"]);
        team.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
        let newest = team.push("merged");
        server.set(|manner| manner.is_old = is_old);
        // Two, what was joined, the joining and what was pushed for it.
        assert_eq!(source.ahead(&kept).expect("asked"), ahead(&newest, Some(5)));
        let asked = server.questions().len();
        server.set(|manner| manner.is_old = is_old);
        assert_eq!(source.ahead(&kept).expect("asked"), ahead(&newest, Some(5)));
        assert!(server.questions().len() < asked, "it is not fetched again");
        assert!(!team.stores().join("edge.git.history").exists());
        // A server that would send all files of these commits is not asked for them.
        server.set(|manner| (manner.is_old, manner.sends_all) = (is_old, true));
        let mut other = elsewhere.follow(|_, _| {});
        assert_eq!(other.ahead(&kept).expect("asked"), ahead(&newest, None));
        // By a tag, which has a name of its own.
        server.set(|manner| manner.is_old = is_old);
        team.git(&["tag", "-a", "-m", "x", "v1"]);
        let later = team.push("later");
        let mut tagged = elsewhere.follow(|git, _| git.tag = Some("v1".parse().expect("a name")));
        assert_eq!(tagged.ahead(&kept).expect("asked"), ahead(&newest, Some(5)));
        server.set(|manner| (manner.is_old, manner.sends_all) = (is_old, true));
        let mut tagged = elsewhere.follow(|git, _| git.tag = Some("v1".parse().expect("a name")));
        assert_eq!(tagged.ahead(&kept).expect("asked"), None);
        // Written anew it does not come after what is kept.
        server.set(|manner| manner.is_old = is_old);
        team.git(&["reset", "-q", "--hard", &kept]);
        team.git(&["commit", "-q", "--amend", "-m", "other"]);
        let anew = team.push("anew");
        assert_eq!(source.ahead(&later).expect("asked"), ahead(&anew, None));
        assert_eq!(source.ahead("no name").expect("asked"), None);
    }
}

#[test]
fn a_file_that_is_too_large_does_not_come() {
    let elsewhere = Elsewhere::new();
    let mut noise = 1_u64;
    let mut next = || {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        format!("{noise:016x}")
    };
    let large: String = std::iter::repeat_with(&mut next)
        .take((17 << 20) / 16)
        .collect();
    elsewhere.team.write("large/image.iso", &large);
    elsewhere.team.push("large");
    moved(&mut elsewhere.follow(|_, _| {}), None);
    let packs = path_io::list(elsewhere.team.stores().join("edge.git/objects/pack"));
    let sizes = packs
        .expect("packs")
        .into_iter()
        .map(|pack| pack.metadata().expect("a file").len());
    assert!(sizes.sum::<u64>() < 1 << 20, "only what is read came");
    elsewhere
        .team
        .git(&["mv", "large/image.iso", "large/a.yaml"]);
    elsewhere.team.push("a manifest");
    let error = elsewhere.follow(|_, _| {}).latest(None);
    let error = error.expect_err("too large");
    assert_eq!(error.class(), SourceClass::Refused, "{error:?}");
    assert!(error.to_string().contains("large/a.yaml"), "{error}");
}

#[test]
fn a_proxy_is_gone_through() {
    let elsewhere = Elsewhere::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = format!("http://{}", listener.local_addr().expect("an address"));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).expect("a head");
                head.extend(byte);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let to = head.split(' ').nth(1).expect("a server").to_owned();
            tell.send(to.clone()).expect("heard");
            let port = to.rsplit(':').next().expect("a port");
            let server =
                std::net::TcpStream::connect(format!("127.0.0.1:{port}")).expect("reached");
            client
                .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
                .expect("answered");
            let (mut from, mut into) = (
                client.try_clone().expect("one"),
                server.try_clone().expect("one"),
            );
            std::thread::spawn(move || std::io::copy(&mut from, &mut into));
            let (mut from, mut into) = (server, client);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut into);
                let _ = into.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    moved(
        &mut elsewhere.follow(|_, https| https.proxy = Some(proxy)),
        None,
    );
    let to = told
        .recv_timeout(Duration::from_secs(5))
        .expect("gone through");
    assert!(to.starts_with("localhost:"), "{to}");
}

#[test]
fn a_store_that_is_broken_is_fetched_again() {
    let elsewhere = Elsewhere::new();
    let mut source = elsewhere.follow(|_, _| {});
    moved(&mut source, None);
    let packs = elsewhere.team.stores().join("edge.git/objects/pack");
    for pack in path_io::list(packs).expect("packs") {
        path_io::remove_file(pack).expect("removed");
    }
    let mut again = elsewhere.follow(|_, _| {});
    moved(&mut again, None);
}

#[test]
fn a_server_that_does_not_answer_as_it_should_is_told() {
    let elsewhere = Elsewhere::new();
    let server = &elsewhere.server;
    let ask = |change: fn(&mut GitSource, &mut HttpsAccess)| {
        let mut source = elsewhere.follow(change);
        source.latest(None).expect_err("refused")
    };
    let told = |error: &SourceError| format!("{} {error:?}", error.reason());
    server.set(|manner| manner.authorization = Some("Bearer s3cret".to_owned()));
    let error = ask(|_, _| {});
    assert_eq!(error.class(), SourceClass::Config, "{}", told(&error));
    assert!(error.to_string().contains("wants a token"), "{error}");
    let token = |https: &mut HttpsAccess| {
        https.token = Some(Token {
            environment: Some("TOKEN".to_owned()),
            ..Token::default()
        });
    };
    moved(&mut elsewhere.follow(|_, https| token(https)), None);
    server.set(|manner| manner.authorization = Some("Basic Ym90OnMzY3JldA==".to_owned()));
    let error = elsewhere
        .follow(|_, https| token(https))
        .latest(None)
        .expect_err("another");
    assert!(!told(&error).contains("s3cret"), "{}", told(&error));
    let basic = |https: &mut HttpsAccess| {
        token(https);
        https.user = Some("bot".to_owned());
    };
    moved(&mut elsewhere.follow(|_, https| basic(https)), None);
    // To the same server, and to another one.
    let here = server.address.replace("/team/", "/moved/");
    let to = format!("{here}/info/refs?service=git-upload-pack");
    server.set(|manner| manner.redirect = Some(to));
    moved(&mut elsewhere.follow(|_, _| {}), None);
    assert!(
        server
            .questions()
            .iter()
            .any(|line| line.starts_with("POST /moved/"))
    );
    server.set(|manner| manner.redirect = Some("https://127.0.0.1:1/x".to_owned()));
    let error = ask(|_, _| {});
    assert_eq!(error.class(), SourceClass::Retry, "{}", told(&error));
    assert!(told(&error).contains("sends elsewhere"), "{}", told(&error));
    server.set(|manner| manner.status = Some("404 Not Found"));
    assert_eq!(ask(|_, _| {}).reason(), "SourceMissing");
    server.set(|manner| manner.status = Some("503 Service Unavailable"));
    assert_eq!(ask(|_, _| {}).class(), SourceClass::Retry);
    server.set(|manner| manner.status = Some("200 OK"));
    assert!(ask(|_, _| {}).to_string().contains("text/html"));
    server.set(|manner| manner.hangs = true);
    let error = ask(|git, _| git.timeout = "1s".parse().expect("a time"));
    assert_eq!(error.reason(), "SourceTooSlow", "{}", told(&error));
    for said in [
        "<html>",
        "0000",
        "000eversion 2\n0000",
        "0010ERR no such\n",
        "fff0",
        "0009abcde0000",
    ] {
        server.set(|manner| manner.says = Some(said.as_bytes().to_vec()));
        let error = ask(|_, _| {});
        assert_ne!(
            error.class(),
            SourceClass::Config,
            "{said}: {}",
            told(&error)
        );
    }
    server.set(|_| {});
    let error = ask(|_, https| https.authority = None);
    assert_eq!(error.class(), SourceClass::Retry, "{}", told(&error));
    for url in [
        "https://localhost:1/team/edge.git",
        "https://nowhere.invalid/edge.git",
    ] {
        let mut source =
            elsewhere.follow(|git, _| git.url = Some(url.parse().expect("an address")));
        let error = source.latest(None).expect_err("nobody is there");
        assert_eq!(
            (error.class(), error.reason()),
            (SourceClass::Retry, "SourceUnreachable"),
            "{error:?}"
        );
    }
    let error = ask(|git, _| git.branch = Some("gone".parse().expect("a name")));
    assert_eq!(error.reason(), "SourceNotThere", "{}", told(&error));
    let error = ask(|git, _| git.commit = Some("1".repeat(40).parse().expect("a name")));
    assert_eq!(error.reason(), "SourceNotThere", "{}", told(&error));
}

#[test]
fn a_repository_with_many_references_costs_no_more_than_one() {
    let elsewhere = Elsewhere::new();
    let (team, server) = (&elsewhere.team, &elsewhere.server);
    let head = team.git(&["rev-parse", "HEAD"]);
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for number in 0..100_000 {
        packed.push_str(&format!("{head} refs/heads/a/{number:06}\n"));
    }
    packed.push_str(&format!("{head} refs/heads/main\n"));
    path_io::write(team.bare().join("packed-refs"), packed).expect("written");
    for is_old in [false, true] {
        server.set(|manner| manner.is_old = is_old);
        let mut source =
            elsewhere.follow(|git, _| git.branch = Some("main".parse().expect("a name")));
        assert_eq!(
            moved(&mut source, None).commit.as_deref(),
            Some(head.as_str())
        );
    }
    let mut local = team.follow(|git| git.branch = Some("a/099999".parse().expect("a name")));
    assert_eq!(
        moved(&mut local, None).commit.as_deref(),
        Some(head.as_str())
    );
}

#[test]
fn a_repository_is_followed_by_ssh() {
    let team = Team::new();
    team.write("web.yaml", "a: 1\n");
    team.push("one");
    // In the place of the client: it notes its words, and lets git answer as the server would.
    let (client, noted) = (
        team.folder.path().join("ssh"),
        team.folder.path().join("noted"),
    );
    let script = format!(
        "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done > {noted}\n\
         case \"$GIT_PROTOCOL\" in version=2) ;; *) exit 9;; esac\n\
         while [ \"$1\" != -- ]; do shift; done\n\
         case \"$2\" in\n\
         denied) echo 'git@denied: Permission denied (publickey).' >&2; exit 255;;\n\
         hangs) exec sleep 30;;\n\
         old) unset GIT_PROTOCOL;;\n\
         esac\n\
         eval \"set -- $3\"\n\
         exec git -c safe.directory='*' -c uploadpack.allowFilter=true upload-pack \"$2\"\n",
        noted = noted.display()
    );
    path_io::write(&client, script).expect("written");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&client, mode).expect("a program");
    let follow = |host: &str| {
        let url = format!("ssh://git@{host}{}", team.bare().display());
        team.follow_by(client.to_str().expect("a path"), |git| {
            git.url = Some(url.parse().expect("an address"));
            git.timeout = "2s".parse().expect("a time");
            git.ssh = Some(SshAccess {
                key: Some("/etc/keel/id".parse().expect("a path")),
                known_hosts: Some("/etc/keel/known_hosts".parse().expect("a path")),
            });
        })
    };
    for host in ["new", "old"] {
        let mut source = follow(host);
        let tree = moved(&mut source, None);
        assert_eq!(names(&tree), ["web.yaml"]);
        for _ in 0..3 {
            team.write("web.yaml", &format!("a: {host} {}\n", team.push("more")));
        }
        team.push("more");
        moved(&mut source, Some(&last(&tree)));
    }
    let words = path_io::read_to_string(&noted).expect("words");
    for word in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "IdentityFile=/etc/keel/id",
        "User=git",
    ] {
        assert!(words.lines().any(|line| line == word), "{word}: {words}");
    }
    let error = follow("denied").latest(None).expect_err("denied");
    assert_eq!(error.class(), SourceClass::Config, "{error:?}");
    assert!(error.to_string().contains("Permission denied"), "{error}");
    let error = follow("hangs").latest(None).expect_err("it hangs");
    assert_eq!(error.reason(), "SourceTooSlow", "{error:?}");
}
