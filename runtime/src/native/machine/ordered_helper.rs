//! What the companion is told of the processes beside a machine.

use rustix::fs::OFlags;

use super::helpers::HelperPlan;
use super::start::{Descriptors, MachineError, programs};
use crate::native::container::capabilities::{Capabilities, bounding_set};
use crate::native::container::order;
use crate::native::container::plan::{LimitPlan, ProgramPlan};
use crate::shim::messages::{Device, Helper, IdRange, Meets, Worked};
use crate::sys::mount::{NODEV, NOEXEC, NOSUID, READ_ONLY};

/// One helper; `nodes` are the devices that every process finds.
pub(super) fn helper(
    plan: &HelperPlan,
    nodes: &[Device],
    opened: &mut Descriptors,
) -> Result<Helper, MachineError> {
    let (visible, links) = programs(&plan.program, opened)?;
    let mut arguments = vec![plan.program.display().to_string()];
    arguments.extend(plan.arguments.iter().cloned());
    let mut limits = vec![LimitPlan {
        // A dump would hold what the guest reads and writes.
        name: "core".to_owned(),
        soft: Some(0),
        hard: Some(0),
    }];
    limits.extend(plan.open_files.map(|most| LimitPlan {
        name: "nofile".to_owned(),
        soft: Some(most),
        hard: Some(most),
    }));
    let kept = plan.capabilities.iter().map(|name| (*name).to_owned());
    // Nothing on the host is a program or a device by what a guest wrote.
    let attributes = NODEV | NOSUID | NOEXEC;
    let folder = OFlags::PATH | OFlags::DIRECTORY;
    Ok(Helper {
        name: plan.name.to_owned(),
        device: plan.device.clone(),
        meets: match plan.accepts {
            true => Meets::Listening,
            false => Meets::Connected,
        },
        ids: plan
            .ids
            .iter()
            .map(|(outside, length)| IdRange {
                inside: 0,
                outside: *outside,
                length: *length,
            })
            .collect(),
        visible,
        links,
        devices: nodes.to_vec(),
        folder: Worked {
            source: opened.opened(&plan.folder, folder)?,
            target: plan.target.to_owned(),
            attributes: match plan.read_only {
                true => attributes | READ_ONLY,
                false => attributes,
            },
            recursive: plan.recursive,
            shift: plan.shift,
        },
        proc: plan.proc,
        capabilities: bounding_set(&Capabilities::Keep(kept.collect()), false)?,
        limits: limits.iter().map(order::limit).collect::<Result<_, _>>()?,
        program: order::program(&ProgramPlan {
            arguments,
            environment: vec![("LC_ALL".to_owned(), "C".to_owned())],
            directory: "/".to_owned(),
            uid: plan.user,
            gid: plan.user,
            groups: Vec::new(),
        })?,
    })
}
