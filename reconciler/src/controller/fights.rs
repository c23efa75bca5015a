//! Fights: somebody else puts a field back each time that it is mended. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use manifests::id::Address;
use manifests::pointer::Pointer;

/// So many corrections of one field …
const CORRECTIONS: usize = 3;
/// … within this time are a fight.
const WITHIN: Duration = Duration::from_secs(10 * 60);
/// For how long a field that is fought over is left alone, if nobody says anything before.
const TRUCE: Duration = Duration::from_secs(60 * 60);

/// A field of an object.
pub type Field = (Address, Pointer);

/// Corrections that were made lately, and what is left alone. Times are since the start of the controller.
#[derive(Debug, Clone, Default)]
pub struct Fights {
    corrected: BTreeMap<Field, Vec<Duration>>,
    /// Left alone until then.
    contended: BTreeMap<Field, Duration>,
}

impl Fights {
    /// Fields that drifted were put back. Answers those that are left alone from now on.
    pub fn corrected(&mut self, fields: &[Field], now: Duration) -> Vec<Field> {
        let mut begun = Vec::new();
        for field in fields {
            let times = self.corrected.entry(field.clone()).or_default();
            times.retain(|at| now.saturating_sub(*at) < WITHIN);
            times.push(now);
            if times.len() >= CORRECTIONS {
                self.corrected.remove(field);
                self.contended
                    .insert(field.clone(), now.saturating_add(TRUCE));
                begun.push(field.clone());
            }
        }
        self.corrected.retain(|_, times| {
            let newest = times.last();
            newest.is_some_and(|at| now.saturating_sub(*at) < WITHIN)
        });
        begun
    }

    /// What is left alone now.
    pub fn contended(&self, now: Duration) -> Vec<Field> {
        let left = self.contended.iter().filter(|(_, until)| **until > now);
        left.map(|(field, _)| field.clone()).collect()
    }

    /// When the next field is taken up again.
    pub fn next(&self, now: Duration) -> Option<Duration> {
        self.contended
            .values()
            .filter(|until| **until > now)
            .min()
            .copied()
    }

    /// A person or a commit says what is to be: all fights of these objects are over.
    pub fn end(&mut self, whose: impl Fn(&Address) -> bool) {
        self.contended.retain(|(address, _), _| !whose(address));
        self.corrected.retain(|(address, _), _| !whose(address));
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    fn field(name: &str) -> Field {
        let address = format!("instance/{name}").parse().expect("an address");
        (address, Pointer::new("/spec/limits/memory"))
    }

    const fn minutes(n: u64) -> Duration {
        Duration::from_secs(n * 60)
    }

    #[test]
    fn the_third_correction_within_ten_minutes_is_the_last_one() {
        let mut fights = Fights::default();
        let (a, b) = (field("a"), field("b"));
        assert!(
            fights
                .corrected(&[a.clone(), b.clone()], minutes(0))
                .is_empty()
        );
        assert!(fights.corrected(from_ref(&a), minutes(4)).is_empty());
        assert_eq!(fights.corrected(from_ref(&a), minutes(8)), from_ref(&a));
        // The other one was put back three times, too, but took its time.
        assert!(fights.corrected(from_ref(&b), minutes(9)).is_empty());
        assert!(fights.corrected(from_ref(&b), minutes(12)).is_empty());
        assert_eq!(fights.contended(minutes(13)), from_ref(&a));
        assert_eq!(fights.next(minutes(13)), Some(minutes(68)));
        assert!(fights.contended(minutes(68)).is_empty());
    }

    #[test]
    fn a_commit_ends_it() {
        let mut fights = Fights::default();
        let a = field("a");
        for n in 0..3 {
            fights.corrected(std::slice::from_ref(&a), minutes(n));
        }
        fights.end(|address| address.name == "b");
        assert_eq!(fights.contended(minutes(3)).len(), 1);
        fights.end(|address| address.name == "a");
        assert!(fights.contended(minutes(3)).is_empty());
        assert!(fights.corrected(&[a], minutes(3)).is_empty());
    }
}
