//! Files of manifests in running instances.

use manifests::action::{Power, Verb};
use runtime::runtime::{ExitStatus, FileInside, Operate as _};
use serde_json::json;

use crate::world::{World, pid, shell};

runtime::host_test! {
    fn files_are_written_by_the_engine_and_not_by_programs_of_the_image() {
        let mut world = World::new();
        let one = world.container("one", &json!({}));
        assert_eq!(world.run(&one, "mkdir -m 700 /srv/own && chown 1000:1000 /srv/own"), ExitStatus::Code(0));
        assert_eq!(world.run(&one, "dd if=/dev/zero of=/srv/big bs=1 count=0 seek=300M 2>/dev/null; mkfifo /srv/pipe"), ExitStatus::Code(0));
        // No shell, and a `cat` that would tell on the writer.
        let init = pid(&world.look(&one));
        shell(&format!("nsenter -t {init} -m -U -S 0 -G 0 /bin/busybox rm /bin/sh /bin/cat"));
        let file = |content: &str, mode, uid| FileInside { content: content.as_bytes().to_vec(), mode, uid, gid: uid };
        let written = file("hello", 0o640, 1000);
        world.engine.write_file(&one, "/srv/own/deep/er", &written, true).expect("written");
        assert_eq!(world.engine.read_file(&one, "/srv/own/deep/er").expect("read"), written);
        // Of the container's own links none leads to the host.
        shell(&format!("nsenter -t {init} -m -U -S 0 -G 0 /bin/busybox ln -s /../../../../proc/1/root/tmp /srv/out"));
        let decoy = tempfile::Builder::new().prefix("decoy").tempdir_in("/tmp").expect("a folder of the host");
        let inner = format!("/srv/out/{}/x", decoy.path().file_name().expect("a name").to_string_lossy());
        drop(world.engine.write_file(&one, &inner, &file("bad", 0o644, 0), true));
        assert_eq!(std::fs::read_dir(decoy.path()).expect("listed").count(), 0);
        // How much is read is not the guest's choice.
        let error = world.engine.read_file(&one, "/srv/big").expect_err("too big");
        assert!(std::error::Error::source(&error).is_some_and(|why| why.to_string().contains("314572800 bytes")), "{error:?}");
        assert!(world.engine.read_file(&one, "/srv/pipe").is_err());
        // What its root may not write by itself, nobody writes for it.
        let refused = world.engine.write_file(&one, "/proc/sys/kernel/hostname", &file("x", 0o644, 0), false);
        assert!(refused.is_err());
        world.perform(&one, Verb::Delete);
    }
}

runtime::host_test! {
    fn files_of_a_manifest_are_put_when_it_changes_and_kept_when_it_does_not() {
        let mut world = World::new();
        let files = |motd: &str, issue: &str| json!({"files": {
            "/etc/motd": {"content": motd},
            "/etc/issue": {"content": issue, "mode": "0600", "uid": 5, "enforce": true},
        }});
        let one = world.container("one", &files("one", "first"));
        assert_eq!(world.differences(), Vec::<String>::new());
        assert_eq!(world.run(&one, "echo guest >/etc/motd; chmod 644 /etc/issue"), ExitStatus::Code(0));
        let found = world.differences();
        assert_eq!(found, ["instance/one files./etc/issue.mode \"0644\" → \"0600\""]);
        world.mend();
        assert_eq!(world.differences(), Vec::<String>::new());
        let holds = |world: &World, path: &str, content: &str| {
            assert_eq!(String::from_utf8_lossy(&world.engine.read_file(&one, path).expect(path).content), content);
        };
        holds(&world, "/etc/motd", "guest\n");
        // A restart leaves what the guest wrote, a changed manifest does not.
        world.perform(&one, Verb::Power { power: Power::Restart });
        holds(&world, "/etc/motd", "guest\n");
        world.container_spec("one", &files("two", "first"));
        world.mend();
        holds(&world, "/etc/motd", "two");
        assert_eq!(world.run(&one, "echo guest >/etc/motd"), ExitStatus::Code(0));
        world.perform(&one, Verb::Power { power: Power::Restart });
        holds(&world, "/etc/motd", "guest\n");
        // While it is stopped, the change waits for the start.
        world.perform(&one, Verb::Power { power: Power::Kill });
        world.container_spec("one", &files("three", "second"));
        let changes = world.changes(&one).into_iter().filter(|change| change.path.as_str() != "/spec/state").collect();
        world.perform(&one, Verb::Update { changes });
        world.perform(&one, Verb::Power { power: Power::Start });
        holds(&world, "/etc/motd", "three");
        holds(&world, "/etc/issue", "second");
        assert_eq!(world.differences(), Vec::<String>::new());
        world.perform(&one, Verb::Delete);
    }
}
