//! A source over a base: its saved plan is applied, and drift names the layer that declared each value.

use manifests::path_io;

use crate::drifts::rewrite;
use crate::world::{TestWorld, as_published, shell};

const OVER: &str = "\
apiVersion: evenkeel/v1
kind: Source
name: production
bases: [../manifests]
patches:
  - target: { kind: Instance, name: one }
    patch:
      spec:
        limits: { memory: 96MiB }
        environment: { LAYER: over }
";

const STAGING: &str = "\
apiVersion: evenkeel/v1
kind: Source
name: staging
bases: [../manifests]
";

runtime::own_processes_test! {
    fn a_saved_plan_of_layers_is_applied_and_drift_names_the_layer() {
        let world = TestWorld::furnished();
        let over = world.path().join("production");
        path_io::create_dir_all(&over).expect("a folder");
        path_io::write(over.join("keel.yaml"), OVER).expect("a manifest");
        world.keel(&["plan", "--save", "../plan.json", "../production"]).with(0);
        world.keel(&["apply", "--yes", "../plan.json"]).with(0);
        world.keel(&["plan", "--detailed-exitcode", "../production"]).with(0);
        let said = world.keel(&["exec", "one", "--", "sh", "-c", "echo $LAYER"]).with(0).stdout;
        assert_eq!(said.trim(), "over");

        rewrite(&world, &["memory.max", "memory.limit_in_bytes"], "134217728");
        rewrite(&world, &["pids.max"], "50");
        let report = world.keel(&["drift", "--detailed-exitcode", "-o", "json", "../production"]).with(2).json();
        let declared = |path: &str| {
            let drift = report["drift"].as_array().expect("a list");
            let field = drift.iter().find(|field| field["path"] == path);
            let field = field.unwrap_or_else(|| panic!("{path} in {report:#}"));
            (field["source"]["path"].clone(), field["source"]["line"].clone())
        };
        let line = world.line("one.yaml", "processes:");
        assert_eq!(declared("/spec/limits/processes"), ("../manifests/one.yaml".into(), line.into()));
        assert_eq!(declared("/spec/limits/memory"), ("keel.yaml".into(), 9.into()));
        world.keel(&["apply", "--yes", "../production"]).with(0);
        world.keel(&["drift", "--detailed-exitcode", "../production"]).with(0);

        world.keel(&["destroy", "--no-trash", "--yes", "../production"]).with(0);
        path_io::remove_file(world.path().join("plan.json")).expect("a plan");
        shell(&format!("rm -r {}", over.display()));
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn drift_is_accepted_in_the_line_of_the_layer_that_declares_it() {
        let world = TestWorld::furnished();
        let over = world.path().join("production");
        path_io::create_dir_all(&over).expect("a folder");
        path_io::write(over.join("keel.yaml"), OVER).expect("a manifest");
        let git = |command: &str| shell(&format!("cd {} && git -c user.name=a -c user.email=a@b {command}", world.path().display()));
        git("init -q && printf '/*\\n!/manifests\\n!/production\\n!/.gitignore\\n' >.gitignore && git add . && git -c user.name=a -c user.email=a@b commit -qm one");
        world.keel(&["apply", "--yes", "../production"]).with(0);
        // The base says the one, the patch over it the other.
        rewrite(&world, &["pids.max"], "50");
        rewrite(&world, &["memory.max", "memory.limit_in_bytes"], "134217728");
        // Another source stands on the same base: somebody must say so, and is told to what.
        path_io::create_dir_all(world.path().join("staging")).expect("a folder");
        path_io::write(world.path().join("staging/keel.yaml"), STAGING).expect("a manifest");
        let accept = ["drift", "accept", "instance/one", "../production", "--field", "limits.processes", "-o", "json"];
        let asked = world.keel(&accept).with(64).saying("say --yes").saying("source ../staging");
        let told = asked.json();
        as_published("accept-report", &told);
        assert_eq!(told["written"], false, "{told:#}");
        assert_eq!(told["sources"][1]["path"], "../staging", "{told:#}");
        assert_eq!(git("diff --numstat"), "");
        shell(&format!("rm -r {}/staging", world.path().display()));
        let line = world.line("one.yaml", "processes:");
        let report = world.keel(&accept).with(0).json();
        as_published("accept-report", &report);
        assert_eq!(report["written"], true, "{report:#}");
        assert_eq!(report["changes"][0]["path"], "/spec/limits/processes", "{report:#}");
        assert_eq!(report["changes"][0]["source"]["path"], "../manifests/one.yaml", "{report:#}");
        assert_eq!(report["changes"][0]["source"]["line"], line, "{report:#}");
        assert_eq!(report["sources"][0]["path"], "../manifests", "{report:#}");
        assert_eq!(report["sources"][0]["base"], true, "{report:#}");
        assert_eq!(git("diff --numstat").trim(), "1\t1\tmanifests/one.yaml");
        let diff = git("diff -U0");
        assert!(diff.contains("-    processes: 100\n+    processes: 50\n"), "{diff}");
        world.keel(&["drift", "accept", "instance/one", "../production"]).with(0);
        assert_eq!(git("diff --numstat production").trim(), "1\t1\tproduction/keel.yaml");
        assert!(git("diff -U0 production").contains("+        limits: { memory: 128MiB }"));
        world.keel(&["drift", "--detailed-exitcode", "../production"]).with(0);
        world.keel(&["drift", "accept", "instance/one", "../production"]).with(1).saying("drifted");
        // What a variable says is not written over.
        world.keel(&["apply", "--yes", "../production"]).with(0);
        rewrite(&world, &["memory.max", "memory.limit_in_bytes"], "268435456");
        shell(&format!("sed -i 's/128MiB/\"${{var.memory}}\"/; s/^name:.*/&\\nvariables: {{ memory: {{ type: string, default: 128MiB }} }}/' {}/keel.yaml", over.display()));
        world.keel(&["drift", "accept", "instance/one", "../production"]).with(4).saying("change what that stands for");
        world.keel(&["destroy", "--no-trash", "--yes", "../production"]).with(0);
        shell(&format!("cd {} && rm -rf production .git .gitignore", world.path().display()));
        world.nothing_left();
    }
}
