//! Whose is what: folders of one name, empty folders, parts.

use manifests::repository::Repository;

use crate::stage::{
    Stage, address, edge, ground, instance, meaning, network, nothing, source, stopping, texts,
    words,
};

#[test]
fn a_folder_does_not_take_down_what_came_from_another_one() {
    let stage = Stage::new();
    stage.done(&meaning(&texts("/srv/a", &[("all.yaml", &network("lan"))])));
    let wrong = nothing("default", "/tmp/b");
    assert_eq!(stopping(&stage.destruction(&wrong)), ["G107"]);
    let right = nothing("default", "/srv/a");
    let plan = stage.destruction(&right);
    assert_eq!((stopping(&plan).len(), plan.steps.len()), (0, 1));
}

#[test]
fn another_checkout_of_one_repository_is_the_same_source() {
    let from = |root: &str, first: &str, folder: &str| {
        let mut set = meaning(&texts(root, &[("all.yaml", &network("lan"))]));
        set.source.repository = Some(Repository {
            first_commit: Some(first.to_owned()),
            remote: None,
            folder: folder.to_owned(),
        });
        set
    };
    let stage = Stage::new();
    stage.done(&meaning(&texts("/srv/a", &[("all.yaml", &network("lan"))])));
    // Of what was applied before repositories were remembered, the folder tells.
    let first = from("/srv/a", "abc", "hosts");
    assert_eq!(stopping(&stage.plan(&first)).len(), 0);
    stage.done(&first);
    for (root, commit, folder, expected) in [
        ("/builds/7/a", "abc", "hosts", &[][..]),
        ("/srv/a", "abc", "other", &["G107"]),
        ("/srv/a", "def", "hosts", &["G107"]),
    ] {
        let plan = stage.plan(&from(root, commit, folder));
        assert_eq!(stopping(&plan), expected, "{root} {commit} {folder}");
    }
}

#[test]
fn an_empty_source_gives_nothing_up() {
    for rest in ["lifecycle: {prune: orphan}", "lifecycle: {prune: stop}"] {
        let stage = Stage::new();
        let ground = source("ground", "", &ground());
        stage.done(&ground);
        let one = "external: [StoragePool/main, Image/busybox]";
        stage.done(&source("edge", one, &instance("web", "", rest)));
        let plan = stage.plan(&source("edge", "", ""));
        assert_eq!(
            stopping(&plan),
            ["G101"],
            "{rest}: {:?}",
            words(&plan.steps)
        );
    }
    // A pool is let go of itself.
    let stage = Stage::new();
    stage.done(&edge(&ground()));
    assert_eq!(stopping(&stage.plan(&source("edge", "", ""))), ["G101"]);
}

#[test]
fn stopping_what_is_no_longer_declared_is_on_the_budget() {
    let stage = Stage::new();
    let instances = |count: usize| -> String {
        let rest = "lifecycle: {prune: stop}";
        (0..count)
            .map(|number| instance(&format!("i{number}"), "", rest))
            .collect()
    };
    let narrow = |count| source("edge", "", &(ground() + &instances(count)));
    stage.done(&narrow(5));
    assert_eq!(stopping(&stage.plan(&narrow(3))), ["G102"]);
    let one_less = stage.plan(&narrow(4));
    assert_eq!(
        (stopping(&one_less).len(), words(&one_less.steps)),
        (
            0,
            vec![
                "power instance/i4".to_owned(),
                "forget instance/i4".to_owned()
            ]
        )
    );
    // Data is not lost by stopping.
    let world = stage.runtime.world();
    assert!(world.items.contains_key(&address("instance/i4")));
}
