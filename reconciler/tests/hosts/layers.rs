//! A source over a base: its saved plan is applied, and drift names the layer that declared each value.

use manifests::path_io;

use crate::drifts::rewrite;
use crate::world::{TestWorld, shell};

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
