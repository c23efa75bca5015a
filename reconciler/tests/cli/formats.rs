//! `-o`: what a pipeline reads, from sources with names that are in the way of every one of its languages.

use manifests::path_io;

use super::environment::TestEnv;

/// Two sources in one repository; both have a `web.yaml`, and both are wrong.
fn repository() -> TestEnv {
    let env = TestEnv::new();
    env.write("repo/.git/HEAD", "ref: refs/heads/main\n");
    let network = |field: &str| {
        format!(
            "apiVersion: evenkeel/v1\nkind: Network\nmetadata: {{ name: lan }}\nspec: {{ ipv4: {{ {field}: 10.0.0.1/24 }} }}\n"
        )
    };
    env.write("repo/sites/büro #1, 50%/web.yaml", &network("adress"));
    env.write("repo/sites/lab/web.yaml", &network("addres"));
    env
}

const SITES: [&str; 2] = ["repo/sites/büro #1, 50%", "repo/sites/lab"];

fn validate(env: &TestEnv, format: &str) -> String {
    let ended = env.keel(&["validate", SITES[0], SITES[1], "-o", format]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    ended.stdout
}

#[test]
fn places_count_from_the_top_of_the_repository() {
    let env = repository();
    let human = env.keel(&["validate", SITES[0], SITES[1]]).stderr;
    assert!(
        human.contains("┌─ sites/büro #1, 50%/web.yaml:4:17"),
        "{human}"
    );
    assert!(human.contains("┌─ sites/lab/web.yaml:4:17"), "{human}");
    let sarif: serde_json::Value = serde_json::from_str(&validate(&env, "sarif")).expect("JSON");
    let uris: Vec<&str> = sarif["runs"][0]["results"]
        .as_array()
        .expect("results")
        .iter()
        .filter_map(|result| {
            result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str()
        })
        .collect();
    assert_eq!(
        uris,
        [
            "sites/b%C3%BCro%20%231%2C%2050%25/web.yaml",
            "sites/lab/web.yaml"
        ]
    );
    let json: serde_json::Value = serde_json::from_str(&validate(&env, "json")).expect("JSON");
    assert_eq!(
        json["diagnostics"][1]["origin"]["file"],
        "sites/lab/web.yaml"
    );
    assert!(validate(&env, "junit").contains("classname=\"sites/lab/web.yaml\""));
    assert!(validate(&env, "markdown").contains("<code>sites/lab/web.yaml&#58;4</code>"));
    let github = validate(&env, "github");
    assert!(
        github.starts_with(
            "::error file=sites/büro #1%2C 50%25/web.yaml,line=4,col=17,title=E0104::"
        ),
        "{github}"
    );
}

#[test]
fn a_step_of_a_workflow_has_its_summary_after_those_of_others() {
    let env = repository();
    let file = env.write("summary.md", "before");
    let named = file.to_str().expect("UTF-8");
    let mut command = env.command(&["validate", SITES[1], "-o", "github"]);
    let ended = env.ended(command.env("GITHUB_STEP_SUMMARY", named));
    assert_eq!(ended.code, 3);
    let text = path_io::read_to_string(&file).expect("a summary");
    assert!(text.starts_with("before\n<!-- keel:validate"), "{text}");
    assert!(text.contains("sites/lab/web.yaml"), "{text}");
}

#[test]
fn machine_output_stands_beside_any_format() {
    let env = repository();
    let ended = env.keel(&[
        "validate",
        SITES[1],
        "-o",
        "junit",
        "--json-into",
        "out.json",
    ]);
    assert!(ended.stdout.starts_with("<?xml"), "{}", ended.stdout);
    let json = path_io::read_to_string(env.path().join("out.json")).expect("written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["errors"], 1);
}

#[test]
fn a_plan_of_invalid_manifests_says_so_in_its_format() {
    let env = repository();
    for command in ["plan", "drift"] {
        let ended = env.keel(&[command, SITES[1], "-o", "sarif"]);
        assert_eq!(ended.code, 3, "{}", ended.stderr);
        let sarif: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "E0104");
    }
}

#[test]
fn a_format_that_makes_no_sense_is_refused_with_those_that_do() {
    let env = repository();
    let ended = env.keel(&["validate", SITES[1], "-o", "gitlab-plan"]);
    assert_eq!(ended.code, 64);
    assert!(
        ended
            .stderr
            .contains("human, json, markdown, sarif, junit, github]"),
        "{}",
        ended.stderr
    );
}

#[test]
fn sources_with_objects_of_one_name_are_told_apart() {
    let env = repository();
    // One of the two is right.
    let web = format!("{}/web.yaml", SITES[0]);
    let text = path_io::read_to_string(env.path().join(&web)).expect("a manifest");
    env.write(&web, &text.replace("adress", "address"));
    let junit = validate(&env, "junit");
    for case in [
        "<testcase name=\"repo/sites/büro #1, 50%: network/lan\" classname=\"sites/büro #1, 50%/web.yaml\"/>",
        "<testcase name=\"repo/sites/lab: sites/lab/web.yaml\"",
    ] {
        assert_eq!(junit.matches(case).count(), 1, "{junit}");
    }
    let source = |name: &str| format!("apiVersion: evenkeel/v1\nkind: Source\nname: {name}\n");
    for (site, name) in SITES.iter().zip(["buero", "lab"]) {
        env.write(&format!("{site}/keel.yaml"), &source(name));
    }
    env.write(
        &format!("{}/web.yaml", SITES[1]),
        &text.replace("adress", "address"),
    );
    let ended = env.keel(&["validate", "-o", "junit", SITES[0], SITES[1]]);
    for name in ["buero", "lab"] {
        let case = format!("<testcase name=\"{name}: network/lan\"");
        assert!(ended.stdout.contains(&case), "{}", ended.stdout);
    }
    let mark = |sites: &[&str]| {
        let ended = env.keel(&[&["validate", "-o", "markdown"], sites].concat());
        ended.stdout.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(mark(&SITES), "<!-- keel:validate buero lab -->");
    assert_eq!(mark(&SITES[..1]), "<!-- keel:validate buero -->");
    assert_eq!(mark(&SITES[1..]), "<!-- keel:validate lab -->");
}
