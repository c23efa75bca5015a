//! Group commit: many threads remember things, one transaction and one sync hold all that came meanwhile.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::{Store, StoreError, Write};

/// What is to be remembered, and who waits for it.
struct Message {
    writes: Vec<Write>,
    reply: Option<Sender<bool>>,
}

/// Hands writes to the recording thread.
#[derive(Clone)]
pub(super) struct Recorder {
    messages: Sender<Message>,
    failure: Arc<Mutex<Option<StoreError>>>,
}

/// The recording thread's end.
pub(super) struct Recording {
    messages: Receiver<Message>,
    failure: Arc<Mutex<Option<StoreError>>>,
}

/// Nothing can be remembered any more; the reason is with [`Recording`].
#[derive(Debug)]
pub(super) struct Broken;

pub(super) fn recorder() -> (Recorder, Recording) {
    let (sender, receiver) = channel();
    let failure = Arc::new(Mutex::new(None));
    (
        Recorder {
            messages: sender,
            failure: Arc::clone(&failure),
        },
        Recording {
            messages: receiver,
            failure,
        },
    )
}

/// Something on its way to the disk.
pub(super) struct Ticket {
    answer: Receiver<bool>,
}

impl Ticket {
    /// Returns once it is on disk, with all that was handed over before it.
    pub(super) fn wait(self) -> Result<(), Broken> {
        match self.answer.recv() {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Broken),
        }
    }
}

impl Recorder {
    /// Hands it over; it is on disk when the ticket says so.
    pub(super) fn soon(&self, writes: Vec<Write>) -> Ticket {
        let (reply, answer) = channel();
        // A recording thread that is gone drops the reply, which the ticket takes for a no.
        let _gone = self.messages.send(Message {
            writes,
            reply: Some(reply),
        });
        Ticket { answer }
    }

    /// Returns once it is on disk, with all that was handed over before.
    pub(super) fn now(&self, writes: Vec<Write>) -> Result<(), Broken> {
        self.soon(writes).wait()
    }

    /// Returns at once; it is on disk with the next [`Recorder::now`] at the latest.
    pub(super) fn later(&self, writes: Vec<Write>) {
        // A recording thread that is gone has left its reason behind, which the end of the apply finds.
        let _gone = self.messages.send(Message {
            writes,
            reply: None,
        });
    }

    /// Whether nothing can be remembered any more.
    pub(super) fn is_broken(&self) -> bool {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Why nothing can be remembered any more.
    pub(super) fn take_failure(&self) -> Option<StoreError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Recording {
    /// Commits until all recorders are gone. What need not be on disk at once waits for company. On a full disk the
    /// reserve is given back once and the commit is tried again.
    pub(super) fn run(self, store: &dyn Store, when_full: &dyn Fn()) {
        let mut reserve = Some(when_full);
        let mut writes: Vec<Write> = Vec::new();
        while let Ok(first) = self.messages.recv() {
            let mut waiting: Vec<Sender<bool>> = Vec::new();
            for message in std::iter::once(first).chain(self.messages.try_iter()) {
                writes.extend(message.writes);
                waiting.extend(message.reply);
            }
            if waiting.is_empty() && writes.len() < 256 {
                continue;
            }
            let done = self.commit(store, &mut writes, &mut reserve);
            for waiter in waiting {
                let _left = waiter.send(done);
            }
        }
        self.commit(store, &mut writes, &mut reserve);
    }

    fn commit(
        &self,
        store: &dyn Store,
        writes: &mut Vec<Write>,
        reserve: &mut Option<&dyn Fn()>,
    ) -> bool {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_some() {
            return false;
        }
        let mut result = store.commit(writes);
        if let (Err(error), Some(free)) = (&result, reserve.take_if(|_| true)) {
            if error.is_full() {
                free();
                result = store.commit(writes);
            } else {
                *reserve = Some(free);
            }
        }
        writes.clear();
        match result {
            Ok(()) => true,
            Err(error) => {
                *failure = Some(error);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::diff::known::Known;

    /// Counts commits; each takes as long as a sync.
    #[derive(Default)]
    struct Slow(AtomicUsize);

    impl Store for Slow {
        fn load(&self) -> Result<Known, StoreError> {
            Ok(Known::default())
        }

        fn commit(&self, _: &[Write]) -> Result<(), StoreError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            #[expect(clippy::disallowed_methods, reason = "stands for the disk")]
            std::thread::sleep(std::time::Duration::from_millis(5));
            Ok(())
        }
    }

    #[test]
    fn commits_that_come_together_share_a_sync() {
        let store = Slow::default();
        let (recorder, recording) = recorder();
        std::thread::scope(|scope| {
            scope.spawn(|| recording.run(&store, &|| {}));
            std::thread::scope(|inner| {
                for _ in 0..50 {
                    inner.spawn(|| recorder.now(vec![Write::NextGeneration]).expect("recorded"));
                }
            });
            drop(recorder);
        });
        let commits = store.0.load(Ordering::SeqCst);
        assert!(commits < 40, "{commits} commits for 50 writes");
    }
}
