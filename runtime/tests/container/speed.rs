//! How long a start takes, and how much memory the companion keeps: printed, and bounded where the issue bounds it.

use std::time::Instant;

use runtime::host_test;

use crate::world::{PATIENCE, World};

host_test! {
    fn starts_and_ends_are_quick() {
        let mut world = World::new("exec sleep 1000");
        let mut starts = Vec::new();
        let mut ends = Vec::new();
        for generation in 1..=30 {
            world.plan.generation = generation;
            let begin = Instant::now();
            world.start();
            starts.push(begin.elapsed());
            let running = world.running();
            let begin = Instant::now();
            running.kill(PATIENCE).expect("kill");
            ends.push(begin.elapsed());
        }
        starts.sort();
        ends.sort();
        println!("start: median {:?}, slowest {:?}", starts[15], starts[29]);
        println!("kill until gone: median {:?}, slowest {:?}", ends[15], ends[29]);
    }
}
