//! Manifests of what runs.

use manifests::path_io;

use crate::world::TestWorld;

const MORE: &str = "\
apiVersion: evenkeel/v1
kind: Network
metadata: { name: other }
---
apiVersion: evenkeel/v1
kind: Instance
metadata: { name: three }
spec:
  image: busybox
  state: Stopped
  boot: { autostart: false }
  devices:
    root: { type: disk, path: /, pool: fast }
    eth0: { type: nic, network: other }
";

runtime::own_processes_test! {
    fn what_runs_is_written_as_manifests_of_which_the_next_plan_is_empty() {
        let world = TestWorld::furnished();
        world.write("more.yaml", MORE);
        world.converge();
        let into = world.path().join("imported");
        let into = into.to_str().expect("UTF-8");
        world.keel(&["import", "host", into]).with(0).saying("the next plan is empty").saying("--approve G107");
        let read = |name: &str| path_io::read_to_string(format!("{into}/{name}")).expect(name);
        assert!(read("keel.yaml").contains("name: crash"), "{}", read("keel.yaml"));
        // Only what is not as by default.
        let one = read("instances/one.yaml");
        for line in ["memory: 64MiB", "network: lan", "enforce: true", "10.77.0.10"] {
            assert!(one.contains(line), "no {line} in {one}");
        }
        for word in ["null", "priority", "nesting", "false"] {
            assert!(!one.contains(word), "{word} in {one}");
        }
        world.keel(&["validate", into]).with(0);
        world.keel(&["plan", into]).with(4);
        let plan = world.keel(&["plan", into, "--approve", "G107", "--detailed-exitcode"]).with(0);
        assert!(plan.stdout.starts_with("Nothing to do: 7 objects"), "{plan:?}");
        world.keel(&["apply", into, "--yes", "--approve", "G107"]).with(0);
        // Nothing is overwritten.
        world.keel(&["import", "host", into]).with(64).saying("nothing is overwritten");
        // What nobody owns is taken over where that is asked for.
        world.keel(&["forget", "instance/one", "instance/two", "instance/three"]).with(0);
        let next = format!("{into}-2");
        world.keel(&["import", "host", &next]).with(0).saying("3 objects that nobody owns");
        let all = format!("{into}-3");
        // Nothing is marked while the source comes from another folder.
        world.keel(&["import", "host", &all, "--adopt"]).with(0).saying("takes over 3 objects and does nothing else");
        let plan = world.keel(&["plan", &all, "--approve", "G107"]).with(0);
        assert!(plan.stdout.contains("3 adopt"), "{plan:?}");
        world.keel(&["apply", &all, "--yes", "--approve", "G107"]).with(0);
        world.keel(&["plan", &all, "--detailed-exitcode"]).with(0);
        world.keel(&["destroy", &all, "--yes", "--no-trash"]).with(0);
        world.nothing_left();
    }
}
