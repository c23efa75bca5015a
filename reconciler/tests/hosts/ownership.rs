//! Whose an object is: marks and the database, two sources on a host, parts, prune words, renames, trash.

use manifests::path_io;

use crate::world::{TestWorld, shell};

/// What is remembered is gone.
fn lose_database(world: &TestWorld) {
    shell(&format!("rm {}/keel.db*", world.state().display()));
}

fn named(name: &str, more: &str) -> String {
    format!(
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: {{ name: {name} }}\nspec:\n  image: busybox\n  \
         state: Running\n  devices:\n    root: {{ type: disk, path: /, pool: fast }}\n{more}"
    )
}

fn instances(world: &TestWorld, all: bool) -> Vec<String> {
    let mut arguments = vec!["get", "instances", "-o", "json"];
    if all {
        arguments.push("--all");
    }
    let found = world.keel(&arguments).with(0).json();
    let items = found["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            format!(
                "{} {}",
                text(&item["metadata"]["name"]),
                text(&item["status"]["state"])
            )
        })
        .collect()
}

runtime::own_processes_test! {
    fn a_lost_database_is_made_again_from_the_marks() {
        let world = TestWorld::furnished();
        world.converge();
        lose_database(&world);
        world.nothing_to_do();
        // Also without an apply in between drift is drift, and has an age.
        shell("ip address del 10.77.0.1/24 dev lan");
        let first = world.keel(&["drift", "-o", "json"]).with(0).json();
        assert_eq!(first["drift"][0]["path"], "/spec/ipv4/address", "{first:#}");
        assert_eq!(first["drift"][0]["times"], 1);
        let second = world.keel(&["drift", "-o", "json"]).with(0).json();
        assert_eq!(second["drift"][0]["times"], 2);
        assert!(second["drift"][0]["firstSeen"].is_string(), "{second:#}");
        world.converge();
        // What is taken out of a manifest is edited, and not added by hand by anybody.
        lose_database(&world);
        let one = world.one();
        let without: String = one.lines().filter(|line| !line.contains("data: {")).map(|line| format!("{line}\n")).collect();
        assert_ne!(one, without);
        world.write("one.yaml", &without);
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("devices.data") && !plan.contains("left alone"), "{plan}");
        world.converge();
        // Nothing of what is gone comes to mind again.
        lose_database(&world);
        world.unwrite("two.yaml");
        world.keel(&["apply", "--yes", "--approve", "G102"]).with(0);
        assert_eq!(instances(&world, true), ["one Running"]);
        lose_database(&world);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_source_is_taken_down_by_its_marks_without_its_files() {
        let world = TestWorld::furnished();
        world.converge();
        world.keel(&["-C", "/", "destroy", "--source", "nobody", "--yes"]).with(1).saying("nothing of a source nobody");
        lose_database(&world);
        shell(&format!("rm -r {0} && mkdir {0}", world.path().join("manifests").display()));
        world.keel(&["-C", "/", "destroy", "--source", "crash"]).with(64);
        assert_eq!(instances(&world, false).len(), 2);
        world.keel(&["-C", "/", "destroy", "--source", "crash", "--yes"]).with(0);
        // What holds data is in the trash, and what that needs is kept.
        let trash = world.keel(&["trash", "list", "-o", "json"]).with(0).json();
        assert_eq!(trash.as_array().map(Vec::len), Some(2));
        world.keel(&["trash", "empty", "--yes"]).with(0);
        world.keel(&["destroy", "--source", "crash", "--yes"]).with(0);
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn two_sources_on_one_host_leave_each_other_alone() {
        let world = TestWorld::furnished();
        world.converge();
        let other = world.path().join("other");
        path_io::create_dir_all(&other).expect("a folder");
        let write = |name: &str, text: &str| path_io::write(other.join(name), text).expect("a manifest");
        write("keel.yaml", "apiVersion: evenkeel/v1\nkind: Source\nname: guest\nexternal: [StoragePool/fast, Image/busybox, Network/lan]\n");
        write("own.yaml", &named("own", ""));
        write("two.yaml", crate::world::TWO);
        let other = other.to_str().expect("UTF-8");
        let plan = world.keel(&["plan", other]).with(0).stdout;
        assert!(plan.contains("G104") && plan.contains("belongs to source crash"), "{plan}");
        world.keel(&["apply", other, "--yes"]).with(7);
        assert_eq!(instances(&world, false), ["one Running", "own Running", "two Running"]);
        world.nothing_to_do();
        world.keel(&["destroy", other, "--yes", "--no-trash"]).with(0);
        assert_eq!(instances(&world, true), ["one Running", "two Running"]);
        world.nothing_to_do();

        // The same name from another folder is stopped until somebody says that it moved.
        shell(&format!("cd {} && cp -r manifests moved", world.path().display()));
        let moved = world.path().join("moved");
        let moved = moved.to_str().expect("UTF-8");
        let plan = world.keel(&["plan", moved]).with(4).stdout;
        assert!(plan.contains("G107"), "{plan}");
        world.keel(&["apply", moved, "--yes"]).with(4);
        world.keel(&["apply", moved, "--yes", "--approve", "G107"]).with(0);
        world.keel(&["plan", moved, "--detailed-exitcode"]).with(0);
        world.keel(&["plan"]).with(4);
        world.keel(&["destroy", "--yes", "--no-trash"]).with(4);
        world.keel(&["destroy", moved, "--yes", "--no-trash"]).with(0);
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn a_part_of_a_source_deletes_nothing_and_says_so() {
        let world = TestWorld::furnished();
        world.converge();
        world.unwrite("two.yaml");
        for part in [
            &["plan", "--only", "instance/one"][..],
            &["plan", "-l", "tier=web"],
            &["plan", "--exclude", "network/lan"],
            &["plan", "one.yaml"],
        ] {
            let plan = world.keel(part).with(0).stdout;
            assert!(plan.starts_with("Partial: "), "{part:?}: {plan}");
            assert!(plan.contains("nothing is deleted") && !plan.contains("DELETE"), "{part:?}: {plan}");
        }
        world.keel(&["apply", "--yes", "--only", "instance/one"]).with(0);
        world.keel(&["apply", "--yes", "one.yaml"]).with(0);
        assert_eq!(instances(&world, false), ["one Running", "two Running"]);
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("DELETE"), "{plan}");
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn the_prune_words_say_what_happens_when_a_manifest_goes() {
        let world = TestWorld::furnished();
        world.unwrite("one.yaml");
        world.unwrite("two.yaml");
        let words = ["trash", "delete", "stop", "orphan"];
        for word in words {
            world.write(&format!("{word}.yaml"), &named(word, &format!("lifecycle: {{ prune: {word} }}\n")));
        }
        world.converge();
        for word in words {
            world.unwrite(&format!("{word}.yaml"));
        }
        world.keel(&["apply", "--yes"]).with(4);
        world.keel(&["apply", "--yes", "--approve", "G102"]).with(0);
        world.nothing_to_do();
        assert_eq!(instances(&world, false), Vec::<String>::new());
        assert_eq!(instances(&world, true), ["orphan Running", "stop Stopped"]);
        let trash = world.keel(&["trash", "list"]).with(0).stdout;
        assert!(trash.contains("instance/trash") && !trash.contains("instance/delete"), "{trash}");
        // What was left is still ours to switch and to take over again.
        world.keel(&["stop", "orphan"]).with(0);
        world.keel(&["adopt", "instance/orphan", "instance/stop"]).with(0);
        world.keel(&["trash", "empty", "--yes"]).with(0);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_rename_is_a_rename() {
        let world = TestWorld::furnished();
        world.converge();
        let uid = |name: &str| world.get(&format!("instance/{name}"))["status"]["uid"].clone();
        let (before, init) = (uid("two"), world.init("two"));
        world.write("two.yaml", &crate::world::TWO.replace("name: two", "name: zwei\n  previousNames: [two]"));
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("1 rename") || plan.contains("> instance/zwei") || plan.contains("instance/two"), "{plan}");
        assert!(!plan.contains("DELETE") && !plan.contains("CREATE"), "{plan}");
        world.converge();
        assert_eq!((uid("zwei"), world.init("zwei")), (before, init));
        world.keel(&["get", "instance", "two"]).with(1);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn what_was_deleted_comes_back_and_what_was_let_go_of_is_taken_over() {
        let world = TestWorld::furnished();
        world.converge();
        world.keel(&["exec", "two", "--", "sh", "-c", "echo kept >/kept.txt"]).with(0);
        let uid = world.get("instance/two")["status"]["uid"].clone();
        world.unwrite("two.yaml");
        world.keel(&["apply", "--yes", "--approve", "G102"]).with(0);
        let list = world.keel(&["trash", "list"]).with(0).stdout;
        assert!(list.contains("instance/two") && list.contains("crash"), "{list}");
        world.keel(&["trash", "restore", "instance/nobody"]).with(4).saying("is not in the trash");
        world.keel(&["trash", "restore", "instance/two"]).with(0).saying("keel forget");
        assert_eq!(instances(&world, false), ["one Running", "two Stopped"]);
        assert_eq!(world.get("instance/two")["status"]["uid"], uid);
        world.keel(&["trash", "restore", "instance/two"]).with(4).saying("is there already");
        world.write("two.yaml", crate::world::TWO);
        world.converge();
        assert_eq!(world.keel(&["exec", "two", "--", "cat", "/kept.txt"]).with(0).stdout, "kept\n");

        // Every kind is let go of and taken over again; nothing of it is touched.
        let init = world.init("two");
        let all = ["instance/two", "network/lan", "storage-pool/fast", "image/busybox"];
        world.keel(&[&["forget"], &all[..]].concat()).with(0);
        world.keel(&["forget", "instance/two"]).with(4).saying("nobody's");
        let plan = world.keel(&["plan"]).with(0).stdout;
        assert!(plan.contains("G104") && plan.contains("nobody's"), "{plan}");
        world.keel(&["-C", "/", "adopt", "instance/two"]).with(64).saying("--source NAME");
        world.keel(&["adopt", "instance/two", "--source", "a/b"]).with(64);
        world.keel(&[&["adopt"], &all[..]].concat()).with(0);
        world.keel(&["adopt", "instance/two"]).with(4).saying("belongs to source crash");
        world.keel(&["adopt", "instance/nobody"]).with(1);
        world.nothing_to_do();
        assert_eq!(world.init("two"), init);
        // A manifest may take it over as well.
        world.keel(&["forget", "instance/two"]).with(0);
        world.write("two.yaml", &format!("{}lifecycle: {{ adopt: true }}\n", crate::world::TWO));
        world.converge();
        assert_eq!(world.init("two"), init);
        // A bridge of the host is none of ours.
        shell("ip link add foreign type bridge");
        world.keel(&["adopt", "network/foreign"]).with(4).saying("did not make it");
        shell("ip link delete foreign");

        world.unwrite("two.yaml");
        world.keel(&["apply", "--yes", "--approve", "G102"]).with(0);
        world.keel(&["trash", "empty"]).with(64);
        world.keel(&["trash", "empty", "--expired"]).with(0).saying("nothing to delete");
        world.keel(&["trash", "empty", "instance/two", "--yes"]).with(0);
        world.keel(&["trash", "list"]).with(0).saying("nothing");
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn data_come_back_also_where_their_network_is_gone() {
        let world = TestWorld::furnished();
        world.converge();
        world.keel(&["exec", "one", "--", "sh", "-c", "echo kept >/kept.txt"]).with(0);
        world.keel(&["destroy", "--yes"]).with(0);
        assert_eq!(world.keel(&["get", "networks"]).with(0).stdout, "");
        world.keel(&["trash", "restore", "instance/one"]).with(0);
        assert_eq!(instances(&world, false), ["one Stopped"]);
        world.keel(&["start", "one"]).with(1).saying("there is no network lan");
        world.converge();
        assert_eq!(world.keel(&["exec", "one", "--", "cat", "/kept.txt"]).with(0).stdout, "kept\n");
        world.keel(&["exec", "two", "--", "ping", "-c1", "-W2", "10.77.0.10"]).with(0);
        world.destroy();
    }
}
