//! Who wants to leave is not held up.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::source::failure::SourceError;
use crate::source::followed::{Last, Latest};

/// A folder that hangs when it is looked at again, and says when it does.
struct Hangs {
    folder: Directory,
    looks: u32,
    tell: Sender<()>,
    for_ever: Receiver<()>,
}

impl Followed for Hangs {
    fn name(&self) -> &str {
        self.folder.name()
    }

    fn describe(&self) -> String {
        self.folder.describe()
    }

    fn latest(&mut self, last: Option<&Last>) -> Result<Latest, SourceError> {
        self.looks += 1;
        if self.looks > 1 {
            self.tell.send(()).expect("somebody waits");
            // An error: whoever could end it is gone.
            let _ = self.for_ever.recv();
        }
        self.folder.latest(last)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }
}

#[test]
fn a_source_that_hangs_holds_up_nobody_who_leaves() {
    let (tell, told) = channel();
    let (end, for_ever) = channel();
    let bench = Bench::following(&[], |path| {
        Box::new(Hangs {
            folder: Directory::new("edge", path, Duration::from_secs(3600)),
            looks: 0,
            tell,
            for_ever,
        })
    });
    bench
        .post("/v1/reconcile", &json!({}))
        .expect("it is asked for");
    told.recv_timeout(PATIENCE).expect("it hangs");
    let began = HostClock.instant();
    drop(bench);
    let took = HostClock.instant().saturating_duration_since(began);
    // What is measured is the controller with its API, which lets answers under way half a second.
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    drop(end);
}
