//! The kinds of objects, one file each.
//!
//! To add one: write `kinds/<name>.rs` with its `fields!` and [`ResourceKind`](crate::kind::ResourceKind), add its line
//! below, and give it to the engines that know it.

pub mod backup;
pub mod image;
pub mod instance;
pub mod network;
pub mod network_acl;
pub mod network_forward;
pub mod policy;
pub mod profile;
pub mod project;
pub mod secret;
pub mod snapshot_schedule;
pub mod storage_pool;
pub mod volume;

crate::kinds! {
    /// A namespace of names with limits and restrictions.
    Project "project" host (project::Project),
    /// A value that is never shown.
    Secret "secret" project (secret::Secret),
    /// A rule over plans.
    Policy "policy" host (policy::Policy),
    /// Where volumes and root file systems live.
    StoragePool "storage-pool" host (storage_pool::StoragePool),
    /// A network that instances join.
    Network "network" project (network::Network),
    /// Rules of who may talk to whom.
    NetworkAcl "network-acl" project (network_acl::NetworkAcl),
    /// Ports of an outer address led to instances.
    NetworkForward "network-forward" project (network_forward::NetworkForward),
    /// What instances start from.
    Image "image" project (image::Image),
    /// A disk with a life of its own.
    Volume "volume" project (volume::Volume),
    /// A part of instances that many share.
    Profile "profile" project (profile::Profile),
    /// A container or virtual machine.
    Instance "instance" project (instance::Instance),
    /// Snapshots of many, by schedule.
    SnapshotSchedule "snapshot-schedule" project (snapshot_schedule::SnapshotSchedule),
    /// Exports of many, by schedule.
    Backup "backup" project (backup::Backup),
}
