//! Folders and links to them, read.

use super::*;
use crate::path_io;

#[test]
fn what_lies_behind_a_link_is_not_passed_over() {
    for (link, to, refused) in [
        ("web.yaml", "elsewhere/web.txt", true),
        ("gone.yml", "nowhere", true),
        ("keel.yaml", "elsewhere/web.txt", true),
        ("apps", "elsewhere", true),
        ("notes.txt", "elsewhere/web.txt", false),
        ("drafts.yaml", "elsewhere/web.txt", false),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        path_io::create_dir_all(at("elsewhere")).expect("a folder");
        path_io::write(at("elsewhere/web.txt"), "a: 1\n").expect("written");
        path_io::write(at(".keelignore"), "drafts.yaml\n").expect("written");
        std::os::unix::fs::symlink(to, at(link)).expect("a link");
        let texts = read(folder.path());
        assert_eq!(texts.is_err(), refused, "{link}: {texts:?}");
        if let Err(error) = texts {
            assert!(error.to_string().contains(link), "{error}");
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    path_io::create_dir_all(parent(&path)).expect("a folder");
    path_io::write(path, text).expect("written");
}

/// The names of what is read, and why bases are not.
fn seen(root: &Path) -> (Vec<String>, Vec<(String, String)>) {
    let texts = read(root).expect("read");
    (
        texts.files.into_iter().map(|(name, _)| name).collect(),
        texts.refused.into_iter().collect(),
    )
}

#[test]
fn bases_are_read_wherever_they_lie_in_the_repository() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    path_io::create_dir_all(at.join("repository/.git")).expect("a folder");
    write(
        at,
        "repository/overlays/prod/keel.yaml",
        "bases: [../../base, parts]\n",
    );
    write(at, "repository/overlays/prod/parts/a.yaml", "a: 1\n");
    write(
        at,
        "repository/overlays/prod/b.yaml",
        "{file: ../../base/motd}\n",
    );
    write(
        at,
        "repository/base/keel.yaml",
        "bases: [../../outside, ../common, ../common, ../overlays/prod]\n",
    );
    write(at, "repository/base/motd", "hello");
    write(at, "repository/base/c.yaml", "{file: ./motd}\n");
    write(at, "repository/base/.keelignore", "drafts/\n");
    write(at, "repository/base/drafts/d.yaml", "d: 1\n");
    write(
        at,
        "repository/common/e.yaml",
        "{file: ../../outside/f.yaml}\n",
    );
    write(at, "outside/f.yaml", "f: 1\n");
    let root = at.join("repository/overlays/prod");
    let (files, refused) = seen(&root);
    assert_eq!(
        files,
        [
            "../../base/c.yaml",
            "../../base/keel.yaml",
            "../../common/e.yaml",
            "b.yaml",
            "keel.yaml",
            "parts/a.yaml"
        ]
    );
    let outside = "lies outside of the repository".to_owned();
    assert_eq!(refused, [("../../../outside".to_owned(), outside)]);
    let attached = read(&root).expect("read").attached;
    let motd = attached::Attached::Text("hello".to_owned());
    assert_eq!(attached["../../base/motd"], motd);
    let refused = attached::Attached::Refused(attached::OUTSIDE.to_owned());
    assert_eq!(attached["../../../outside/f.yaml"], refused);
}

#[test]
fn outside_of_git_a_source_says_how_far_its_bases_may_lie() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    write(at, "trees/prod/keel.yaml", "bases: [../base]\n");
    write(
        at,
        "trees/base/keel.yaml",
        "bases: [../common, ../../far]\n",
    );
    write(at, "trees/common/a.yaml", "a: 1\n");
    write(at, "far/b.yaml", "b: 1\n");
    let (files, refused) = seen(&at.join("trees/prod"));
    assert_eq!(
        files,
        ["../base/keel.yaml", "../common/a.yaml", "keel.yaml"]
    );
    assert_eq!(refused[0].0, "../../far");
    // What has only `/` in common is no tree.
    write(
        at,
        "trees/prod/keel.yaml",
        &format!("bases: [{}etc]\n", "../".repeat(32)),
    );
    write(at, "trees/base/keel.yaml", "a: 1\n");
    assert_eq!(seen(&at.join("trees/prod")).0, ["keel.yaml"]);
    let depth = at.canonicalize().expect("there").components().count() + 1;
    let up = "../".repeat(depth);
    write(at, "trees/prod/keel.yaml", &format!("bases: [{up}etc]\n"));
    let (files, refused) = seen(&at.join("trees/prod"));
    assert_eq!((files.len(), refused.len()), (1, 1), "{refused:?}");
}

#[test]
fn a_layer_is_read_once_and_as_a_part_of_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    path_io::create_dir_all(at.join(".git")).expect("a folder");
    write(at, "keel.yaml", "name: base\n");
    write(at, "a.yaml", "a: 1\n");
    write(at, "prod/keel.yaml", "bases: [..]\n");
    write(at, "prod/b.yaml", "b: 1\n");
    let (files, _) = seen(&at.join("prod"));
    assert_eq!(files, ["../a.yaml", "../keel.yaml", "b.yaml", "keel.yaml"]);
    // A link leads anywhere.
    write(at, "linked/keel.yaml", "bases: [../link]\n");
    std::os::unix::fs::symlink("prod", at.join("link")).expect("a link");
    let (_, refused) = seen(&at.join("linked"));
    assert!(refused[0].1.contains("symbolic link"), "{refused:?}");
}

#[test]
fn names_are_texts_of_any_language() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let below = folder.path().join("my sites");
    path_io::create_dir_all(&below).expect("a folder");
    path_io::write(below.join("büro 東京.yaml"), "a: 1\n").expect("written");
    let texts = read(folder.path()).expect("read");
    assert_eq!(texts.files[0].0, "my sites/büro 東京.yaml");
    let part = read(&below).expect("read");
    assert_eq!(part.files[0].0, "büro 東京.yaml");
    let latin = below.join(std::ffi::OsStr::from_bytes(b"b\xfcro.yaml"));
    path_io::write(&latin, "a: 1\n").expect("written");
    let error = read(folder.path()).expect_err("not a text");
    assert!(
        error.to_string().contains("is not UTF-8")
            || std::error::Error::source(&error)
                .is_some_and(|cause| cause.to_string().contains("is not UTF-8")),
        "{error}"
    );
}

#[test]
fn a_part_of_a_source_is_told_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        path_io::create_dir_all(parent(&path)).expect("a folder");
        path_io::write(path, text).expect("written");
    };
    write("keel.yaml", "kind: Source\n");
    write("apps/web.yaml", "a: 1\n");
    write("apps/notes.txt", "no");
    write("drafts/x.yaml", "b: 1\n");
    write(".hidden/y.yaml", "c: 1\n");
    write(".keelignore", "drafts/\n");
    let all = read(folder.path()).expect("read");
    let names: Vec<&str> = all.files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        (names, all.partial),
        (vec!["apps/web.yaml", "keel.yaml"], None)
    );
    let part = read(&folder.path().join("apps")).expect("read");
    assert_eq!(part.root, folder.path().canonicalize().expect("there"));
    assert_eq!(part.partial.as_deref(), Some("only the folder apps"));
    assert_eq!(
        part.files.len(),
        2,
        "profiles may stand anywhere in the tree"
    );
    assert!(part.means("apps/web.yaml") && !part.means("keel.yaml") && !part.means("apps2"));
}
