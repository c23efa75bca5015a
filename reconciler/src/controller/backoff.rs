//! How long to wait before something that failed is tried again. Pure: chance comes from a number.

use std::time::Duration;

use runtime::error::Class;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// How long what a person has to mend is left alone, if nobody says that it is mended.
const STALLED: Duration = Duration::from_secs(60 * 60);

/// A source of numbers for jitter (splitmix64): the same seed gives the same numbers, so that a simulation can be
/// repeated.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A number in `0..1000`.
    pub fn permille(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        u32::try_from(z % 1000).unwrap_or(0)
    }

    /// A time that is up to a tenth shorter or longer: many that began together do not stay together.
    pub fn around(&mut self, time: Duration) -> Duration {
        time.mul_f64(0.9 + f64::from(self.permille()) / 5000.0)
    }
}

/// Whether a failure of this class goes away by itself, so that trying again is worth it.
pub const fn may_pass(class: Class) -> bool {
    matches!(class, Class::Retry | Class::Conflict)
}

/// How long to wait after the `times`th failure in a row, from 1: twice as long each time, up to a quarter of an hour,
/// anywhere in the second half of that. After a first conflict there is nothing to wait for but another look.
pub fn wait(class: Class, times: u32, chance: &mut Chance) -> Duration {
    if !may_pass(class) {
        return chance.around(STALLED);
    }
    if class == Class::Conflict && times <= 1 {
        return Duration::ZERO;
    }
    let doubled = 1u32.checked_shl(times.saturating_sub(1)).unwrap_or(0);
    let whole = match doubled {
        0 => LONGEST,
        doubled => FIRST.saturating_mul(doubled).min(LONGEST),
    };
    whole.mul_f64(0.5 + f64::from(chance.permille()) / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_quarter_of_an_hour_and_no_two_are_alike() {
        let mut chance = Chance::of(7);
        for (times, most) in [(1, 1), (2, 2), (3, 4), (10, 512), (11, 900), (40, 900)] {
            let most = Duration::from_secs(most);
            let waited = wait(Class::Retry, times, &mut chance);
            assert!(waited >= most / 2 && waited <= most, "{times}: {waited:?}");
        }
        let one = wait(Class::Retry, 5, &mut chance);
        let other = wait(Class::Retry, 5, &mut chance);
        assert_ne!(one, other);
    }

    #[test]
    fn what_a_person_has_to_mend_is_not_hammered_at() {
        let mut chance = Chance::of(7);
        for class in [
            Class::Refused,
            Class::NeedsOperator,
            Class::Unsupported,
            Class::Bug,
        ] {
            assert!(wait(class, 1, &mut chance) > Duration::from_secs(3000));
        }
        assert_eq!(wait(Class::Conflict, 1, &mut chance), Duration::ZERO);
        assert!(wait(Class::Conflict, 2, &mut chance) > Duration::ZERO);
    }

    #[test]
    fn around_is_a_tenth_at_most() {
        let mut chance = Chance::of(1);
        for _ in 0..1000 {
            let time = chance.around(Duration::from_secs(100));
            assert!(time >= Duration::from_secs(90) && time <= Duration::from_secs(110));
        }
    }
}
