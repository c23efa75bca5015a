//! Whether KVM works here: a processor is run, since a `/dev/kvm` that exists proves nothing (`Documentation/virt/kvm/api.rst`).
//!
//! The trial runs in a child process that makes system calls only and is killed when it takes too long: a processor that
//! never stops cannot stop the caller.
#![expect(unsafe_code, reason = "fork, and ioctls with our own structures")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

/// How long the trial may take in all; it takes some milliseconds where KVM works.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a killed trial may take to end.
const END: Duration = Duration::from_secs(1);

/// The rounds of a loop that show whether the processor runs by itself.
const ROUNDS: u32 = 1 << 22;

/// The processor time of the trial, which does not depend on what else the host does. The loop is some two milliseconds;
/// where KVM itself imitates the processor (a hypervisor in a guest that lends it no hardware), it is ten seconds and
/// more, and no kernel starts in a reasonable time.
const RUNNING: Duration = Duration::from_millis(300);

/// Why KVM does not work.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// The kernel refused a step.
    #[error("{doing}")]
    Call {
        /// The step.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel speaks another version.
    #[error("this kernel speaks version {found} of the KVM interface, not {VERSION}")]
    Version {
        /// What it speaks.
        found: i32,
    },
    /// The processor ran, and not as its program says.
    #[error("a processor that was to halt stopped otherwise (KVM_EXIT {reason})")]
    Stopped {
        /// `KVM_EXIT_…` of `linux/kvm.h`.
        reason: i32,
    },
    /// The processor halted without having done what it was told.
    #[error("a processor halted without having run its program")]
    NotRun,
    /// It did not come to an end.
    #[error("a processor that was to halt did not within {} s", after.as_secs())]
    Hung {
        /// How long it was let.
        after: Duration,
    },
    /// It runs, and does not get on.
    #[error(
        "a processor was not done with a short loop after running for {} ms: KVM hangs here, or imitates the processor more slowly than QEMU does without it",
        RUNNING.as_millis()
    )]
    Slow,
    /// The trial ended without a word.
    #[error("the process of the trial was killed")]
    Killed,
    /// KVM there runs other machines.
    #[error("this host is no x86-64")]
    Architecture,
}

/// The only version since Linux 2.6.22.
const VERSION: i32 = 12;

/// Runs a processor of a small virtual machine in 64-bit mode, and demands that it halts, and soon. It is bounded: some
/// ten milliseconds where KVM works or is absent, eleven seconds at most.
///
/// # Errors
/// Why KVM is of no use.
pub fn probe() -> Result<(), KvmError> {
    if !cfg!(target_arch = "x86_64") {
        return Err(KvmError::Architecture);
    }
    in_child(|| trial::run(ROUNDS), PATIENCE).and_then(judge)
}

/// What the child has to say: how far it came, and a number that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Report {
    step: u8,
    number: i32,
}

/// The steps of the trial, as errors name them.
const STEPS: [&str; 9] = [
    "open /dev/kvm",
    "ask for the version of KVM",
    "make a virtual machine",
    "reserve memory for a virtual machine",
    "give a virtual machine its memory",
    "make a virtual processor",
    "map the state of a virtual processor",
    "set the registers of a virtual processor",
    "run a virtual processor",
];

/// Reports beyond the steps that the kernel refused.
const OTHER_VERSION: u8 = 100;
const STOPPED: u8 = 101;
const NOT_RUN: u8 = 102;
const HALTED: u8 = 103;

fn judge(report: Report) -> Result<(), KvmError> {
    let Report { step, number } = report;
    match step {
        HALTED => Ok(()),
        OTHER_VERSION => Err(KvmError::Version { found: number }),
        STOPPED => Err(KvmError::Stopped { reason: number }),
        NOT_RUN => Err(KvmError::NotRun),
        step => match STEPS.get(usize::from(step)) {
            None => Err(KvmError::Killed),
            Some(doing) => Err(KvmError::Call {
                doing,
                source: io::Error::from_raw_os_error(number),
            }),
        },
    }
}

fn failed(doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> KvmError {
    move |errno| KvmError::Call {
        doing,
        source: errno.into(),
    }
}

/// Runs `trial` in a child and waits for its report. `trial` may make system calls, and nothing else: it runs in a copy of
/// a process whose other threads are gone, whatever locks they held.
fn in_child(trial: fn() -> Report, patience: Duration) -> Result<Report, KvmError> {
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed("make a pipe"))?;
    let caller = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: the child makes system calls on its own copy of the memory, allocates nothing, takes no lock and ends by
    // `_exit`: what is allowed after a fork of a process with several threads (fork(2), signal-safety(7)).
    let pid = match unsafe { libc::fork() } {
        -1 => {
            return Err(KvmError::Call {
                doing: "start a process",
                source: io::Error::last_os_error(),
            });
        }
        0 => {
            let report = report_of(trial, caller);
            let [a, b, c, d] = report.number.to_ne_bytes();
            let bytes = [report.step, a, b, c, d];
            // SAFETY: five live bytes to a descriptor that is open in this copy; then the process is over.
            unsafe {
                libc::write(writer.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
                libc::_exit(0)
            }
        }
        pid => Pid::from_raw(pid).ok_or(KvmError::Killed)?,
    };
    drop(writer);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    let answered = match &pidfd {
        // Whatever ends first: it writes and goes.
        Ok(pidfd) => readable(pidfd, patience),
        Err(errno) => Err(*errno),
    };
    let answered = answered.map_err(failed("wait for the trial"));
    if !matches!(answered, Ok(true)) {
        // Not waited for yet, so the number is its own.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    // One that even that does not end hangs in the kernel; it is left there rather than to hang with it.
    let mut ended = None;
    if pidfd.is_ok_and(|pidfd| readable(&pidfd, END).unwrap_or(false)) {
        let waited = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        ended = waited.ok().flatten().map(|(_, status)| status);
    }
    if !answered? {
        return Err(KvmError::Hung { after: patience });
    }
    if ended.and_then(|status| status.terminating_signal()) == Some(libc::SIGPROF) {
        return Err(KvmError::Slow);
    }
    let mut bytes = [0; 5];
    match rustix::io::read(&reader, &mut bytes).map_err(failed("read the report of the trial"))? {
        5 => Ok(Report {
            step: bytes[0],
            number: i32::from_ne_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]),
        }),
        _ => Err(KvmError::Killed),
    }
}

/// The child: it does not outlive the thread that waits for it, nor its processor time.
fn report_of(trial: fn() -> Report, caller: libc::pid_t) -> Report {
    super::process::reset_signals();
    let limit = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: RUNNING.subsec_micros().into(),
        },
    };
    // SAFETY: numbers, and a live structure that is only read. The caller may have ended before it was named.
    let bound = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
            && libc::getppid() == caller
            && libc::setitimer(libc::ITIMER_PROF, &raw const limit, std::ptr::null_mut()) == 0
    };
    if !bound {
        return Report {
            step: u8::MAX,
            number: 0,
        };
    }
    trial()
}

fn readable(source: &OwnedFd, patience: Duration) -> rustix::io::Result<bool> {
    let patience = Timespec::try_from(patience).ok();
    loop {
        let mut sources = [PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut sources, patience.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}

/// What the child does. Nothing is released: its end does that.
mod trial {
    use super::*;

    // linux/kvm.h; the sizes of the structures are in the numbers.
    const GET_API_VERSION: u64 = 0xAE00;
    const CREATE_VM: u64 = 0xAE01;
    const GET_VCPU_MMAP_SIZE: u64 = 0xAE04;
    const CREATE_VCPU: u64 = 0xAE41;
    const SET_TSS_ADDR: u64 = 0xAE47;
    const RUN: u64 = 0xAE80;
    const SET_USER_MEMORY_REGION: u64 = 0x4020_AE46;
    const GET_REGS: u64 = 0x8090_AE81;
    const SET_REGS: u64 = 0x4090_AE82;
    const GET_SREGS: u64 = 0x8138_AE83;
    const SET_SREGS: u64 = 0x4138_AE84;
    const EXIT_HLT: i32 = 5;

    /// The machine's memory from address 0: three levels of page tables and the program, a page each.
    const MEMORY: usize = 4 * PAGE;
    const PAGE: usize = 0x1000;
    const PROGRAM: usize = 3 * PAGE;
    /// Where Intel's older processors keep what they need of their own: anywhere the machine has no memory.
    const TSS: u64 = 0xFFFB_D000;
    /// In 64-bit code: `mov ecx, ROUNDS; again: dec ecx; jnz again; mov ebx, 0x6c65656b; hlt`.
    const CODE: [u8; 15] = [
        0xB9, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xC9, 0x75, 0xFC, 0xBB, 0x6B, 0x65, 0x65, 0x6C, 0xF4,
    ];
    const MARK: u64 = 0x6C65_656B;
    /// A table that is there, and may be written.
    const TABLE: u64 = 0b11;
    /// The same for two megabytes of memory.
    const MEMORY_OF_2_MB: u64 = TABLE | 1 << 7;

    /// `struct kvm_userspace_memory_region`.
    #[repr(C)]
    struct Region {
        slot: u32,
        flags: u32,
        guest_address: u64,
        size: u64,
        address: u64,
    }

    /// `struct kvm_regs` of x86: `rax`, `rbx`, …, `rip`, `rflags`.
    type Registers = [u64; 18];
    const RBX: usize = 1;
    const RIP: usize = 16;
    const RFLAGS: usize = 17;

    /// `struct kvm_sregs` of x86, in words: segments of three each, then tables, then control registers.
    type SegmentRegisters = [u64; 39];
    const CS: usize = 0;
    /// `ds`, `es`, `fs`, `gs` and `ss`.
    const DATA: [usize; 5] = [3, 6, 9, 12, 15];
    const CR0: usize = 28;
    const CR3: usize = 30;
    const CR4: usize = 31;
    const EFER: usize = 33;

    /// A segment of all memory as `struct kvm_segment`: base; limit, selector, type and present; dpl, db, s, l and g.
    const fn segment(selector: u64, kind: u64, db: u64, l: u64) -> [u64; 3] {
        let limit = 0xFFFF_FFFF;
        [
            0,
            limit | selector << 32 | kind << 48 | 1 << 56,
            db << 8 | 1 << 16 | l << 24 | 1 << 32,
        ]
    }

    fn refused(step: u8) -> Report {
        // Taken from `errno` itself: nothing may be allocated here.
        // SAFETY: the address of this thread's own errno.
        let number = unsafe { *libc::__errno_location() };
        Report { step, number }
    }

    /// An ioctl with a number or a pointer; its answer, or the report that `step` was refused.
    fn call(device: RawFd, request: u64, argument: u64, step: u8) -> Result<i32, Report> {
        // SAFETY: every caller passes the argument that the request takes: a number, or a pointer to a live structure of
        // the size in the request's number.
        match unsafe { libc::ioctl(device, request as _, argument) } {
            -1 => Err(refused(step)),
            answer => Ok(answer),
        }
    }

    fn map(size: usize, file: RawFd, flags: libc::c_int, step: u8) -> Result<*mut u8, Report> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let mapped = unsafe { libc::mmap(std::ptr::null_mut(), size, rights, flags, file, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(refused(step));
        }
        Ok(mapped.cast())
    }

    pub(super) fn run(rounds: u32) -> Report {
        steps(rounds).unwrap_or_else(|report| report)
    }

    fn steps(rounds: u32) -> Result<Report, Report> {
        // SAFETY: a C string; the descriptor stays open until the process ends.
        let device = unsafe { libc::open(c"/dev/kvm".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if device == -1 {
            return Err(refused(0));
        }
        let number = call(device, GET_API_VERSION, 0, 1)?;
        if number != VERSION {
            return Ok(Report {
                step: OTHER_VERSION,
                number,
            });
        }
        let machine = call(device, CREATE_VM, 0, 2)?;
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let memory = map(MEMORY, -1, shared, 3)?;
        // SAFETY: all four pages are mapped, aligned and nobody else's; the code is shorter than its page.
        unsafe {
            memory.cast::<u64>().write(PAGE as u64 | TABLE);
            let second = memory.add(PAGE).cast::<u64>();
            second.write((2 * PAGE as u64) | TABLE);
            memory.add(2 * PAGE).cast::<u64>().write(MEMORY_OF_2_MB);
            let program = memory.add(PROGRAM);
            std::ptr::copy_nonoverlapping(CODE.as_ptr(), program, CODE.len());
            program.add(1).cast::<u32>().write_unaligned(rounds);
        }
        let region = Region {
            slot: 0,
            flags: 0,
            guest_address: 0,
            size: MEMORY as u64,
            address: memory as u64,
        };
        call(machine, SET_TSS_ADDR, TSS, 4)?;
        call(
            machine,
            SET_USER_MEMORY_REGION,
            (&raw const region) as u64,
            4,
        )?;
        let processor = call(machine, CREATE_VCPU, 0, 5)?;
        let size = call(device, GET_VCPU_MMAP_SIZE, 0, 6)?.cast_unsigned() as usize;
        let state = map(size, processor, libc::MAP_SHARED, 6)?;
        set_registers(processor)?;
        // A signal that only interrupts is none of this processor's business.
        while let Err(report) = call(processor, RUN, 0, 8) {
            if report.number != libc::EINTR {
                return Err(report);
            }
        }
        // SAFETY: `exit_reason` of `struct kvm_run`, an aligned u32 behind eight bytes, in a mapping of at least a page.
        let reason = unsafe { state.add(8).cast::<i32>().read_volatile() };
        if reason != EXIT_HLT {
            return Ok(Report {
                step: STOPPED,
                number: reason,
            });
        }
        let mut registers: Registers = [0; 18];
        call(processor, GET_REGS, (&raw mut registers) as u64, 8)?;
        let step = match registers[RBX] {
            MARK => HALTED,
            _ => NOT_RUN,
        };
        Ok(Report { step, number: 0 })
    }

    fn set_registers(processor: RawFd) -> Result<(), Report> {
        let mut segments: SegmentRegisters = [0; 39];
        call(processor, GET_SREGS, (&raw mut segments) as u64, 7)?;
        // 64-bit mode as a kernel has it: paging (CR0 PG, WP, NE, ET, MP, PE), CR4 PAE, EFER LMA and LME.
        segments[CS..][..3].copy_from_slice(&segment(1 << 3, 11, 0, 1));
        for data in DATA {
            segments[data..][..3].copy_from_slice(&segment(2 << 3, 3, 1, 0));
        }
        segments[CR0] = 0x8001_0033;
        segments[CR3] = 0;
        segments[CR4] = 1 << 5;
        segments[EFER] = 0x500;
        call(processor, SET_SREGS, (&raw const segments) as u64, 7)?;
        let mut registers: Registers = [0; 18];
        registers[RIP] = PROGRAM as u64;
        // The bit that is always set.
        registers[RFLAGS] = 2;
        call(processor, SET_REGS, (&raw const registers) as u64, 7)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_halts_or_the_reason_is_said() {
        // One round is not much, even for a processor that is imitated: where a machine can be made, it halts.
        let short = in_child(|| trial::run(1), PATIENCE).and_then(judge);
        println!("one round: {short:?}");
        match probe() {
            Ok(()) => assert!(short.is_ok(), "{short:?}"),
            Err(error) => {
                println!("KVM does not work here: {error:?}");
                // The trial itself is sound: the kernel, or the processor, has the last word.
                assert!(
                    !matches!(error, KvmError::Killed | KvmError::NotRun),
                    "{error:?}"
                );
            }
        }
    }

    #[test]
    fn a_trial_that_hangs_is_ended() {
        fn hang() -> Report {
            // SAFETY: waits for a signal.
            while unsafe { libc::pause() } != 0 {}
            Report {
                step: HALTED,
                number: 0,
            }
        }
        let after = Duration::from_millis(100);
        let hung = in_child(hang, after);
        assert!(
            matches!(hung, Err(KvmError::Hung { after: said }) if said == after),
            "{hung:?}"
        );
    }

    #[test]
    fn a_trial_that_runs_and_runs_is_ended() {
        fn spin() -> Report {
            loop {
                std::hint::spin_loop();
            }
        }
        let slow = in_child(spin, PATIENCE);
        assert!(matches!(slow, Err(KvmError::Slow)), "{slow:?}");
    }

    #[test]
    fn a_trial_that_dies_is_no_success() {
        fn die() -> Report {
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) }
        }
        let died = in_child(die, PATIENCE);
        assert!(matches!(died, Err(KvmError::Killed)), "{died:?}");
    }

    #[test]
    fn each_report_has_its_words() {
        let said = |step, number| judge(Report { step, number }).unwrap_err().to_string();
        assert_eq!(
            said(OTHER_VERSION, 11),
            "this kernel speaks version 11 of the KVM interface, not 12"
        );
        assert_eq!(
            said(STOPPED, 17),
            "a processor that was to halt stopped otherwise (KVM_EXIT 17)"
        );
        assert_eq!(said(0, libc::ENOENT), "open /dev/kvm");
        assert_eq!(said(8, libc::EFAULT), "run a virtual processor");
        assert_eq!(said(9, 0), "the process of the trial was killed");
        assert!(
            judge(Report {
                step: HALTED,
                number: 0
            })
            .is_ok()
        );
    }
}
