//! Whether and when an instance that has ended is started again. No effects.

use super::messages::Restart;
use super::record::End;

/// What the companion does after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It writes the record and leaves.
    Leave,
    /// It starts the instance again after a pause.
    Again {
        /// In milliseconds.
        pause_ms: u64,
    },
}

/// Decides after an end. `ran_ms` is how long the instance ran and `last_ms` the pause before that, 0 at first.
///
/// A container that reboots itself is started again at once; one that halts itself stays down, since somebody in it
/// wished so. Everything else is an accident.
pub fn next(policy: Option<&Restart>, end: End, ran_ms: u64, last_ms: u64) -> Next {
    let Some(policy) = policy else {
        return Next::Leave;
    };
    let calm = ran_ms >= policy.calm_ms;
    match end {
        // A guest that reboots in a loop is slowed down as well.
        End::Signal(libc::SIGHUP) if calm => Next::Again { pause_ms: 0 },
        End::Signal(libc::SIGHUP) if last_ms == 0 => Next::Again { pause_ms: 1 },
        End::Signal(libc::SIGINT) => Next::Leave,
        End::Code(_) | End::Signal(_) if policy.always || end == End::Signal(libc::SIGHUP) => {
            Next::Again {
                pause_ms: pause(policy, calm, last_ms),
            }
        }
        End::Code(_) | End::Signal(_) => Next::Leave,
    }
}

/// How a virtual machine ended, in the words in which a container does: one that its guest switched off has halted.
/// (A reboot is no end: the process goes on.)
pub fn meaning(end: End, reason: Option<&str>) -> End {
    match reason {
        Some("guest-shutdown") => End::Signal(libc::SIGINT),
        _ => end,
    }
}

/// The pause after a start that failed, or a run that did not last.
pub fn pause(policy: &Restart, calm: bool, last_ms: u64) -> u64 {
    if calm || last_ms < policy.first_pause_ms {
        policy.first_pause_ms
    } else {
        last_ms.saturating_mul(2).min(policy.longest_pause_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Restart = Restart {
        always: true,
        first_pause_ms: 100,
        longest_pause_ms: 1000,
        calm_ms: 10_000,
    };

    #[test]
    fn pauses_double_until_a_run_lasts() {
        let mut last = 0;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let Next::Again { pause_ms } = next(Some(&POLICY), End::Code(1), 5, last) else {
                panic!("it starts again");
            };
            pauses.push(pause_ms);
            last = pause_ms;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        let after = next(Some(&POLICY), End::Code(1), 10_000, last);
        assert_eq!(after, Next::Again { pause_ms: 100 });
    }

    #[test]
    fn halt_stays_reboot_returns_and_accidents_follow_the_policy() {
        let calm = Restart {
            always: false,
            ..POLICY
        };
        let check = |policy, end, expected| {
            assert_eq!(next(Some(policy), end, 60_000, 0), expected, "{end:?}");
        };
        check(&POLICY, End::Signal(libc::SIGINT), Next::Leave);
        check(
            &calm,
            End::Signal(libc::SIGHUP),
            Next::Again { pause_ms: 0 },
        );
        check(&calm, End::Signal(libc::SIGKILL), Next::Leave);
        check(&calm, End::Code(0), Next::Leave);
        check(
            &POLICY,
            End::Signal(libc::SIGKILL),
            Next::Again { pause_ms: 100 },
        );
        assert_eq!(next(None, End::Signal(libc::SIGHUP), 0, 0), Next::Leave);
    }

    #[test]
    fn a_reboot_loop_is_slowed_down() {
        let reboot = |last| next(Some(&POLICY), End::Signal(libc::SIGHUP), 5, last);
        assert_eq!(reboot(0), Next::Again { pause_ms: 1 });
        assert_eq!(reboot(1), Next::Again { pause_ms: 100 });
        assert_eq!(reboot(100), Next::Again { pause_ms: 200 });
    }
}
