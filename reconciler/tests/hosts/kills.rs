//! `kill -9` of `keel` while it works: what it began is finished by the next one, and nothing leaks.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{TestWorld, of_output};

/// Runs a `keel` that ends at a point by itself; answers whether it was killed there. It must succeed otherwise.
#[track_caller]
pub(crate) fn killed_at(world: &TestWorld, arguments: &[&str], point: u32) -> bool {
    killed_on("state", world, arguments, point)
}

/// The same on another state folder.
#[track_caller]
pub(crate) fn killed_on(state: &str, world: &TestWorld, arguments: &[&str], point: u32) -> bool {
    let output = world
        .command_on(state, arguments)
        .env("KEEL_TEST_KILL_AT", point.to_string())
        .output()
        .expect("keel starts");
    if output.status.signal() == Some(9) {
        return true;
    }
    of_output(&output).with(0);
    false
}

/// Runs a `keel` and kills it after a while; answers whether it was still running then.
pub(crate) fn killed_after(command: &mut Command, after: Duration) -> bool {
    let mut keel = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("keel starts");
    std::thread::sleep(after);
    let running = keel.try_wait().expect("its status").is_none();
    let _ = keel.kill();
    keel.wait().expect("its end");
    running
}

/// At how many points, or moments, of those that there are something is killed: at all of them in `tests/run.sh --all`,
/// else at one of so many, another one each day.
fn stride() -> u32 {
    match std::env::var_os("KEEL_TEST_ALL") {
        Some(_) => 1,
        None => 3,
    }
}

/// Where today's begin, from 0 on.
fn offset() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let days = now.expect("after 1970").as_secs() / 86_400;
    u32::try_from(days % u64::from(stride())).expect("a small number")
}

/// The first point of a journal at which something is killed.
pub(crate) fn first_point() -> u32 {
    1 + offset()
}

/// The one after it.
pub(crate) fn next_point(point: u32) -> u32 {
    point + stride()
}

/// Those of many moments at which something is killed; never none.
pub(crate) fn some_of<T: Copy, const N: usize>(all: [T; N]) -> impl Iterator<Item = T> {
    let every = stride() as usize;
    let first = offset() as usize;
    (0..N)
        .filter(move |at| at % every == first % every.min(N))
        .map(move |at| all[at])
}

/// Random enough for moments, and the same for the same seed (splitmix64).
struct Moments(u64);

impl Moments {
    /// From the environment, so that a run can be repeated, else from the clock; it is printed.
    fn seeded() -> Self {
        let seed = std::env::var("KEEL_TEST_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::try_from(now.expect("after 1970").as_nanos()).expect("before 2500")
        });
        println!("to repeat the moments: KEEL_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let micros = u64::try_from(limit.as_micros()).expect("a short time");
        Duration::from_micros(z % micros.max(1))
    }
}

/// Applies with a kill at a random moment, then converges; later destroys the same way. Every `each` rounds all is
/// taken down to its end and nothing may be left.
fn at_random_moments(rounds: u32) {
    let world = TestWorld::furnished();
    let mut moments = Moments::seeded();
    let begin = Instant::now();
    world.converge();
    let apply_takes = begin.elapsed();
    let begin = Instant::now();
    world.destroy();
    let destroy_takes = begin.elapsed();
    let mut met = 0;
    for round in 1..=rounds {
        let moment = moments.below(apply_takes);
        println!("round {round}: apply killed after {moment:?}");
        met += u32::from(killed_after(
            &mut world.command(&["apply", "--yes"]),
            moment,
        ));
        if round % 3 != 0 {
            world.converge();
        }
        let moment = moments.below(destroy_takes);
        println!("round {round}: destroy killed after {moment:?}");
        met += u32::from(killed_after(
            &mut world.command(&["destroy", "--no-trash", "--yes"]),
            moment,
        ));
        world.treasure_is_untouched();
        if round % 3 == 1 {
            world.converge();
        }
        if round % 2 == 0 {
            world.destroy();
        }
    }
    println!("{met} of {} kills met a keel at work", 2 * rounds);
    assert!(met > rounds / 2, "too few kills met a keel at work: {met}");
    world.converge();
    world.destroy();
}

runtime::own_processes_test! {
    fn apply_is_killed_at_every_point_of_its_journal() {
        let world = TestWorld::furnished();
        let apply = ["apply", "--yes", "--parallelism", "1"];
        let mut point = first_point();
        while killed_at(&world, &apply, point) {
            world.converge();
            world.destroy();
            point = next_point(point);
        }
        // Five objects: before and after what is written of each, and after each deed.
        assert!(point > 15, "only {point} points");
        world.nothing_to_do();
        let destroy = ["destroy", "--no-trash", "--yes", "--parallelism", "1"];
        point = first_point();
        while killed_at(&world, &destroy, point) {
            world.treasure_is_untouched();
            // Both ways out of it: up again, or down to the end.
            if point.is_multiple_of(2) {
                world.destroy();
            }
            world.converge();
            point = next_point(point);
        }
        assert!(point > 15, "only {point} points");
        world.nothing_left();
    }
}

runtime::own_processes_test! {
    fn apply_and_destroy_are_killed_at_some_random_moments() {
        at_random_moments(8);
    }
}

runtime::own_processes_test! {
    fn apply_and_destroy_are_killed_at_many_random_moments_slow() {
        at_random_moments(50);
    }
}
