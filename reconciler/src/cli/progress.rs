//! Tells on stderr what an apply is doing: [`Progress`]; and that something is done while nothing can be said yet:
//! [`patiently`].

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::invocation::{Invocation, environment, say};
use crate::apply::{ApplyObserver, StepResult};
use crate::clock::Clock;
use crate::plan::Step;
use crate::view::progress::Board;

/// How often lines on a terminal are drawn again, in milliseconds.
const REDRAW: u64 = 250;

/// What is done sooner needs no line.
const SOON: Duration = Duration::from_millis(60);
/// To the start of the line, and the rest of it away.
const CLEAR: &str = "\r\x1b[K";

/// Draws what runs, from several threads.
pub(super) struct Progress<'a> {
    clock: &'a dyn Clock,
    began: Instant,
    quiet: bool,
    cancel: &'a AtomicBool,
    told_of_cancel: AtomicBool,
    over: AtomicBool,
    board: Mutex<Board>,
}

impl<'a> Progress<'a> {
    /// A terminal gets lines that are drawn again; a pipe, a dumb terminal and CI get lines that stay.
    pub(super) fn new(invocation: &'a Invocation) -> Self {
        let draws = can_draw();
        Self {
            clock: invocation.clock(),
            began: invocation.clock().instant(),
            quiet: invocation.global.quiet,
            cancel: invocation.cancel,
            told_of_cancel: AtomicBool::new(false),
            over: AtomicBool::new(false),
            board: Mutex::new(Board::new(draws.then(|| invocation.columns()))),
        }
    }

    /// Does the work while time goes on in the lines.
    pub(super) fn around<T>(&self, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            let ticker = scope.spawn(|| {
                while !self.over.load(Ordering::SeqCst) {
                    std::thread::park_timeout(std::time::Duration::from_millis(REDRAW));
                    self.tick();
                }
            });
            // Also after a panic the ticker must end, or the scope would wait for ever.
            let _end = End {
                over: &self.over,
                ticker: ticker.thread(),
            };
            work()
        })
    }

    /// The last lines.
    pub(super) fn summary(&self, held: usize, again: &str) -> String {
        self.board().summary(held, again, self.milliseconds())
    }

    fn tick(&self) {
        let asked = self.cancel.load(Ordering::SeqCst);
        if asked && !self.told_of_cancel.swap(true, Ordering::SeqCst) {
            say("  no new work begins, what runs comes to its end; once more to leave now\n");
        }
        let mut board = self.board();
        let text = board.tick(self.milliseconds());
        self.tell(&text);
    }

    fn tell(&self, text: &str) {
        if !self.quiet && !text.is_empty() {
            say(text);
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn milliseconds(&self) -> u64 {
        crate::clock::micros_since(self.clock, self.began) / 1000
    }
}

/// Whether stderr is a terminal on which lines can be drawn again.
fn can_draw() -> bool {
    std::io::stderr().is_terminal()
        && environment("TERM").is_none_or(|kind| kind != "dumb")
        && environment("CI").is_none()
}

/// Does the work; where it takes longer than a moment, a terminal shows what it is until it is done.
pub(super) fn patiently<T>(invocation: &Invocation, what: &str, work: impl FnOnce() -> T) -> T {
    if invocation.global.quiet || !can_draw() {
        return work();
    }
    let (over, drawn) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let line = scope.spawn(|| {
            std::thread::park_timeout(SOON);
            if !over.load(Ordering::SeqCst) {
                drawn.store(true, Ordering::SeqCst);
                say(&format!("{what} …"));
            }
        });
        // Also after a panic the thread must end, or the scope would wait for ever.
        let end = End {
            over: &over,
            ticker: line.thread(),
        };
        let done = work();
        drop(end);
        let _ = line.join();
        if drawn.load(Ordering::SeqCst) {
            say(CLEAR);
        }
        done
    })
}

struct End<'a> {
    over: &'a AtomicBool,
    ticker: &'a std::thread::Thread,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.ticker.unpark();
    }
}

impl ApplyObserver for Progress<'_> {
    fn started(&self, step: &Step) {
        let mut board = self.board();
        let object = step.address().to_string();
        let text = board.started(step.id, &object, step.deed(), self.milliseconds());
        // Told under the lock, so that lines of two threads do not mix.
        self.tell(&text);
    }

    fn phase(&self, step: &Step, phase: &str) {
        let mut board = self.board();
        let text = board.phase(step.id, phase, self.milliseconds());
        self.tell(&text);
    }

    fn finished(&self, step: &Step, result: &StepResult) {
        let mut board = self.board();
        let object = step.address().to_string();
        let text = board.ended(step.id, &object, &result.outcome, self.milliseconds());
        self.tell(&text);
    }
}
