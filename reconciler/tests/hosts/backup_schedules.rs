//! Backups by schedule: due by the clock, made up for once, thinned, and never of what they did not make.

use std::path::Path;

use manifests::path_io;
use serde_json::{Value, json};

use crate::world::{Ended, TestWorld, ended};

/// A `keel` at another time.
fn keel_at(world: &TestWorld, now: &str, arguments: &[&str]) -> Ended {
    ended(world.command(arguments).env("KEEL_NOW", now))
}

fn run_due(world: &TestWorld, now: &str) -> String {
    keel_at(world, now, &["backup", "run-due"]).with(0).stderr
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let all = path_io::list(folder).expect("listed");
    let mut all: Vec<String> = all
        .iter()
        .map(|path| {
            path.file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    all.sort();
    all
}

fn listed(world: &TestWorld, now: &str, more: &[&str]) -> Value {
    let arguments = [&["backup", "list", "-o", "json"], more].concat();
    keel_at(world, now, &arguments).with(0).json()
}

runtime::own_processes_test! {
    fn backups_are_made_when_they_are_due_and_only_their_own_go() {
        let world = TestWorld::furnished();
        let kept = tempfile::tempdir().expect("a folder");
        let folder = kept.path().join("target");
        path_io::create_dir_all(&folder).expect("made");
        world.unwrite("two.yaml");
        let keys = |name: &str| format!("{}/src/secrets/vectors/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = path_io::read_to_string(keys("key")).expect("a key");
        let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("a recipient");
        let backup = |more: &str| {
            format!(
                "apiVersion: evenkeel/v1\nkind: Backup\nmetadata: {{ name: nightly }}\nspec:\n  schedule: \"30 2 * * *\"\n  \
                 timeZone: Europe/Berlin\n  selector: {{ names: [one] }}\n  destination: {{ path: {} }}\n{more}",
                folder.display()
            )
        };
        let keep = "  retention: { keepLast: 2 }\n";
        world.write("backup.yaml", &backup("  encryptTo: [age1nobody]\n"));
        world.keel(&["validate"]).with(3).saying("is no recipient of age");
        world.write("backup.yaml", &backup("  compression: xz\n"));
        world.keel(&["plan"]).with(3).saying("packs backups by zstd only");
        world.write("rules.yaml", "apiVersion: evenkeel/v1\nkind: Project\nmetadata: { name: default }\nspec:\n  restrictions: { enabled: true, diskPaths: [/] }\n");
        world.write("backup.yaml", &backup(keep));
        world.keel(&["validate"]).with(3).saying("does not allow backups");
        world.unwrite("rules.yaml");
        world.converge();
        assert_eq!(world.get("backup/nightly")["spec"]["timeZone"], "Europe/Berlin");

        // Seen for the first time: what was due before is not missed.
        assert_eq!(run_due(&world, "2026-03-27T12:00:00Z"), "");
        assert_eq!(names(&folder), [""; 0]);
        let seen = listed(&world, "2026-03-27T12:00:00Z", &[]);
        assert_eq!(seen["due"][0]["next"], "2026-03-28T01:30:00Z", "{seen:#}");
        let said = run_due(&world, "2026-03-28T01:30:00Z");
        assert!(said.contains("instance/one is in instance_one_20260328T013000Z.keel") && said.contains("by backup/nightly"), "{said}");
        assert_eq!(run_due(&world, "2026-03-28T01:31:00Z"), "");
        assert_eq!(names(&folder), ["instance_one_20260328T013000Z.keel", "instance_one_20260328T013000Z.keel.json"]);
        // Somebody else's, in the same folder; one of a kill, of which only the note is there; and one by hand.
        path_io::write(folder.join("treasure.keel"), "gold").expect("written");
        path_io::write(folder.join("notes"), "mine").expect("written");
        let note = path_io::read_to_string(folder.join("instance_one_20260328T013000Z.keel.json")).expect("a note");
        path_io::write(folder.join("instance_one_20260101T000000Z.keel.json"), &note).expect("written");
        let mine = folder.join("mine.keel").display().to_string();
        world.keel(&["backup", "export", "one", "-o", &mine]).with(0);
        // Three nights in which the host was off are one; then the first one goes.
        run_due(&world, "2026-03-31T09:00:00Z");
        let said = run_due(&world, "2026-04-01T09:00:00Z");
        assert!(said.contains("instance_one_20260328T013000Z.keel no more"), "{said}");
        let there = [
            "instance_one_20260331T090000Z.keel",
            "instance_one_20260331T090000Z.keel.json",
            "instance_one_20260401T090000Z.keel",
            "instance_one_20260401T090000Z.keel.json",
            "mine.keel",
            "notes",
            "treasure.keel",
        ];
        assert_eq!(names(&folder), there);
        let seen = keel_at(&world, "2026-04-01T10:00:00Z", &["get", "backup", "nightly", "-o", "json"]).with(0).json();
        assert_eq!(seen["status"]["lastRun"], "2026-04-01T09:00:00Z", "{seen:#}");
        assert_eq!(seen["status"]["selected"], json!(["instance/one"]));
        let seen = listed(&world, "2026-04-01T10:00:00Z", &[]);
        let state = |at: usize| (seen["files"][at]["whole"].clone(), seen["files"][at]["object"].clone(), seen["files"][at]["sums"].clone());
        assert_eq!(state(0), (json!(true), json!("instance/one"), json!("unknown")), "{seen:#}");
        assert_eq!(state(3).0, Value::Null);
        let page = keel_at(&world, "2026-04-01T10:00:00Z", &["backup", "list", "--check"]).with(1).stdout;
        assert!(page.matches("sums ok").count() == 3 && page.contains("treasure.keel"), "{page}");

        // What is cut short is none: it neither counts nor goes, and the last good one stays.
        let newest = folder.join("instance_one_20260401T090000Z.keel");
        let bytes = path_io::read(&newest).expect("read");
        path_io::write(&newest, &bytes[..bytes.len() / 2]).expect("written");
        let seen = listed(&world, "2026-04-01T10:00:00Z", &[]);
        assert_eq!(seen["files"][1]["whole"], false, "{seen:#}");
        let said = run_due(&world, "2026-04-02T09:00:00Z");
        assert!(!said.contains("no more"), "{said}");
        assert!(names(&folder).contains(&"instance_one_20260331T090000Z.keel".to_owned()));

        // A folder that is away: it is tried again later, told, and nothing is put in its place.
        let away = kept.path().join("away");
        path_io::rename(&folder, &away).expect("moved");
        let failed = keel_at(&world, "2026-04-03T09:00:00Z", &["backup", "run-due"]).with(7);
        assert!(failed.stderr.contains("the backup by backup/nightly was not made"), "{failed:?}");
        assert!(!folder.exists());
        assert_eq!(run_due(&world, "2026-04-03T09:01:00Z"), "");
        let told = keel_at(&world, "2026-04-03T09:30:00Z", &["drift", "-o", "json"]).json();
        assert!(told.to_string().contains("backup/nightly"), "{told:#}");
        let told = keel_at(&world, "2026-04-03T09:30:00Z", &["status"]).stdout;
        assert!(told.contains("a backup by backup/nightly is due since"), "{told}");
        path_io::rename(&away, &folder).expect("moved");
        let said = run_due(&world, "2026-04-03T09:31:00Z");
        assert!(said.contains("instance_one_20260403T093100Z.keel"), "{said}");

        // Encrypted, it is known what it is all the same.
        world.write("backup.yaml", &backup(&format!("{keep}  encryptTo: [{recipient}]\n")));
        world.converge();
        run_due(&world, "2026-04-04T09:00:00Z");
        let sealed = folder.join("instance_one_20260404T090000Z.keel").display().to_string();
        let seen = listed(&world, "2026-04-04T10:00:00Z", &[]);
        let one = seen["files"].as_array().expect("files").iter().find(|one| one["file"] == sealed.as_str()).expect("it");
        assert_eq!((&one["encrypted"], &one["object"]), (&json!(true), &json!("instance/one")), "{one:#}");
        world.keel(&["backup", "verify", &sealed]).with(1).saying("it is encrypted");
        world.keel(&["backup", "import", &sealed, "--identity", &keys("key"), "--name", "again"]).with(0);
        world.keel(&["apply", "--yes", "--no-trash", "--approve", "G102"]).with(0);

        // What it made stays when it is gone.
        let before = names(&folder);
        world.unwrite("backup.yaml");
        world.keel(&["apply", "--yes", "--approve", "G102,G101"]).with(0);
        assert_eq!(run_due(&world, "2026-05-04T09:00:00Z"), "");
        assert_eq!(names(&folder), before);
        world.nothing_to_do();
        world.destroy();
        world.nothing_left();
    }
}
