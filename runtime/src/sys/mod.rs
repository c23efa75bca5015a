//! The only home of `unsafe`: safe functions and guards over the kernel's newer calls, one file a subject.

pub mod beneath;
pub mod bpf;
pub mod btrfs;
pub mod clone3;
pub mod command;
pub mod companion;
pub mod compare_tree;
pub mod copy_bytes;
pub mod copy_tree;
pub mod device_mapper;
pub mod held_process;
pub mod inside;
pub mod interrupt;
pub mod kvm;
pub mod locked_mount;
pub mod loop_device;
pub mod macvtap;
pub mod mount;
pub mod mount_table;
pub mod netlink;
pub mod passed_sockets;
pub mod process;
pub mod remove_tree;
pub mod replace;
pub mod tap;
pub mod user_namespace;
