//! Whose an object is, and what becomes of it when its manifest goes.

use crate::world::Server;

#[test]
fn what_bears_no_mark_is_never_touched() {
    let server = Server::furnished("mine", 73);
    server.converge();
    // Somebody else's, on our pool, and a copy of ours, which has our marks and is not ours.
    server.incus("create mine mine-theirs -s mine-pool");
    server.incus("copy mine-two mine-copy");
    let theirs = server.incus("config show mine-theirs");
    let copy = server.incus("config show mine-copy");
    server.nothing_to_do();
    let seen = server.get("instance/mine-copy");
    assert!(seen["status"]["copyOf"].is_string(), "{seen:#}");
    // One of the same name is not taken over in silence.
    server.write(
        "theirs.yaml",
        "apiVersion: evenkeel/v1\nkind: Instance\nmetadata: { name: mine-theirs }\nspec:\n  image: mine\n  \
         state: Stopped\n  devices:\n    root: { type: disk, path: /, pool: mine-pool }\n",
    );
    let refused = server.keel(&["apply", "--yes"]);
    assert!(matches!(refused.code, Some(4 | 7)), "{refused:#?}");
    assert_eq!(server.incus("config show mine-theirs"), theirs);
    server.unwrite("theirs.yaml");
    // Its manifest goes, and it goes; the copy stays.
    server.unwrite("two.yaml");
    server
        .keel(&["apply", "--yes", "--approve", "G102"])
        .with(0);
    assert_eq!(server.incus("config show mine-copy"), copy);
    let refused = server.keel(&["destroy", "--no-trash", "--yes"]);
    assert_ne!(
        refused.code,
        Some(0),
        "a pool that others use goes nowhere: {refused:#?}"
    );
    assert_eq!(server.incus("config show mine-theirs"), theirs);
    assert_eq!(server.incus("config show mine-copy"), copy);
    server.incus("delete mine-theirs mine-copy");
    server.keel(&["destroy", "--no-trash", "--yes"]).with(0);
    server.nothing_left();
}

#[test]
fn what_was_deleted_comes_back_as_it_was() {
    let server = Server::furnished("back", 74);
    server.converge();
    server
        .keel(&["exec", "back-one", "--", "sh", "-c", "echo mine >/kept.txt"])
        .with(0);
    let hwaddr = server.key("one", "volatile.eth0.hwaddr");
    let uuid = server.key("one", "volatile.uuid");
    let text = manifests::path_io::read_to_string(server.path().join("manifests/one.yaml"));
    server.unwrite("one.yaml");
    server
        .keel(&["apply", "--yes", "--approve", "G102"])
        .with(0);
    server.nothing_to_do();
    assert_eq!(server.instances(), ["back-two,STOPPED"]);
    server.keel(&["trash", "list"]).with(0);
    server.write("one.yaml", &text.expect("a manifest"));
    let plan = server.keel(&["plan"]).with(0).stdout;
    assert!(plan.contains("restore from trash"), "{plan}");
    server.converge();
    assert_eq!(
        server
            .keel(&["exec", "back-one", "--", "cat", "/kept.txt"])
            .with(0)
            .stdout,
        "mine\n"
    );
    assert_eq!(server.key("one", "volatile.eth0.hwaddr"), hwaddr);
    assert_eq!(server.key("one", "volatile.uuid"), uuid);
    // In the trash until it is emptied.
    server.keel(&["destroy", "--yes"]);
    server.keel(&["trash", "empty", "--yes"]).with(0);
    server.keel(&["destroy", "--no-trash", "--yes"]).with(0);
    assert!(
        !server.incus("list -f csv -c n").contains("keel-trash"),
        "nothing is left"
    );
    server.nothing_left();
}
