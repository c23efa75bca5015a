//! Looking at a source aside: a server that hangs keeps nobody who wants to leave.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::source::failure::SourceError;
use crate::source::followed::{Ahead, Followed, Last, Latest};

/// What is asked of a source.
enum Question {
    Latest(Option<Last>),
    Ahead(String),
}

/// What is heard by whoever waits for an answer.
enum Heard {
    Latest(Result<Latest, SourceError>),
    Ahead(Result<Option<Ahead>, SourceError>),
    Leave,
}

/// A source that a thread of its own looks at. Nobody waits for the end of that thread: what it does reads, or fills a
/// store that is fetched again where it is broken.
pub(super) struct Aside {
    questions: Sender<Question>,
    heard: Receiver<Heard>,
    is_left: bool,
}

/// While this is there, looks are waited for.
pub(super) struct Waiting(Sender<Heard>);

impl Drop for Waiting {
    fn drop(&mut self) {
        // Whoever does not listen waits for nothing.
        let _ = self.0.send(Heard::Leave);
    }
}

impl Aside {
    /// Begins; `guard` goes with the thread, and is dropped when that breaks down.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub(super) fn begin(
        mut source: Box<dyn Followed>,
        guard: impl Send + 'static,
    ) -> io::Result<(Self, Waiting)> {
        let (questions, asked) = channel::<Question>();
        let (tell, heard) = channel();
        let waiting = Waiting(tell.clone());
        std::thread::Builder::new()
            .name("keel-fetch".to_owned())
            .spawn(move || {
                let _guard = guard;
                for question in asked {
                    let answer = match question {
                        Question::Latest(last) => Heard::Latest(source.latest(last.as_ref())),
                        Question::Ahead(commit) => Heard::Ahead(source.ahead(&commit)),
                    };
                    if tell.send(answer).is_err() {
                        return;
                    }
                }
            })?;
        let this = Self {
            questions,
            heard,
            is_left: false,
        };
        Ok((this, waiting))
    }

    /// As [`Followed::latest`]; none: nobody wants to know it any more.
    pub(super) fn latest(&mut self, last: Option<Last>) -> Option<Result<Latest, SourceError>> {
        match self.ask(Question::Latest(last)) {
            Heard::Latest(answer) => Some(answer),
            Heard::Ahead(_) | Heard::Leave => None,
        }
    }

    /// As [`Followed::ahead`]; none: nobody wants to know it any more.
    pub(super) fn ahead(&mut self, commit: String) -> Option<Result<Option<Ahead>, SourceError>> {
        match self.ask(Question::Ahead(commit)) {
            Heard::Ahead(answer) => Some(answer),
            Heard::Latest(_) | Heard::Leave => None,
        }
    }

    fn ask(&mut self, question: Question) -> Heard {
        if self.is_left || self.questions.send(question).is_err() {
            return Heard::Leave;
        }
        // A thread that broke down has told it by its guard.
        let heard = self.heard.recv().unwrap_or(Heard::Leave);
        // It is told once, and more may have been asked for.
        self.is_left = matches!(heard, Heard::Leave);
        heard
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A server that answers once, and hangs from then on.
    struct Hangs {
        answers: u32,
        for_ever: Receiver<()>,
    }

    impl Followed for Hangs {
        fn name(&self) -> &str {
            "edge"
        }

        fn describe(&self) -> String {
            String::new()
        }

        fn latest(&mut self, _: Option<&Last>) -> Result<Latest, SourceError> {
            if self.answers == 0 {
                // An error: whoever could end it is gone.
                let _ = self.for_ever.recv();
            }
            self.answers -= 1;
            Ok(Latest::Unchanged { commit: None })
        }

        fn interval(&self) -> Duration {
            Duration::from_secs(60)
        }
    }

    #[test]
    fn who_leaves_waits_for_no_server_also_where_more_was_asked_of_it() {
        let (end, for_ever) = channel();
        let source = Hangs {
            answers: 1,
            for_ever,
        };
        let (mut aside, waiting) = Aside::begin(Box::new(source), ()).expect("a thread");
        let unchanged = Latest::Unchanged { commit: None };
        assert_eq!(
            aside.latest(None).expect("heard").expect("looked at"),
            unchanged
        );
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let looks = [aside.latest(None), aside.latest(None)];
            tell.send(looks.map(|looked| looked.is_none()))
        });
        let early = told.recv_timeout(Duration::from_millis(50));
        assert!(early.is_err(), "it hangs");
        drop(waiting);
        let patience = Duration::from_secs(20);
        assert_eq!(told.recv_timeout(patience), Ok([true, true]));
        drop(end);
    }
}
