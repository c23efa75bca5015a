//! Secrets reach their instances and nothing else.

use manifests::path_io;
use serde_json::Value;

use crate::boot::restart_host;
use crate::world::{Ended, TestWorld, as_published, shell};

const CANARY: &str = "canary-4f1d9c";
const NEXT: &str = "canary-next-77aa";

const SECRET: &str = "\
apiVersion: evenkeel/v1
kind: Secret
metadata: { name: db }
spec: { source: { files: { password: WHERE } } }
";

const USER: &str = "\
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: two }
spec:
  image: busybox
  state: Running
  environment:
    PASSWORD: { secretRef: { name: db, key: password } }
  files:
    /etc/app.conf:
      content: { template: \"word=${secret.db.password}\\n\" }
      mode: \"0600\"
      enforce: true
  devices:
    root: { type: disk, path: /, pool: fast, size: 32MiB }
";

/// A command that must not tell.
#[track_caller]
fn quiet(world: &TestWorld, arguments: &[&str]) -> Ended {
    let ended = world.keel(arguments);
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains("canary"), "keel {arguments:?} tells: {text}");
    }
    ended
}

/// The digests of secrets in a document.
fn digests(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(digest)) = fields.get("digest")
                && (fields.contains_key("secretRef") || fields.contains_key("template"))
            {
                found.push(digest.clone());
            }
            fields.values().for_each(|below| digests(below, found));
        }
        Value::Array(items) => items.iter().for_each(|below| digests(below, found)),
        _ => {}
    }
}

runtime::own_processes_test! {
    fn a_secret_is_in_its_instance_and_nowhere_else() {
        let world = TestWorld::furnished();
        world.unwrite("one.yaml");
        let file = world.path().join("password");
        let set = |value: &str| std::fs::write(&file, format!("{value}\n")).expect("written");
        set(CANARY);
        world.write("secret.yaml", &SECRET.replace("WHERE", file.to_str().expect("UTF-8")));
        world.write("two.yaml", USER);
        let saved = world.path().join("plan.json");
        let saved = saved.to_str().expect("UTF-8");
        quiet(&world, &["validate"]).with(0);
        quiet(&world, &["render"]).with(0);
        quiet(&world, &["plan", "--detail", "full"]).with(0);
        quiet(&world, &["plan", "-o", "json", "--save", saved]).with(0);
        quiet(&world, &["apply", saved]).with(0);
        quiet(&world, &["plan", "--detailed-exitcode"]).with(0);
        let inside = |command: &str| world.keel(&["exec", "two", "--", "sh", "-c", command]).with(0).stdout;
        assert_eq!(inside("echo $PASSWORD; cat /etc/app.conf; tr '\\0' '\\n' </proc/1/environ | grep PASSWORD"),
            format!("{CANARY}\nword={CANARY}\nPASSWORD={CANARY}\n"));
        // What the guest makes of it is drift, and is not told either.
        inside("echo word=canary-guest >/etc/app.conf");
        let drift = quiet(&world, &["drift", "--detailed-exitcode"]).with(2);
        assert!(drift.stdout.contains("(secret #"), "{drift:?}");
        let why = "its value comes from a secret";
        quiet(&world, &["drift", "accept", "instance/two"]).with(4).saying(why);
        let refused = quiet(&world, &["drift", "accept", "instance/two", "-o", "json"]).with(4).json();
        as_published("accept-report", &refused);
        assert_eq!(refused["written"], false, "{refused:#}");
        assert!(refused["refused"][0]["why"].as_str().is_some_and(|said| said.contains(why)), "{refused:#}");
        for format in ["json", "markdown", "sarif", "junit", "github", "html"] {
            quiet(&world, &["drift", "-o", format]).with(0);
            quiet(&world, &["plan", "-o", format]).with(0);
        }
        quiet(&world, &["apply", "--yes"]).with(0);
        assert_eq!(inside("cat /etc/app.conf"), format!("word={CANARY}\n"));
        // Another value is a change of a plan, and a plan of the value before is stale.
        set("canary-between");
        quiet(&world, &["plan", "--save", saved]).with(0);
        quiet(&world, &["plan", "check", saved]).with(0);
        set(NEXT);
        quiet(&world, &["plan", "check", saved]).with(5);
        let stale = quiet(&world, &["apply", saved]).with(5);
        assert!(stale.stderr.contains("(secret #1)"), "{stale:?}");
        let plan = quiet(&world, &["plan"]).with(0);
        assert!(plan.stdout.contains("(secret #1 → #2)"), "{plan:?}");
        quiet(&world, &["apply", "--yes"]).with(0);
        assert_eq!(inside("cat /etc/app.conf"), format!("word={NEXT}\n"));
        // Started again without a manifest it has what it was given last.
        quiet(&world, &["restart", "two"]).with(0);
        assert_eq!(inside("echo $PASSWORD"), format!("{NEXT}\n"));
        quiet(&world, &["plan", "--detailed-exitcode"]).with(0);
        for command in [
            &["get", "instance/two", "-o", "json"][..],
            &["get", "-o", "yaml"],
            &["describe", "instance/two"],
            &["explain", "instance/two"],
            &["history"],
            &["status"],
            &["logs", "two"],
        ] {
            quiet(&world, command).with(0);
        }
        // On disk: in the guest's own root, and nowhere else.
        let found = shell(&format!("cd {0} && grep -rl canary . | sort", world.path().display()));
        let elsewhere: Vec<&str> = found
            .lines()
            .filter(|path| *path != "./password" && !path.contains("/pools/fast/instances/"))
            .collect();
        assert!(elsewhere.is_empty(), "{found}");
        let kept = shell("find /run/keel -path '*/secrets/*' -printf '%m %U\\n' | sort -u");
        assert_eq!(kept, "400 0\n");
        // A start of the host takes them away; what starts then gets them from where its source says.
        restart_host(&world);
        quiet(&world, &["boot"]).with(0);
        assert_eq!(inside("echo $PASSWORD; cat /etc/app.conf"), format!("{NEXT}\nword={NEXT}\n"));
        std::fs::remove_file(&file).expect("removed");
        restart_host(&world);
        quiet(&world, &["boot"]).with(7).saying("`keel apply` gives it");
        set(NEXT);
        quiet(&world, &["apply", "--yes"]).with(0);
        quiet(&world, &["plan", "--detailed-exitcode"]).with(0);
        // Without the value nothing is done.
        std::fs::remove_file(&file).expect("removed");
        quiet(&world, &["plan"]).with(3).saying("S0501");
        quiet(&world, &["validate"]).with(0);
        set(NEXT);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_plan_is_made_without_the_secrets() {
        let world = TestWorld::furnished();
        world.unwrite("one.yaml");
        let at = |name: &str| world.path().join(name).to_str().expect("UTF-8").to_owned();
        let (file, live) = (at("password"), at("live.json"));
        std::fs::write(&file, format!("{CANARY}\n")).expect("written");
        world.write("secret.yaml", &SECRET.replace("WHERE", &file));
        world.write("two.yaml", USER);
        quiet(&world, &["apply", "--yes"]).with(0);
        quiet(&world, &["observe", "--save", &live]).with(0);
        let kept = path_io::read_to_string(&live).expect("saved");
        assert!(!kept.contains("canary"), "{kept}");
        let mut known = Vec::new();
        digests(&serde_json::from_str(&kept).expect("JSON"), &mut known);
        assert_eq!(known.len(), 2, "{kept}");
        let secret = |text: &str| known.iter().any(|digest| text.contains(digest.as_str()));

        // Who has no secrets takes those of the host for right.
        std::fs::remove_file(&file).expect("removed");
        quiet(&world, &["plan"]).with(3).saying("S0501");
        let plan = quiet(&world, &["plan", "--against", &live, "--detailed-exitcode"]).with(0);
        assert!(plan.stdout.contains("Nothing to do"), "{plan:?}");

        // What is new says where its values come from: nobody knows them here.
        world.write("three.yaml", &USER.replace("name: two", "name: three"));
        let more = "environment:\n    SECOND: { secretRef: { name: db, key: password } }";
        world.write("two.yaml", &USER.replace("environment:", more));
        for format in ["human", "markdown", "html"] {
            let words = ["diff", "--against", &live, "-o", format];
            let plan = quiet(&world, &words).with(0);
            assert!(plan.stdout.contains("secret db.password"), "{plan:?}");
            assert!(!plan.stdout.contains("secretRef"), "{plan:?}");
            assert!(!plan.stdout.contains("(secret #"), "{plan:?}");
        }
        for format in ["human", "json", "markdown", "html", "sarif", "junit", "github", "gitlab-plan"] {
            let plan = quiet(&world, &["plan", "--against", &live, "-o", format]).with(0);
            assert!(!secret(&plan.stdout), "{format}: {plan:?}");
        }

        // A value that moves: only the plan as a document has digests, and only in their list.
        std::fs::write(&file, format!("{NEXT}\n")).expect("written");
        let mut plan = quiet(&world, &["plan", "-o", "json"]).with(0).json();
        let listed = plan["secrets"].take();
        let listed: Vec<&str> = listed.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        assert!(listed.iter().any(|digest| secret(digest)), "{listed:?}");
        let tells = |text: &str| secret(text) || listed.iter().any(|digest| text.contains(digest));
        assert!(!tells(&plan.to_string()), "{plan}");
        for format in ["human", "markdown", "html", "sarif", "junit", "github", "gitlab-plan"] {
            for command in ["plan", "diff", "drift"] {
                let ended = world.keel(&[command, "-o", format]);
                assert!(ended.code == Some(0) || (command, format) == ("drift", "gitlab-plan"), "{ended:?}");
                assert!(!tells(&ended.stdout) && !tells(&ended.stderr), "{ended:?}");
            }
        }
        for command in [
            &["get", "-o", "json"][..],
            &["get", "-o", "yaml"],
            &["describe", "instance/two"],
            &["explain", "instance/two"],
            &["drift", "-o", "json"],
            &["history", "-o", "json"],
            &["status", "-o", "json"],
            &["render"],
        ] {
            let ended = quiet(&world, command).with(0);
            assert!(!tells(&ended.stdout), "{command:?}: {ended:?}");
        }
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_secret_that_drifted_under_an_ignore_rule_is_not_told() {
        let world = TestWorld::furnished();
        world.unwrite("one.yaml");
        let at = |name: &str| world.path().join(name).to_str().expect("UTF-8").to_owned();
        let (file, saved, live) = (at("password"), at("plan.json"), at("live.json"));
        std::fs::write(&file, format!("{CANARY}\n")).expect("written");
        world.write("secret.yaml", &SECRET.replace("WHERE", &file));
        let rule = "lifecycle:\n  ignore:\n    - { path: /spec/files/~1etc~1app.conf/content, reason: rotated by the guest }\n";
        let wanted = |more: &str| USER.replace("spec:\n", &format!("spec:\n{more}")) + rule;
        world.write("two.yaml", &wanted(""));
        quiet(&world, &["apply", "--yes"]).with(0);
        let inside = |command: &str| world.keel(&["exec", "two", "--", "sh", "-c", command]).with(0).stdout;
        let all = |told: i32| {
            for format in ["human", "json", "markdown", "sarif", "junit", "github", "gitlab-plan", "html"] {
                quiet(&world, &["drift", "--detailed-exitcode", "-o", format]).with(0);
                quiet(&world, &["plan", "--detailed-exitcode", "-o", format]).with(told);
                quiet(&world, &["diff", "-o", format]).with(0);
            }
            for command in [
                &["plan", "--detail", "full", "--save", &saved][..],
                &["observe", "--save", &live],
                &["get", "instance/two", "-o", "json"],
                &["get", "instance/two", "-o", "yaml"],
                &["describe", "instance/two"],
                &["explain", "instance/two"],
                &["explain", "instance/two", "-o", "json"],
                &["history", "-o", "json"],
                &["history", "instance/two", "-o", "json"],
                &["-v", "drift"],
            ] {
                quiet(&world, command).with(0);
            }
            for kept in [&saved, &live] {
                let text = path_io::read_to_string(kept).expect("saved");
                assert!(!text.contains("canary"), "{text}");
            }
        };
        inside("echo word=canary-guest >/etc/app.conf");
        all(0);
        // Nor is it put back on the way of another change.
        world.write("two.yaml", &wanted("  limits: { processes: 77 }\n"));
        all(2);
        quiet(&world, &["apply", "--yes"]).with(0);
        all(0);
        assert_eq!(inside("cat /etc/app.conf; echo $PASSWORD"), format!("word=canary-guest\n{CANARY}\n"));
        quiet(&world, &["restart", "two"]).with(0);
        all(0);
        assert_eq!(inside("cat /etc/app.conf; echo $PASSWORD"), format!("word=canary-guest\n{CANARY}\n"));
        // On disk: in the guest's own root, and nowhere else.
        let found = shell(&format!("cd {0} && grep -rl canary . | sort", world.path().display()));
        let elsewhere: Vec<&str> = found
            .lines()
            .filter(|path| *path != "./password" && !path.contains("/pools/fast/instances/"))
            .collect();
        assert!(elsewhere.is_empty(), "{found}");
        // After a start of the host nobody knows what the guest made of it: git's counts again.
        restart_host(&world);
        quiet(&world, &["boot"]).with(7).saying("`keel apply` gives it");
        quiet(&world, &["apply", "--yes"]).with(0);
        assert_eq!(inside("cat /etc/app.conf; echo $PASSWORD"), format!("word={CANARY}\n{CANARY}\n"));
        all(0);
        world.destroy();
    }
}
