//! The only home of `unsafe`: safe functions and guards over the kernel's newer calls, one file a subject.

pub mod command;
