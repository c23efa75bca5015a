//! What is used is not taken away.

use crate::stage::{Stage, edge, ground, held, instance, network, nic, source, words};

#[test]
fn a_network_stays_while_another_source_is_on_it() {
    let stage = Stage::new();
    stage.done(&source("a", "", &(network("lan") + &network("other"))));
    let external = "external: [Network/lan]";
    stage.done(&source(
        "b",
        external,
        &(ground() + &instance("web", &nic("lan"), "")),
    ));
    let before = stage.runtime.world().items;
    let (plan, _) = stage.apply(&source("a", "", &network("other")));
    assert_eq!(held(&plan), ["G114 delete network/lan"]);
    assert!(
        plan.held[0].because[0]
            .message
            .contains("instance/web of source b")
    );
    assert_eq!(stage.runtime.world().items, before);
    // Once it is off the network, the network goes.
    stage.done(&source("b", "", &(ground() + &instance("web", "", ""))));
    stage.done(&source("a", "", &network("other")));
}

#[test]
fn a_network_goes_with_the_change_that_moves_its_users() {
    let stage = Stage::new();
    let two = network("lan") + &network("new");
    stage.done(&edge(
        &(ground() + &two + &instance("web", &nic("lan"), "")),
    ));
    let moved = edge(&(ground() + &network("new") + &instance("web", &nic("new"), "")));
    let plan = stage.plan(&moved);
    assert_eq!(
        words(&plan.steps),
        ["update instance/web", "delete network/lan"]
    );
    stage.done(&moved);
    // What is only referred to from now on is still used.
    let given_up = source(
        "edge",
        "external: [Network/new]\nbudget: {data: 9, percent: 100}",
        &(ground() + &instance("web", &nic("new"), "")),
    );
    assert_eq!(held(&stage.plan(&given_up)), ["G114 delete network/new"]);
}
