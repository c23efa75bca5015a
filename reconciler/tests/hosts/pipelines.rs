//! The pipelines of `examples/ci` on a host: each shell step, with the real `keel`, a repository, and a forge that answers.

use manifests::path_io;
use serde_json::json;

use crate::drifts::rewrite;
use crate::runner::{GIT, On, Runner, of_project, passed, step, zipped};
use crate::workflow::document;
use crate::world::{Ended, TestWorld, ended, shell};

/// The files in which the memory of a container is limited.
const MEMORY: &[&str] = &["memory.max", "memory.limit_in_bytes"];
const GROW: &str = "sed -i 's/memory: 64MiB/memory: 96MiB/' one.yaml";

/// Somebody gives an instance more memory by hand, and takes it back: one issue, for as long as it is so.
#[track_caller]
fn one_issue(runner: &Runner<'_>, desired: &str, night: impl Fn() -> String) {
    assert_eq!(night(), "no drift\n");
    rewrite(runner.world, MEMORY, "134217728");
    assert_eq!(night(), "opened the issue 1\n");
    assert_eq!(night(), "renewed the issue 1\n");
    let issue = runner.forge.state()["issues"][0].clone();
    let body = issue["body"].as_str().or(issue["description"].as_str());
    let body = body.expect("a text");
    for words in ["found 2 times", "<code>128MiB</code>", desired] {
        assert!(body.contains(words), "no {words} in {body}");
    }
    let bytes = match desired {
        "64MiB" => "67108864",
        "96MiB" => "100663296",
        _ => panic!("how many bytes are {desired}?"),
    };
    rewrite(runner.world, MEMORY, bytes);
    assert_eq!(night(), "no drift any more: closed the issue 1\n");
    assert_eq!(night(), "no drift\n");
    assert_eq!(runner.issues(), ["closed"]);
}

/// Demands that a step was refused since something moved, and that it was the last one.
#[track_caller]
fn refused_as_stale(steps: &[(String, Ended)], name: &str, words: &str) {
    let refused = step(steps, name);
    assert_eq!(refused.code, Some(5), "{refused:#?}");
    assert!(refused.stderr.contains(words), "no {words} in {refused:#?}");
    assert_eq!(
        steps.last().map(|(last, _)| last.as_str()),
        Some(name),
        "nothing after it"
    );
}

runtime::own_processes_test! {
    fn github_takes_a_change_from_its_pull_request_to_the_host() {
        let world = TestWorld::furnished();
        let runner = Runner::at_rest(&world, "github-actions[bot]");
        runner.change("grow", GROW);
        runner.checkout("pull", Some("grow"));
        let validated = passed(runner.job(On::Elsewhere, "github/validate.yaml", "validate", "pull"));
        let said = &step(&validated, "Validate").stdout;
        assert!(said.contains("::notice title=keel validate::"), "{said}");
        let summary = runner.text("temp/summary.md");
        assert!(summary.contains("### keel validate") && summary.contains("+     limits.memory: 96MiB"), "{summary}");

        // What the first job leaves is all that the second has of the host.
        passed(runner.job(On::Host, "github/plan.yaml", "observe", "home"));
        passed(runner.job(On::Elsewhere, "github/plan.yaml", "plan", "pull"));
        assert!(!runner.at("nowhere").exists(), "there is no host there");
        let comments = runner.comments();
        assert_eq!(comments.len(), 1, "{comments:#?}");
        assert!(comments[0].contains("+     limits.memory: 96MiB   # one.yaml:9"), "{}", comments[0]);
        assert!(!comments[0].contains("+dirty"), "{}", comments[0]);
        zipped(&runner.at("temp/plan/plan.json"), &runner.at("other.zip"));
        // One more commit: the same comment.
        runner.change("grow", "sed -i 's/processes: 100/processes: 120/' one.yaml");
        runner.shell("manifests", &format!("{GIT} checkout -q grow && {GROW} && {GIT} commit -qam more && {GIT} checkout -q main"));
        runner.checkout("pull", Some("grow"));
        passed(runner.job(On::Elsewhere, "github/plan.yaml", "plan", "pull"));
        let comments = runner.comments();
        assert_eq!(comments.len(), 1, "{comments:#?}");
        assert!(comments[0].contains("limits.processes: 120"), "{}", comments[0]);

        // The artifact has the name that the workflow gives it; a fork and an older run left others of that name.
        let output = runner.text("temp/output");
        let tree = output.lines().last().and_then(|line| line.strip_prefix("tree=")).expect("a tree");
        let zip = runner.at("plan.zip");
        zipped(&runner.at("temp/plan/plan.json"), &zip);
        path_io::write(runner.at("forged.zip"), "no zip").expect("a file");
        let artifact = |id: u64, file: &str, head: u64, expired: bool| json!({
            "id": id, "name": format!("keel-plan-{tree}"), "expired": expired,
            "created_at": format!("2026-11-2{id}T00:00:00Z"), "file": runner.at(file),
            "workflow_run": { "repository_id": 1, "head_repository_id": head },
        });
        runner.shell("manifests", &format!("{GIT} merge -q --squash grow >&2 && {GIT} commit -qm 'grow (#7)'"));
        runner.checkout("merged", None);
        let apply = || runner.job(On::Host, "github/apply.yaml", "apply", "merged");
        // The plan of other files under this name is not done.
        runner.forge.set("artifacts", json!([artifact(0, "other.zip", 1, false)]));
        refused_as_stale(&apply(), "Check it", "instance/one: limits.processes was 100 and is 120");
        runner.forge.set("artifacts", json!([
            artifact(0, "forged.zip", 1, true), artifact(1, "plan.zip", 1, false), artifact(2, "forged.zip", 666, false),
        ]));
        // Nor is a true one after somebody changed the world.
        rewrite(&world, MEMORY, "134217728");
        refused_as_stale(&apply(), "Check it", "instance/one: limits.memory was 64MiB and is 128MiB");
        assert_eq!(world.get("instance/one")["spec"]["limits"]["memory"], "128MiB", "nothing was done");
        rewrite(&world, MEMORY, "67108864");
        passed(apply());
        assert_eq!(world.get("instance/one")["spec"]["limits"]["memory"], "96MiB");
        assert_eq!(runner.forge.state()["leaked"], false, "the store of files got the credentials");
        world.nothing_to_do();

        // Of what came without a pull request there is no plan.
        runner.shell("manifests", &format!("sed -i 's/96MiB/80MiB/' one.yaml && {GIT} commit -qam pushed"));
        runner.checkout("merged", None);
        let steps = runner.job(On::Host, "github/apply.yaml", "apply", "merged");
        let refused = step(&steps, "Fetch the reviewed plan");
        assert!(refused.code == Some(1) && refused.stderr.contains("no reviewed plan"), "{refused:#?}");
        assert_eq!(steps.len(), 1, "nothing after it: {steps:#?}");
        runner.end();
    }
}

runtime::own_processes_test! {
    fn github_tells_what_is_wrong_and_what_is_refused() {
        let world = TestWorld::furnished();
        let runner = Runner::at_rest(&world, "github-actions[bot]");
        runner.change("typo", "sed -i 's/memory: 64MiB/memmory: 64MiB/' one.yaml");
        runner.checkout("pull", Some("typo"));
        let steps = runner.job(On::Elsewhere, "github/validate.yaml", "validate", "pull");
        let wrong = step(&steps, "Validate");
        assert_eq!(wrong.code, Some(3), "{wrong:#?}");
        assert!(wrong.stdout.contains("::error file=one.yaml,line=9,col=5,title=E0104::"), "{}", wrong.stdout);
        assert!(runner.text("temp/summary.md").contains("### keel validate"));
        passed(runner.job(On::Host, "github/plan.yaml", "observe", "home"));
        let steps = runner.job(On::Elsewhere, "github/plan.yaml", "plan", "pull");
        assert_eq!(step(&steps, "Plan").code, Some(3), "{steps:#?}");
        assert_eq!(step(&steps, "Comment").stdout, "no report, no comment\n");

        // A guard stops it: the reviewer reads why, and the job is red.
        runner.change("empty", "git rm -q one.yaml two.yaml");
        runner.checkout("pull", Some("empty"));
        let steps = runner.job(On::Elsewhere, "github/plan.yaml", "plan", "pull");
        assert_eq!(step(&steps, "Plan").code, Some(4), "{steps:#?}");
        let comments = runner.comments();
        assert!(comments[0].contains("**G102 stops this plan**"), "{}", comments[0]);

        // Too much for a comment: it says so, and all of it is in the log.
        let deep = "deep-down".repeat(25);
        runner.change("many", &format!(
            "mkdir -p {deep}/{deep} && for i in $(seq 150); do \
             sed \"s/name: two/name: many-$i/; s/, ipv4: 10.77.0.11//\" two.yaml > {deep}/{deep}/$i.yaml; done"
        ));
        runner.checkout("pull", Some("many"));
        let planned = passed(runner.job(On::Elsewhere, "github/plan.yaml", "plan", "pull"));
        let comments = runner.comments();
        assert!(comments.len() == 1 && comments[0].contains("**it may not be approved**"), "{comments:#?}");
        let log = &step(&planned, "Plan").stdout;
        assert!((1..=150).all(|i| log.contains(&format!("instance/many-{i} "))), "{log}");

        // What mends main is not red because main is.
        runner.shell("manifests", &format!("sed -i 's/memory: 64MiB/memmory: 64MiB/' one.yaml && {GIT} commit -qam broken"));
        runner.change("mend", "sed -i 's/memmory: 64MiB/memory: 64MiB/' one.yaml");
        runner.shell("manifests", "git reset -q --hard HEAD~1");
        runner.checkout("pull", None);
        runner.shell("pull", &format!("git reset -q --hard origin/mend~1 && {GIT} merge -q --no-ff -m merge origin/mend"));
        let steps = runner.job(On::Elsewhere, "github/validate.yaml", "validate", "pull");
        assert_eq!(step(&steps, "Validate").code, Some(0), "{steps:#?}");
        assert_eq!(step(&steps, "Tell what it means").code, Some(3), "{steps:#?}");
        assert!(step(&steps, "Tell what it means").stderr.contains("E0104"), "{steps:#?}");

        runner.checkout("night", None);
        one_issue(&runner, "64MiB", || {
            let steps = passed(runner.job(On::Host, "github/drift.yaml", "drift", "night"));
            step(&steps, "Look for drift").stdout.clone()
        });
        runner.end();
    }
}

runtime::own_processes_test! {
    fn forgejo_applies_the_plan_of_exactly_what_was_merged() {
        let world = TestWorld::furnished();
        let runner = Runner::at_rest(&world, "forgejo-actions");
        let job = |on, job, checkout| runner.job(on, "forgejo/workflow.yaml", job, checkout);
        runner.change("grow", GROW);
        // What is checked out there is the branch.
        runner.checkout("pull", None);
        runner.shell("pull", "git checkout -q grow");
        let validated = passed(job(On::Elsewhere, "validate", "pull"));
        let said = &step(&validated, "Tell what it means").stdout;
        assert!(said.contains("64MiB → 96MiB"), "{said}");
        passed(job(On::Host, "plan", "pull"));
        assert!(runner.comments()[0].contains("limits.memory: 96MiB"), "{:#?}", runner.comments());
        // Something else came in between: there is no plan of that.
        runner.shell("manifests", &format!("echo '# more' >> two.yaml && {GIT} commit -qam other && {GIT} merge -q -m merge grow"));
        runner.checkout("merged", None);
        let steps = job(On::Host, "apply", "merged");
        assert!(step(&steps, "Apply the reviewed plan").stderr.contains("no reviewed plan"), "{steps:#?}");
        runner.shell("manifests", &format!("git reset -q --hard HEAD~1^ && {GIT} merge -q --no-ff -m merge grow"));
        runner.checkout("merged", None);
        passed(job(On::Host, "apply", "merged"));
        assert_eq!(world.get("instance/one")["spec"]["limits"]["memory"], "96MiB");
        // A second time the world is not what it was planned for.
        let again = job(On::Host, "apply", "merged");
        refused_as_stale(&again, "Apply the reviewed plan", "instance/one");
        one_issue(&runner, "96MiB", || {
            step(&passed(job(On::Host, "drift", "merged")), "Look for drift").stdout.clone()
        });

        // A plan that is made again and fails leaves no older one.
        runner.change("empty", "git rm -q one.yaml two.yaml");
        runner.shell("pull", "git fetch -q && git checkout -q empty");
        let tree = runner.shell("pull", "git rev-parse 'HEAD^{tree}'");
        let older = runner.at("home/keel-plans").join(format!("{}.json", tree.trim()));
        path_io::write(&older, "{}").expect("a file");
        let stopped = job(On::Host, "plan", "pull");
        assert_eq!(step(&stopped, "Plan").code, Some(4), "{stopped:#?}");
        assert!(!older.exists(), "it could be applied");
        runner.end();
    }
}

runtime::own_processes_test! {
    fn gitlab_plans_for_the_reviewer_and_again_for_whoever_presses_the_button() {
        let world = TestWorld::furnished();
        let runner = Runner::at_rest(&world, "project_42_bot");
        runner.change("grow", GROW);
        runner.checkout("pull", Some("grow"));
        runner.gitlab_job(On::Elsewhere, "validate", "pull", true).with(0);
        let report = runner.text("pull/validate.xml");
        assert!(report.contains("<testsuite"), "{report}");
        // Artifacts go from job to job in the work tree.
        runner.gitlab_job(On::Host, "observe", "pull", true).with(0);
        runner.gitlab_job(On::Elsewhere, "plan", "pull", true).with(0);
        let comments = runner.comments();
        assert!(comments.len() == 1 && comments[0].contains("limits.memory: 96MiB"), "{comments:#?}");
        let counts = runner.text("pull/plan.gitlab.json");
        let counts: serde_json::Value = serde_json::from_str(&counts).expect("JSON");
        assert_eq!(counts, json!({ "create": 0, "update": 1, "delete": 0 }));

        runner.shell("manifests", &format!("{GIT} merge -q grow"));
        runner.checkout("merged", None);
        runner.gitlab_job(On::Host, "observe", "merged", false).with(0);
        runner.gitlab_job(On::Elsewhere, "plan", "merged", false).with(0);
        assert_eq!(runner.comments().len(), 1, "a branch has no comment");
        runner.gitlab_job(On::Host, "apply", "merged", false).with(0);
        assert_eq!(world.get("instance/one")["spec"]["limits"]["memory"], "96MiB");
        let again = runner.gitlab_job(On::Host, "apply", "merged", false).with(5);
        assert!(again.stderr.contains("the plan is stale: instance/one"), "{again:#?}");
        one_issue(&runner, "96MiB", || runner.gitlab_job(On::Host, "drift", "merged", false).with(0).stdout);

        // Where a guard stops it, the comment says so and the job is red.
        runner.change("empty", "git rm -q one.yaml two.yaml");
        runner.checkout("pull", Some("empty"));
        runner.gitlab_job(On::Host, "observe", "pull", true).with(0);
        runner.gitlab_job(On::Elsewhere, "plan", "pull", true).with(4);
        let comments = runner.comments();
        assert!(comments.len() == 1 && comments[0].contains("**G102 stops this plan**"), "{comments:#?}");
        runner.end();
    }
}

runtime::own_processes_test! {
    fn hooks_and_cron_say_something_where_there_is_something_to_say() {
        let world = TestWorld::furnished();
        let runner = Runner::at_rest(&world, "nobody");
        let path = format!("{}:/usr/bin:/bin", runner.at("on-host").display());
        let environment = format!(
            "PATH={path} KEEL_STATE_DIR={} KEEL_CLAIMS={}", runner.at("state").display(), runner.at("claims").display()
        );
        let hook = of_project("examples/ci/hooks/pre-commit");
        runner.shell("manifests", &format!("cp {} .git/hooks/pre-commit", hook.display()));
        let commit = |message: &str| {
            let line = format!("cd {} && {environment} {GIT} commit -qm {message}", runner.at("manifests").display());
            ended(std::process::Command::new("sh").args(["-c", &line]))
        };
        // What is staged counts, and not what lies there.
        runner.shell("manifests", "sed -i 's/memory: 64MiB/memmory: 64MiB/' one.yaml && git add . && git show HEAD:one.yaml > one.yaml");
        let refused = commit("wrong");
        assert_ne!(refused.code, Some(0), "{refused:#?}");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("one.yaml:9:5") && said.contains("did you mean `memory`?"), "{said}");
        runner.shell("manifests", "echo '# fine' >> one.yaml && git add .");
        commit("right").with(0);
        // pre-commit itself shows what is staged; it runs the same.
        let config = document(&of_project("examples/ci/hooks/.pre-commit-config.yaml"));
        let entry = config["repos"][0]["hooks"][0]["entry"].as_str().expect("an entry");
        let checks = |line: &str| {
            let line = format!("cd {} && {line} && {environment} {entry}", runner.at("manifests").display());
            ended(std::process::Command::new("sh").args(["-c", &line]))
        };
        assert_eq!(checks(":").with(0).stderr, "");
        checks("sed -i 's/memory: 64MiB/memmory: 64MiB/' one.yaml").with(3).saying("one.yaml:9:5");
        runner.shell("manifests", "git checkout -q one.yaml");

        // The line of the table: when, as whom, what.
        let table = path_io::read_to_string(of_project("examples/ci/cron/keel-drift")).expect("a table");
        let (when, line) = table.lines().last().and_then(|line| line.split_once(" root ")).expect("a line");
        assert_eq!(when.split(' ').count(), 5, "{when}");
        assert!(!line.contains('%'), "{line}");
        runner.shell(".", &format!("cp {} on-host/keel-drift.sh", of_project("examples/ci/cron/keel-drift.sh").display()));
        let line = line.replace("/srv/manifests", &runner.at("manifests").display().to_string());
        let cron = format!("export {environment}; {line}");
        assert_eq!(shell(&cron), "");
        rewrite(&world, MEMORY, "134217728");
        let mail = shell(&cron);
        assert!(mail.contains("limits.memory") && mail.contains("128MiB"), "{mail}");
        // Where it cannot look, that is said, and it is no good end.
        let nowhere = ended(std::process::Command::new("sh").args(["-c", &format!("{cron}-not-there")]));
        assert!(nowhere.code != Some(0) && nowhere.stdout.contains("keel drift ended with"), "{nowhere:#?}");
        runner.end();
    }
}
