//! A pull request from its branch to the host: what a pipeline does, command by command.

use crate::drifts::rewrite;
use crate::world::{TestWorld, shell};

runtime::own_processes_test! {
    fn a_change_is_judged_from_its_comment_and_what_was_judged_is_applied() {
        let world = TestWorld::furnished();
        let at = |folder: &str, command: &str| {
            let folder = world.path().join(folder);
            shell(&format!("cd {} && {command}", folder.display()))
        };
        let commit = "git -c user.name=a -c user.email=a@b commit -qam";
        at("manifests", &format!("git init -qb main && git add . && {commit} one"));
        world.keel(&["apply", "--yes"]).with(0);
        at(".", "git clone -q manifests checkout");

        // In CI, of a branch: no root is needed for these, and no host.
        let live = world.path().join("live.json");
        let live = live.to_str().expect("UTF-8");
        world.keel(&["observe", "--save", live]).with(0);
        at("checkout", &format!("git checkout -qb more && sed -i 's/memory: 64MiB/memory: 96MiB/; s/processes: 100/processes: 120/' one.yaml && {commit} two"));
        world.keel(&["validate", "-o", "github", "../checkout"]).with(0);
        let plan = ["plan", "../checkout", "--against", live, "--save", "../plan.json", "-o", "markdown"];
        let comment = world.keel(&plan).with(0).stdout;
        for words in [
            "<!-- keel:plan crash",
            "1 live",
            "instance/one",
            "limits.memory: 64MiB",
            "limits.memory: 96MiB",
            "limits.processes: 120",
            "one.yaml",
        ] {
            assert!(comment.contains(words), "no {words} in\n{comment}");
        }
        assert!(!comment.contains("may not be approved"), "{comment}");
        let meaning = world.keel(&["diff", "main", "more", "--path", "../checkout"]).with(0).stdout;
        assert!(meaning.contains("64MiB → 96MiB"), "{meaning}");

        // Merged; the host applies what was reviewed, from the plan alone.
        at("manifests", "git pull -q ../checkout more");
        world.keel(&["plan", "check", "../plan.json"]).with(0);
        world.keel(&["apply", "../plan.json"]).with(0);
        world.keel(&["plan", "--detailed-exitcode"]).with(0);

        // The same again, and somebody changes the world in between.
        world.keel(&["observe", "--save", live]).with(0);
        at("checkout", &format!("sed -i 's/memory: 96MiB/memory: 80MiB/' one.yaml && {commit} three"));
        world.keel(&plan).with(0);
        rewrite(&world, &["memory.max", "memory.limit_in_bytes"], "134217728");
        let stale = "instance/one: limits.memory was 96MiB and is 128MiB";
        world.keel(&["plan", "check", "../plan.json"]).with(5).saying(stale);
        world.keel(&["apply", "../plan.json"]).with(5).saying(stale);
        assert_eq!(world.get("instance/one")["spec"]["limits"]["memory"], "128MiB", "nothing was done");

        world.keel(&["destroy", "--yes", "--no-trash"]).with(0);
        at(".", "rm -rf checkout plan.json live.json manifests/.git");
        world.nothing_left();
    }
}
