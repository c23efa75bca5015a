//! G105: what interrupts or destroys waits for its window.

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use manifests::action::Verb;
use manifests::desired::Window;
use manifests::diagnostic::Code;
use manifests::effect::Effect;

use super::{Check, Gate, Subject};
use crate::plan::{Allow, Because, PlanInput, Purpose};

pub(super) const GATE: Gate = Gate {
    code: Code("G105"),
    title: "outside its window",
    explanation: "`windows` in keel.yaml says when changes that interrupt or destroy may be done. Outside, they are \
                  held until the next window begins. `--approve G105` does them now.",
    approvable: true,
    check: Check::Holds(check),
};

fn check(subject: &Subject<'_>, input: &PlanInput<'_>) -> Option<Because> {
    if input.purpose != Purpose::Apply {
        return None;
    }
    let step = subject.step;
    // Accepting a change that comes into force at the next start interrupts nobody.
    if matches!(step.action.verb, Verb::Update { .. }) && step.effect == Some(Effect::NextStart) {
        return None;
    }
    let (windows, word) = match step.class() {
        Allow::Interrupting => (&input.desired.windows.interrupting, "interrupts"),
        Allow::Destructive => (&input.desired.windows.destructive, "destroys"),
        Allow::Create | Allow::Live => return None,
    };
    let until = match opening(windows, input.now) {
        Opening::Open => return None,
        Opening::At(until) => until,
    };
    Some(Because {
        code: GATE.code,
        message: match until {
            Some(_) => format!("it {word} and waits for its window"),
            None => format!("it {word} and no window will ever open"),
        },
        until,
    })
}

/// Whether a window is open.
#[derive(Debug, PartialEq, Eq)]
enum Opening {
    Open,
    /// When the next one opens.
    At(Option<Timestamp>),
}

fn opening(windows: &[Window], now: Timestamp) -> Opening {
    if windows.is_empty() {
        return Opening::Open;
    }
    let mut next: Option<Timestamp> = None;
    for window in windows {
        // Both were checked when the manifests were read; one that is wrong all the same never opens.
        let (Ok(cron), Ok(zone)) = (
            window.cron.parse::<Cron>(),
            TimeZone::get(&window.time_zone),
        ) else {
            continue;
        };
        let here = now.to_zoned(zone);
        let lasts = i64::try_from(window.seconds).unwrap_or(i64::MAX);
        let began = cron.find_previous_occurrence(&here, true).ok();
        if began.is_some_and(|began: Zoned| {
            lasts > here.timestamp().as_second() - began.timestamp().as_second()
        }) {
            return Opening::Open;
        }
        let opens = cron
            .find_next_occurrence(&here, false)
            .ok()
            .map(|at: Zoned| at.timestamp());
        next = match (next, opens) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    Opening::At(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_open_and_close_in_their_own_time_zone() {
        let sunday = Window {
            cron: "0 3 * * SUN".to_owned(),
            seconds: 7200,
            time_zone: "Europe/Berlin".to_owned(),
        };
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        // 2026-07-05 is a Sunday; Berlin is two hours ahead then.
        for (now, open) in [
            ("2026-07-05T00:59:59Z", false),
            ("2026-07-05T01:00:00Z", true),
            ("2026-07-05T02:59:59Z", true),
            ("2026-07-05T03:00:00Z", false),
        ] {
            let answer = opening(std::slice::from_ref(&sunday), at(now));
            assert_eq!(answer == Opening::Open, open, "{now}: {answer:?}");
        }
        assert_eq!(
            opening(std::slice::from_ref(&sunday), at("2026-07-05T03:00:00Z")),
            Opening::At(Some(at("2026-07-12T01:00:00Z")))
        );
        assert_eq!(opening(&[], at("2026-07-05T03:00:00Z")), Opening::Open);
    }
}
