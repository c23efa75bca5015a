//! Device rules as a program of cgroup2: the instructions that decide as [`DeviceRules::allow`] does.

use sha2::{Digest as _, Sha256};

use super::device_rules::{DeviceKind, DeviceRules};
use crate::sys::bpf::Instruction;

/// Codes of `include/uapi/linux/bpf_common.h` and `bpf.h`.
mod code {
    pub(super) const LOAD_WORD: u8 = 0x61;
    pub(super) const MOVE_REGISTER: u8 = 0xbf;
    pub(super) const MOVE_CONSTANT: u8 = 0xb7;
    pub(super) const AND_CONSTANT_32: u8 = 0x54;
    pub(super) const SHIFT_RIGHT_32: u8 = 0x74;
    pub(super) const JUMP_IF_NOT_EQUAL: u8 = 0x55;
    pub(super) const EXIT: u8 = 0x95;
}

/// Registers: the answer, the context, and what is read from it.
mod register {
    pub(super) const ANSWER: u8 = 0;
    pub(super) const CONTEXT: u8 = 1;
    pub(super) const ACCESS: u8 = 2;
    pub(super) const KIND: u8 = 3;
    pub(super) const MAJOR: u8 = 4;
    pub(super) const MINOR: u8 = 5;
    pub(super) const SCRATCH: u8 = 6;
}

/// `BPF_DEVCG_DEV_*` and `BPF_DEVCG_ACC_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        immediate,
    }
}

/// The program: for each rule its conditions, each jumping to the next rule, then "allowed"; at the end "denied".
pub(super) fn assemble(rules: &DeviceRules) -> Vec<Instruction> {
    use code::*;
    use register::*;
    // struct bpf_cgroup_dev_ctx { access << 16 | kind; major; minor }
    let mut program = vec![
        instruction(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, KIND, ACCESS, 0, 0),
        instruction(AND_CONSTANT_32, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_32, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter() {
        let kind = match rule.numbers.kind {
            DeviceKind::Block => BLOCK,
            DeviceKind::Character => CHARACTER,
        };
        let allowed = [
            (rule.permissions.read, READ),
            (rule.permissions.write, WRITE),
            (rule.permissions.make, MAKE),
        ]
        .into_iter()
        .filter(|(allowed, _)| *allowed)
        .fold(0, |mask, (_, bit)| mask | bit);
        let mut conditions = vec![vec![(KIND, kind)]];
        conditions.push(vec![(SCRATCH, 0)]);
        // The numbers are below 2^20, so the sign of the constant does not matter.
        for (register, number) in [(MAJOR, rule.numbers.major), (MINOR, rule.numbers.minor)] {
            if let Some(number) = number.and_then(|number| i32::try_from(number).ok()) {
                conditions.push(vec![(register, number)]);
            }
        }
        let conditions: Vec<(u8, i32)> = conditions.into_iter().flatten().collect();
        let mut body = Vec::new();
        let mut jumps = Vec::new();
        for (register, constant) in conditions {
            if register == SCRATCH {
                // What is asked for beyond what is allowed must be nothing.
                body.push(instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
                body.push(instruction(AND_CONSTANT_32, SCRATCH, 0, 0, !allowed));
            }
            jumps.push(body.len());
            body.push(instruction(JUMP_IF_NOT_EQUAL, register, 0, 0, constant));
        }
        body.push(instruction(MOVE_CONSTANT, ANSWER, 0, 0, 1));
        body.push(instruction(EXIT, 0, 0, 0, 0));
        let end = body.len();
        for jump in jumps {
            // A body has at most nine instructions.
            body[jump].offset = i16::try_from(end - jump - 1).unwrap_or(i16::MAX);
        }
        program.extend(body);
    }
    program.push(instruction(MOVE_CONSTANT, ANSWER, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

/// The name under which the program of these rules is loaded: it tells whose it is and for which rules, so that it is
/// known again on a cgroup.
pub(super) fn name(rules: &DeviceRules) -> String {
    let digest = Sha256::digest(rules.to_string());
    format!("keel_{}", hex::encode(&digest[..5]))
}

/// The beginning of the names of our programs.
pub(super) const OURS: &str = "keel_";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::cgroup::device_rules::{DeviceNumbers, DeviceRule, Permissions};
    use proptest::prelude::*;

    /// Runs a program of the instructions used above on a context of three words.
    fn run(program: &[Instruction], context: [u32; 3]) -> u64 {
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let now = program[at];
            at += 1;
            let to = usize::from(now.registers & 15);
            let from = registers[usize::from(now.registers >> 4)];
            let constant = i64::from(now.immediate).cast_unsigned();
            let offset = usize::try_from(now.offset).unwrap();
            match now.code {
                code::LOAD_WORD => registers[to] = context[offset / 4].into(),
                code::MOVE_REGISTER => registers[to] = from,
                code::MOVE_CONSTANT => registers[to] = constant,
                code::AND_CONSTANT_32 => registers[to] = registers[to] & constant & 0xffff_ffff,
                code::SHIFT_RIGHT_32 => registers[to] = (registers[to] & 0xffff_ffff) >> constant,
                code::JUMP_IF_NOT_EQUAL => {
                    if registers[to] != constant {
                        at += offset;
                    }
                }
                code::EXIT => return registers[0],
                other => panic!("no instruction {other:#x}"),
            }
        }
    }

    fn permissions() -> impl Strategy<Value = Permissions> {
        any::<(bool, bool, bool)>().prop_map(|(read, write, make)| Permissions {
            read,
            write,
            make,
        })
    }

    fn kind() -> impl Strategy<Value = DeviceKind> {
        prop_oneof![Just(DeviceKind::Character), Just(DeviceKind::Block)]
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_rules(
            rules in proptest::collection::vec(
                (kind(), proptest::option::of(0u32..4), proptest::option::of(0u32..4), permissions()),
                0..8,
            ),
            kind in kind(),
            major in 0u32..5,
            minor in 0u32..5,
            wanted in permissions(),
        ) {
            let rules: DeviceRules = rules
                .into_iter()
                .map(|(kind, major, minor, permissions)| DeviceRule {
                    numbers: DeviceNumbers { kind, major, minor },
                    permissions,
                })
                .collect();
            let access = [(wanted.read, READ), (wanted.write, WRITE), (wanted.make, MAKE)]
                .into_iter()
                .fold(0, |mask, (on, bit)| if on { mask | bit } else { mask });
            let number = match kind { DeviceKind::Block => BLOCK, DeviceKind::Character => CHARACTER };
            let context = [u32::try_from(access << 16 | number).unwrap(), major, minor];
            let allowed = run(&assemble(&rules), context) == 1;
            prop_assert_eq!(allowed, rules.allow(kind, major, minor, wanted));
        }
    }

    #[test]
    fn names_fit_the_kernel_and_tell_rules_apart() {
        let mut rules = DeviceRules::defaults();
        let first = name(&rules);
        assert!(first.len() <= 15 && first.starts_with(OURS), "{first}");
        rules.add("c 10:237 rw".parse().unwrap());
        assert_ne!(name(&rules), first);
    }
}
