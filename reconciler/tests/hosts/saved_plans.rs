//! A plan is saved, the world moves or does not, the plan is applied or refused.

use manifests::path_io;
use serde_json::Value;

use crate::drifts::rewrite;
use crate::world::{TestWorld, shell};

/// The files in which the memory of a container is limited.
const MEMORY: &[&str] = &["memory.max", "memory.limit_in_bytes"];

/// A host at rest, of which the manifest of `one` was edited: a plan of it is saved beside the manifests.
fn edited() -> (TestWorld, String) {
    let world = TestWorld::furnished();
    world.converge();
    world.write(
        "one.yaml",
        &world.one().replace("processes: 100", "processes: 150"),
    );
    let plan = world.path().join("plan.json");
    let plan = plan.to_str().expect("UTF-8").to_owned();
    world.keel(&["plan", "--save", &plan]).with(0);
    (world, plan)
}

runtime::own_processes_test! {
    fn a_saved_plan_is_applied_as_it_is_and_refused_when_the_world_moved() {
        let (world, plan) = edited();
        let said = world.keel(&["plan", "check", &plan]).with(0).stdout;
        assert!(said.contains("still true"), "{said}");
        world.keel(&["plan", "check", &plan, "."]).with(0);

        // Somebody gives it more memory by hand.
        rewrite(&world, MEMORY, "134217728");
        let moved = "instance/one: limits.memory was 64MiB and is 128MiB";
        for command in [&["plan", "check", &plan][..], &["apply", &plan]] {
            world.keel(command).with(5).saying(moved);
        }
        let report = world.keel(&["plan", "check", &plan, "-o", "json"]).with(5).json();
        assert_eq!(report["holds"], false, "{report:#}");
        assert_eq!(report["moved"][0]["path"], "/spec/limits/memory", "{report:#}");
        assert_eq!(world.get("instance/one")["spec"]["limits"]["processes"], 100, "nothing was done");

        // As it was: the plan is true again.
        rewrite(&world, MEMORY, "67108864");
        // Of what it does not touch, nothing makes it untrue.
        world.keel(&["stop", "two", "--hold", "1h", "--reason", "a look"]).with(0);
        world.keel(&["plan", "check", &plan]).with(0);
        world.keel(&["apply", &plan]).with(0);
        assert_eq!(world.get("instance/one")["spec"]["limits"]["processes"], 150);
        // A second time there is nothing left of it to do.
        world.keel(&["apply", &plan]).with(5).saying("limits.processes was 100 and is 150");

        // The manifests moved on.
        world.write("one.yaml", &world.one().replace("processes: 100", "processes: 300"));
        let next = world.path().join("next.json");
        let next = next.to_str().expect("UTF-8");
        world.keel(&["plan", "--save", next]).with(0);
        world.write("one.yaml", &world.one().replace("processes: 100", "processes: 400"));
        world
            .keel(&["plan", "check", next, "."])
            .with(5)
            .saying("instance/one: limits.processes was 300 and is 400");
        world.keel(&["start", "two"]).with(0);
        world.destroy();
    }
}

runtime::own_processes_test! {
    fn a_plan_of_another_host_is_refused_and_so_is_an_edited_one() {
        let (world, plan) = edited();
        let other = world.command_on("elsewhere", &["apply", &plan]).output().expect("it runs");
        let other = crate::world::of_output(&other).with(4);
        assert!(other.stderr.contains("made for host"), "{other:#?}");
        let text = path_io::read_to_string(&plan).expect("a plan");
        path_io::write(&plan, text.replace("processes: 150", "processes: 9999")).expect("edited");
        world.keel(&["apply", &plan]).with(4).saying("edited");
        path_io::write(&plan, &text[..text.len() / 2]).expect("cut");
        world.keel(&["apply", &plan]).with(3).saying("cut short");
        path_io::remove_file(world.path().join("elsewhere/keel.db")).expect("removed");
        world.keel(&["apply", "--yes"]).with(0);
        world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
    }
}

runtime::own_processes_test! {
    fn a_plan_is_made_and_applied_in_another_checkout() {
        let world = TestWorld::furnished();
        let git = "git -c user.name=a -c user.email=a@example.org -c init.defaultBranch=main";
        let at = world.path().display().to_string();
        shell(&format!("cd {at}/manifests && {git} init -q && {git} add . && {git} commit -qm one"));
        world.converge();
        shell(&format!("cd {at} && {git} clone -q manifests 'a checkout'"));
        let checkout = world.path().join("a checkout");
        let file = checkout.join("one.yaml");
        path_io::write(&file, world.one().replace("processes: 100", "processes: 150")).expect("edited");
        shell(&format!("cd '{at}/a checkout' && {git} commit -qam two"));
        let (checkout, plan) = (checkout.to_str().expect("UTF-8"), format!("{at}/plan.json"));
        world.keel(&["plan", checkout, "--save", &plan]).with(0);
        let saved: Value = serde_json::from_str(&path_io::read_to_string(&plan).expect("a plan")).expect("JSON");
        assert_eq!(saved["guards"], serde_json::json!([]), "another checkout is no move");
        shell(&format!("rm -r '{checkout}'"));
        world.keel(&["apply", &plan]).with(0);
        assert_eq!(world.get("instance/one")["spec"]["limits"]["processes"], 150);
        // What was the newest when another plan was made is not the newest any more.
        let late = format!("{at}/late.json");
        world.keel(&["plan", "--save", &late]).with(0);
        shell(&format!("cd {at}/manifests && {git} commit -q --allow-empty -m three"));
        world.keel(&["apply", "--yes"]).with(0);
        world.keel(&["apply", &late]).with(5).saying("source crash");
        world.destroy();
    }
}

/// What must be equal of two plans that were made of the same world at other times.
fn essence(mut plan: Value) -> Value {
    let fields = plan.as_object_mut().expect("a plan");
    for key in ["id", "madeAt", "digest"] {
        fields.remove(key);
    }
    for list in ["changes", "held"] {
        for step in plan[list].as_array_mut().into_iter().flatten() {
            let step = step.as_object_mut().expect("a step");
            // Digests are salted, new objects have new identities, data is only counted on the host, and time goes on.
            for key in ["observedDigest", "uid", "loss", "keptUntil"] {
                step.remove(key);
            }
        }
    }
    plan
}

runtime::own_processes_test! {
    fn a_plan_made_without_the_host_is_the_same_and_is_applied_on_it() {
        let world = TestWorld::furnished();
        world.converge();
        world.write("one.yaml", &world.one().replace("processes: 100", "processes: 150"));
        world.write("three.yaml", &crate::world::TWO.replace("name: two", "name: three").replace("0.11", "0.13"));
        world.unwrite("two.yaml");
        let at = |name: &str| world.path().join(name).to_str().expect("UTF-8").to_owned();
        let (live, plan) = (at("live.json"), at("plan.json"));
        world.keel(&["observe", "--save", &live]).with(0);
        let here = world.keel(&["plan", "-o", "json"]).with(0).json();
        let elsewhere = |words: &[&str]| crate::world::ended(&mut world.command_on("nowhere", words));
        let there = elsewhere(&["plan", "--against", &live, "-o", "json"]).with(0).json();
        assert_eq!(essence(here.clone()), essence(there));
        assert_eq!(here["changes"].as_array().map(Vec::len), Some(3), "{here:#}");
        elsewhere(&["plan", "--against", &live, "--save", &plan]).with(0);
        elsewhere(&["plan", "check", &plan, "--against", &live]).with(0);
        assert!(!world.path().join("nowhere").exists(), "no state folder is made for it");

        rewrite(&world, MEMORY, "134217728");
        world.keel(&["apply", &plan]).with(5).saying("instance/one: limits.memory was 64MiB and is 128MiB");
        rewrite(&world, MEMORY, "67108864");
        world.keel(&["apply", &plan]).with(0);
        world.nothing_to_do();
        world.keel(&["observe", "--save", &live]).with(0);
        let rest = elsewhere(&["plan", "--against", &live, "--detailed-exitcode"]).with(0).stdout;
        assert!(rest.contains("Nothing to do"), "{rest}");
        world.destroy();
    }
}
