//! A runner of pipelines: the shell steps of `examples/ci`, run as a forge's runner runs them, on the host or elsewhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use manifests::path_io;
use serde_json::Value;

use crate::forge::Forge;
use crate::workflow::{depth, document, steps};
use crate::world::{Ended, TestWorld, ended, program, shell};

/// git as somebody.
pub(crate) const GIT: &str =
    "git -c user.name=a -c user.email=a@example.org -c init.defaultBranch=main";

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// On the host, where `keel` is installed and has its state folder.
    Host,
    /// On a machine that has nothing but what a job installs.
    Elsewhere,
}

/// A file of the project, wherever the tests run.
pub(crate) fn of_project(name: &str) -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR");
    let here = here.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.join("..").join(name)
}

/// Runs jobs for the repository in `manifests/` of a world, which has the scripts in `ci/`.
pub(crate) struct Runner<'a> {
    pub(crate) world: &'a TestWorld,
    pub(crate) forge: Forge,
}

impl<'a> Runner<'a> {
    /// A host at rest on the first commit.
    pub(crate) fn at_rest(world: &'a TestWorld, me: &str) -> Self {
        let at = world.path().display();
        let scripts = of_project("examples/ci");
        shell(&format!(
            "mkdir -p {at}/on-host {at}/elsewhere {at}/manifests/ci && mount -t tmpfs tmpfs /usr/local/bin && \
             cp {}/*.sh {at}/manifests/ci/ && cd {at}/manifests && {GIT} init -q && {GIT} add . && {GIT} commit -qm one",
            scripts.display()
        ));
        world.converge();
        let runner = Self {
            world,
            forge: Forge::of(me, &of_project("tests/ci/forge.py")),
        };
        runner.program("on-host/sudo", "exec \"$@\"");
        runner.program("elsewhere/sudo", "exec \"$@\"");
        runner.program("elsewhere/apt-get", ":");
        // Downloads are what the last word says, and everything else is as curl has it.
        runner.program(
            "elsewhere/curl",
            "for url; do :; done\ncase $url in https://keel.example/*) ;; *) exec /usr/bin/curl \"$@\" ;; esac\n\
             while [ \"$1\" != --output ]; do shift; done\ncp \"/${url#https://keel.example/}\" \"$2\"",
        );
        let keel = program();
        shell(&format!("ln -s {} {at}/on-host/keel", keel.display()));
        runner
    }

    fn program(&self, name: &str, text: &str) {
        let file = self.world.path().join(name);
        path_io::write(&file, format!("#!/bin/sh\n{text}\n")).expect("a program");
        shell(&format!("chmod 755 {}", file.display()));
    }

    /// A file or folder of this world.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.world.path().join(name)
    }

    /// The text of a file of this world.
    #[track_caller]
    pub(crate) fn text(&self, name: &str) -> String {
        path_io::read_to_string(self.at(name)).expect("a text")
    }

    /// Runs lines of shell in a folder of this world.
    #[track_caller]
    pub(crate) fn shell(&self, folder: &str, line: &str) -> String {
        shell(&format!("cd '{}' && {line}", self.at(folder).display()))
    }

    /// Changes a file on a branch of the repository and commits it; the work tree is on `main` afterwards.
    pub(crate) fn change(&self, branch: &str, line: &str) {
        self.shell(
            "manifests",
            &format!("{GIT} checkout -q -B {branch} && {line} && {GIT} add -A && {GIT} commit -qm '{branch}' && {GIT} checkout -q main"),
        );
    }

    /// A fresh checkout in a folder: `main`, or what would become of it with a branch merged.
    pub(crate) fn checkout(&self, folder: &str, branch: Option<&str>) {
        let merge = branch.map_or_else(String::new, |branch| {
            format!(" && cd {folder} && {GIT} merge -q --no-ff -m merge origin/{branch}")
        });
        self.shell(
            ".",
            &format!("rm -rf {folder} && {GIT} clone -q manifests {folder}{merge}"),
        );
    }

    /// A checkout like another one, with so many commits.
    fn cut(&self, checkout: &str, commits: u64) -> &'static str {
        let line =
            format!("rm -rf cut && {GIT} clone -q --depth {commits} file://$PWD/{checkout} cut");
        self.shell(".", &line);
        "cut"
    }

    /// A shell in a checkout, with what a job finds in its environment.
    fn bash(&self, on: On, checkout: &str, temp: &str, script: &str) -> Command {
        let (programs, state) = match on {
            On::Host => ("on-host", "state"),
            On::Elsewhere => ("elsewhere", "nowhere"),
        };
        let temp = self.at(temp);
        path_io::create_dir_all(&temp).expect("a folder");
        let file = temp.join("step.sh");
        path_io::write(&file, script).expect("a script");
        let mut bash = Command::new("bash");
        bash.arg("-e")
            .arg(file)
            .current_dir(self.at(checkout))
            .env_clear()
            .env(
                "PATH",
                format!(
                    "{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    self.at(programs).display()
                ),
            )
            .env("HOME", self.at("home"))
            .env("TMPDIR", &temp)
            .env("KEEL_STATE_DIR", self.at(state))
            .env("KEEL_CLAIMS", self.at("claims"))
            .env("KEEL_TIMEOUT", "30s")
            .env("CI", "true")
            .stdin(Stdio::null());
        bash
    }

    /// Runs the shell steps of a job of a workflow (`github/plan.yaml`) in a checkout, as it is for a pull request where the
    /// workflow asks for that; what they write goes into `temp`. The end of each that was run, by its name.
    pub(crate) fn job(
        &self,
        on: On,
        workflow: &str,
        job: &str,
        checkout: &str,
    ) -> Vec<(String, Ended)> {
        let workflow = document(&of_project("examples/ci").join(workflow));
        let mut all = Vec::new();
        let mut failed = false;
        let checkout = match depth(&workflow, job) {
            Some(commits @ 1..) => self.cut(checkout, commits),
            _ => checkout,
        };
        for step in steps(&workflow, job) {
            let runs = match step.condition.as_deref() {
                None | Some("github.event_name == 'pull_request'") => !failed,
                Some("${{ !cancelled() && steps.plan.outcome != 'skipped' }}") => {
                    all.iter().any(|(name, _)| name == "Plan")
                }
                Some(other) => panic!("when is {other:?}?"),
            };
            if !runs {
                continue;
            }
            let mut bash = self.bash(on, checkout, "temp", &step.run);
            bash.env("RUNNER_TEMP", self.at("temp"))
                .env("GITHUB_ACTIONS", "true")
                .env("GITHUB_OUTPUT", self.at("temp/output"))
                .env("GITHUB_STEP_SUMMARY", self.at("temp/summary.md"))
                .env("GITHUB_API_URL", &self.forge.api)
                .env("GITHUB_REPOSITORY", "o/r");
            for (key, value) in &step.env {
                bash.env(key, self.value(value, checkout));
            }
            let end = ended(&mut bash);
            failed |= end.code != Some(0) && !step.may_fail;
            all.push((step.name, end));
        }
        assert!(!all.is_empty(), "{job} has steps");
        all
    }

    /// What an expression of a step comes to.
    fn value(&self, text: &str, checkout: &str) -> String {
        let Some(expression) = text
            .strip_prefix("${{ ")
            .and_then(|rest| rest.strip_suffix(" }}"))
        else {
            return text.to_owned();
        };
        match expression {
            "github.token" => "right".to_owned(),
            "github.event.pull_request.number" => "7".to_owned(),
            "github.event.pull_request.base.sha" => self
                .shell(checkout, "git rev-parse origin/main")
                .trim()
                .to_owned(),
            "vars.KEEL_URL" => keel_url(),
            "vars.KEEL_SHA256" => keel_sum(),
            _ => panic!("what is {expression:?}?"),
        }
    }

    /// Runs a job of the pipeline of GitLab in a checkout.
    pub(crate) fn gitlab_job(
        &self,
        on: On,
        job: &str,
        checkout: &str,
        merge_request: bool,
    ) -> Ended {
        let pipeline = document(&of_project("examples/ci/gitlab/.gitlab-ci.yml"));
        let base = pipeline[job]["extends"].as_str().unwrap_or(job);
        let lines = |value: &Value| -> Vec<String> {
            let lines = value.as_array().into_iter().flatten();
            lines
                .map(|line| line.as_str().expect("a text").to_owned())
                .collect()
        };
        let depths =
            [&pipeline[job], &pipeline[base], &pipeline].map(|of| &of["variables"]["GIT_DEPTH"]);
        let depth = depths.into_iter().find_map(Value::as_str);
        // What is more than a few commits here is more than twenty elsewhere, which is what it is where nobody says it.
        let checkout = match depth {
            Some("0") => checkout,
            _ => self.cut(checkout, 1),
        };
        let mut script = lines(&pipeline[base]["before_script"]);
        script.extend(lines(&pipeline[job]["script"]));
        let mut bash = self.bash(on, checkout, "builds", &script.join("\n"));
        bash.env("GITLAB_CI", "true")
            .env("CI_API_V4_URL", &self.forge.api)
            .env("CI_PROJECT_ID", "42")
            .env("CI_BUILDS_DIR", self.at("builds"))
            .env("KEEL_URL", keel_url())
            .env("KEEL_SHA256", keel_sum())
            .env("KEEL_FORGE_TOKEN", "right");
        if merge_request {
            bash.env("CI_MERGE_REQUEST_IID", "7");
        }
        ended(&mut bash)
    }

    /// The bodies of the comments in the pull request.
    pub(crate) fn comments(&self) -> Vec<String> {
        let state = self.forge.state();
        let comments = state["comments"].as_array().expect("comments");
        let body = |one: &Value| one["body"].as_str().expect("a body").to_owned();
        comments.iter().map(body).collect()
    }

    /// The states of the issues.
    pub(crate) fn issues(&self) -> Vec<String> {
        let state = self.forge.state();
        let issues = state["issues"].as_array().expect("issues");
        issues
            .iter()
            .map(|one| one["state"].as_str().expect("a state").to_owned())
            .collect()
    }

    /// Takes all down.
    pub(crate) fn end(self) {
        self.world.keel(&["destroy", "--no-trash", "--yes"]).with(0);
        drop(self.forge);
        shell("umount /usr/local/bin");
    }
}

/// Demands that each step of a job ended well.
#[track_caller]
pub(crate) fn passed(steps: Vec<(String, Ended)>) -> Vec<(String, Ended)> {
    for (name, end) in &steps {
        assert_eq!(end.code, Some(0), "{name}: {end:#?}");
    }
    steps
}

/// A step by its name.
#[track_caller]
pub(crate) fn step<'s>(steps: &'s [(String, Ended)], name: &str) -> &'s Ended {
    let found = steps.iter().find(|(of, _)| of == name);
    &found
        .unwrap_or_else(|| panic!("no {name:?} in {steps:#?}"))
        .1
}

fn keel_url() -> String {
    format!("https://keel.example{}", program().display())
}

fn keel_sum() -> String {
    let text = shell(&format!("sha256sum {}", program().display()));
    text.split(' ').next().expect("a sum").to_owned()
}

/// Puts a plan into a zip, as an artifact is stored.
pub(crate) fn zipped(plan: &Path, into: &Path) {
    shell(&format!(
        "cd {} && python3 -m zipfile -c {} {}",
        plan.parent().expect("a folder").display(),
        into.display(),
        plan.file_name().expect("a name").display()
    ));
}
