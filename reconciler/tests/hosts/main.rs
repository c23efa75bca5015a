//! The real `keel` on the real kernel, end to end: what is made, changed by hand, killed and taken down.
//!
//! They live here and not in the folder of end-to-end tests because cargo builds the program for tests of its own crate.
//! Its companion belongs to another one: `cargo nextest run -p runtime -p reconciler` builds both.

#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests change the world by hand, run programs, wait for them and tell what they do; the harness offers more than is used yet"
)]

mod backup_schedules;
mod backup_volumes;
mod backups;
mod bad_input;
mod boot;
mod btrfs;
mod cloud_init;
mod controller;
mod copies;
mod data_kills;
mod debian;
mod drifts;
mod elsewhere;
mod ended;
mod footprint;
#[path = "../../../tests/tests/support/forge.rs"]
mod forge;
mod guest;
mod healths;
mod hostile;
mod images;
mod import;
mod init;
mod kills;
mod layers;
mod life;
mod lvm;
mod machine_crashes;
mod machine_events;
mod machine_files;
mod machine_folders;
mod machine_kills;
mod machine_merges;
mod machine_processors;
mod machine_state;
mod machine_trouble;
mod machine_usb;
mod machines;
mod macvtaps;
mod missed;
mod moves;
mod neighbours;
mod no_room;
mod optimized;
mod optimized_kills;
mod ownership;
mod pipelines;
mod policies;
mod power;
mod publishes;
mod pull_request;
mod quickstart;
mod reaches;
mod rebuilds;
mod resumes;
mod reverts;
mod runner;
mod running;
mod saved_plans;
mod schedules;
mod screens;
mod secrets;
mod shrinks;
mod shutdown;
mod side_by_side;
mod sizes;
mod snapshots;
mod systemd;
mod taps;
mod volumes;
#[path = "../../../tests/tests/support/workflow.rs"]
mod workflow;
mod world;
#[path = "../../../tests/tests/support/yaml.rs"]
mod yaml;
mod zfs;
