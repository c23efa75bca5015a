//! The same done to many things at once.

use std::num::NonZero;

/// For fewer than this a thread of their own is not worth its start.
const FEW: usize = 4;

/// What `work` says of each thing, in their order; on as many threads as there are processors.
pub(super) fn each<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    shares(things, |share| share.iter().map(&work).collect())
}

/// So many wait at one time, of those that wait for others.
const WAITING: usize = 16;

/// As [`each`], for work that is nothing but waiting for others: on more threads than there are processors.
pub(super) fn waiting<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    on_threads(things, things.len().min(WAITING), |share| {
        share.iter().map(&work).collect()
    })
}

/// As [`each`], for work that is cheaper for several things than for one after the other: it gets the share of a thread.
pub(super) fn shares<T: Sync, R: Send>(
    things: &[T],
    work: impl Fn(&[T]) -> Vec<R> + Sync,
) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    on_threads(things, processors.min(things.len() / FEW), work)
}

fn on_threads<T: Sync, R: Send>(
    things: &[T],
    threads: usize,
    work: impl Fn(&[T]) -> Vec<R> + Sync,
) -> Vec<R> {
    let threads = threads.max(1);
    if threads == 1 {
        return work(things);
    }
    let work = &work;
    let share = things.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let begun: Vec<_> = things
            .chunks(share)
            .map(|share| scope.spawn(move || work(share)))
            .collect();
        let joined = begun.into_iter().flat_map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_done_once_and_keep_their_order() {
        for count in [0, 1, 7, 8, 9, 100, 1001] {
            let things: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = things.iter().map(|thing| thing * 2).collect();
            assert_eq!(each(&things, |thing| thing * 2), doubled);
            assert_eq!(waiting(&things, |thing| thing * 2), doubled);
        }
    }

    #[test]
    #[should_panic(expected = "the fifth")]
    fn a_panic_is_passed_on() {
        let things: Vec<usize> = (0..100).collect();
        each(&things, |thing| assert!(*thing != 5, "the fifth"));
    }
}
