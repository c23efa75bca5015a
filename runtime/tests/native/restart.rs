//! Starting again what ended by itself.

use manifests::action::{Power, Verb};
use serde_json::json;

use crate::world::{World, pid, shell};

runtime::host_test! {
    fn what_a_guest_left_in_its_cgroups_does_not_hinder_its_next_start() {
        let mut world = World::new();
        let one = world.container("one", &json!({}));
        let init = pid(&world.look(&one));
        let text = std::fs::read_to_string(format!("/proc/{init}/cgroup")).expect("cgroups");
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).expect("cgroup 2");
        let base = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .find(|base| std::path::Path::new(base).join("cgroup.controllers").exists())
            .expect("cgroup 2");
        let payload = format!("{base}{path}");
        // As systemd does: itself into a folder below, the controllers handed down. They outlive it. (A child of init may
        // come and go while it moves.)
        shell(&format!(
            "cd {payload} && mkdir -p init.scope system.slice/deep.service && \
             while grep -q . cgroup.procs; do for process in $(cat cgroup.procs); do echo $process >init.scope/cgroup.procs || true; done; done 2>/dev/null && \
             for name in $(cat cgroup.controllers); do echo +$name >cgroup.subtree_control; done && \
             test -n \"$(cat cgroup.subtree_control)\""
        ));
        shell(&format!("kill -9 {init}"));
        for _ in 0..500 {
            if world.look(&one).status["state"] == json!("Stopped") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        world.perform(&one, Verb::Power { power: Power::Start });
        assert_eq!(world.differences(), Vec::<String>::new());
        assert!(!std::path::Path::new(&payload).join("system.slice").exists());
        world.perform(&one, Verb::Delete);
    }
}
