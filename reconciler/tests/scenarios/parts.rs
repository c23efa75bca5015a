//! A part of a source does nothing that the whole would not do.

use crate::stage::{Stage, document, edge, held, only, words};

fn network(name: &str, before: &str) -> String {
    document("Network", name, "spec: {}").replace(
        &format!("{{name: {name}}}"),
        &format!("{{name: {name}, previousNames: [{before}]}}"),
    )
}

#[test]
fn a_part_does_not_rename_what_the_rest_declares() {
    let stage = Stage::new();
    let both = network("old", "web") + &network("web", "");
    stage.done(&edge(&network("web", "")));
    for set in [edge(&both), only(edge(&both), "network/old")] {
        assert_eq!(words(&stage.plan(&set).steps), ["create network/old"]);
    }
}

#[test]
fn a_part_waits_for_what_leaves_its_name() {
    let stage = Stage::new();
    stage.done(&edge(&(network("a", "") + &network("b", ""))));
    let chain = network("b", "a") + &network("c", "b");
    let whole = stage.plan(&edge(&chain));
    assert_eq!(
        words(&whole.steps),
        ["rename network/c", "rename network/b"]
    );
    let part = stage.plan(&only(edge(&chain), "network/b"));
    assert_eq!(
        (words(&part.steps), held(&part)),
        (vec![], vec!["G111 create network/b".to_owned()])
    );
    stage.done(&only(edge(&chain), "network/c"));
    stage.done(&only(edge(&chain), "network/b"));
    assert_eq!(stage.lives(), ["network/b", "network/c"]);
}
