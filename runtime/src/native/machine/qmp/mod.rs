//! A client of QEMU's monitor (QMP): commands, answers and events over a unix socket.
//!
//! QEMU is not trusted, since its guest may have escaped into it: every wait has an end, whatever trickles in, and memory
//! a bound. One that breaks the protocol is not listened to any more; one that is only late may be asked again.

mod commands;
mod error;
mod inquiry;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use self::wire::{LONGEST, Message};
use super::line_socket::{FLOOD, LineSocket};
use crate::native::deadline::Deadline;

pub use self::commands::{Job, JobStatus, RunState, Status};
pub use self::error::QmpError;
pub use self::inquiry::{Answers, Inquiry};
pub use self::wire::Event;

/// How many events are kept until somebody reads them, and how many bytes of them. The oldest are lost first.
const KEPT: usize = 1000;
const KEPT_BYTES: usize = 1 << 20;

/// How long one monitor is waited for alone where there is another.
pub const MOMENT: Duration = Duration::from_millis(200);

/// A connection to a monitor. QEMU serves one for each monitor; who comes later waits until this one is dropped.
#[derive(Debug)]
pub struct Qmp {
    lines: LineSocket,
    version: String,
    patience: Duration,
    /// The number of the last command.
    last: u64,
    /// Events that nobody has read, with the length of their lines.
    events: VecDeque<(Event, usize)>,
    events_bytes: usize,
    lost: u64,
}

impl Qmp {
    /// Connects to a monitor, which may have a path of any length. `patience` is for this, and then for each answer.
    ///
    /// # Errors
    /// There is no monitor, or it does not greet in time.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, QmpError> {
        Self::connect_any(&[path], patience)
    }

    /// As [`Qmp::connect`], to that monitor of one QEMU which greets first. The next is turned to where the one before
    /// does not greet within a moment, since somebody else may be connected to it.
    ///
    /// # Errors
    /// As [`Qmp::connect`], of the last.
    pub fn connect_any(paths: &[&Path], patience: Duration) -> Result<Self, QmpError> {
        let deadline = Deadline::after(patience);
        let mut failed = QmpError::NoGreeting { after: patience };
        let mut waiting = Vec::new();
        for (position, path) in paths.iter().enumerate() {
            let last = position + 1 == paths.len();
            let until = match last {
                true => deadline,
                false => Deadline::after(MOMENT.min(patience)),
            };
            match LineSocket::connect(path, &until) {
                Ok(lines) => waiting.push(lines),
                Err(failure) => failed = QmpError::no_monitor(path, failure),
            }
            if let Some(first) = LineSocket::first_that_speaks(&waiting, &until)
                .map_err(|failure| QmpError::no_monitor(path, failure))?
            {
                return Self::greeted(waiting.swap_remove(first), patience, &deadline);
            }
        }
        match waiting.is_empty() {
            true => Err(failed),
            false => Err(QmpError::NoGreeting { after: patience }),
        }
    }

    /// Over a socket that is connected to a monitor.
    ///
    /// # Errors
    /// It does not greet in time.
    pub fn over(socket: OwnedFd, patience: Duration) -> Result<Self, QmpError> {
        let deadline = Deadline::after(patience);
        Self::greeted(LineSocket::over(socket), patience, &deadline)
    }

    fn greeted(
        lines: LineSocket,
        patience: Duration,
        deadline: &Deadline,
    ) -> Result<Self, QmpError> {
        let mut qmp = Self::unknown(lines, patience);
        qmp.greeting(deadline)?;
        qmp.ask("qmp_capabilities", Value::Null, None, deadline)?;
        Ok(qmp)
    }

    /// One that has not greeted yet.
    fn unknown(lines: LineSocket, patience: Duration) -> Self {
        Self {
            lines,
            version: String::new(),
            patience,
            last: 0,
            events: VecDeque::new(),
            events_bytes: 0,
            lost: 0,
        }
    }

    /// Waits for the greeting.
    fn greeting(&mut self, deadline: &Deadline) -> Result<(), QmpError> {
        match self.receive("the greeting", &mut { FLOOD }, deadline) {
            Ok((Message::Greeting(version), _)) => {
                self.version = version;
                Ok(())
            }
            Ok(_) => Err(QmpError::Strange {
                what: "no greeting",
            }),
            Err(QmpError::Silent { after, .. }) => Err(QmpError::NoGreeting { after }),
            Err(error) => Err(error),
        }
    }

    /// The version of this QEMU, for people: what it can is asked of it, and not read off that.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// From now on each answer may take that long.
    pub const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Tells QEMU something and waits for its answer. Null arguments are none. Events that come meanwhile are kept.
    ///
    /// # Errors
    /// QEMU refused, did not answer in time, has ended or lost its senses.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let deadline = Deadline::after(self.patience);
        self.ask(command, arguments, None, &deadline)
    }

    /// As [`Qmp::execute`], and passes a descriptor (`getfd`, `add-fd`).
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: BorrowedFd<'_>,
    ) -> Result<Value, QmpError> {
        let deadline = Deadline::after(self.patience);
        self.ask(command, arguments, Some(descriptor), &deadline)
    }

    /// The first event that `wanted` accepts, of those that are kept or that come within `patience`; it is taken out, the
    /// others stay. No patience looks at what is there. `None`: none came.
    ///
    /// # Errors
    /// QEMU has ended or lost its senses.
    pub fn wait_event(
        &mut self,
        patience: Duration,
        wanted: &mut dyn FnMut(&Event) -> bool,
    ) -> Result<Option<Event>, QmpError> {
        if let Some(at) = self.events.iter().position(|(event, _)| wanted(event)) {
            let found = self.events.remove(at);
            return Ok(found.map(|(event, length)| {
                self.events_bytes -= length;
                event
            }));
        }
        let deadline = Deadline::after(patience);
        let mut budget = FLOOD;
        loop {
            match self.receive("an event", &mut budget, &deadline) {
                Ok((Message::Event(event), _)) if wanted(&event) => return Ok(Some(event)),
                Ok((Message::Event(event), length)) => self.keep(event, length),
                Ok((Message::Answer { id, .. }, _)) => self.is_late(id)?,
                Ok((Message::Greeting(_), _)) => return Err(self.strange("a second greeting")),
                Err(QmpError::Silent { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes out the events that were kept, oldest first. It does not look for new ones.
    pub fn events(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.events_bytes = 0;
        self.events.drain(..).map(|(event, _)| event)
    }

    /// How many events were lost since nobody read them.
    pub const fn lost_events(&self) -> u64 {
        self.lost
    }

    /// Tells QEMU several things before it waits for the first answer, which saves the way to and fro; QEMU does them in
    /// their order. A refusal of one concerns that one alone.
    ///
    /// # Errors
    /// QEMU did not answer in time, has ended or lost its senses.
    pub fn execute_each(&mut self, commands: &[(&str, Value)]) -> Result<Answers, QmpError> {
        let deadline = Deadline::after(self.patience);
        let Some((first, _)) = commands.first() else {
            return Ok(Vec::new());
        };
        let before = self.last;
        let lines: String = commands
            .iter()
            .map(|(command, arguments)| self.line(command, arguments.clone()))
            .collect();
        self.send(first, &lines, None, &deadline)?;
        let answers = commands.iter().zip(before + 1..).map(|((command, _), id)| {
            match self.answer(command, id, &deadline) {
                Err(error @ QmpError::Refused { .. }) => Ok(Err(error)),
                other => other.map(Ok),
            }
        });
        answers.collect()
    }

    fn ask(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        deadline: &Deadline,
    ) -> Result<Value, QmpError> {
        let id = self.say(command, arguments, descriptor, deadline)?;
        self.answer(command, id, deadline)
    }

    /// Sends a command; its number.
    fn say(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        deadline: &Deadline,
    ) -> Result<u64, QmpError> {
        let line = self.line(command, arguments);
        self.send(command, &line, descriptor, deadline)?;
        Ok(self.last)
    }

    /// A command with the next number, as it is sent.
    fn line(&mut self, command: &str, arguments: Value) -> String {
        self.last += 1;
        let mut request = json!({"execute": command, "id": self.last});
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        format!("{request}\n")
    }

    fn send(
        &mut self,
        command: &str,
        lines: &str,
        descriptor: Option<BorrowedFd<'_>>,
        deadline: &Deadline,
    ) -> Result<(), QmpError> {
        self.lines
            .send(lines.as_bytes(), descriptor, deadline)
            .map_err(|failure| QmpError::of(command, failure))
    }

    /// Waits for the answer to a command.
    fn answer(
        &mut self,
        command: &str,
        number: u64,
        deadline: &Deadline,
    ) -> Result<Value, QmpError> {
        let mut budget = FLOOD;
        loop {
            match self.receive(command, &mut budget, deadline)? {
                (Message::Event(event), length) => self.keep(event, length),
                (Message::Answer { id, answer }, _) if id == Some(number) => {
                    return answer.map_err(|refusal| QmpError::refused(command, refusal));
                }
                // It did not even understand its number; nothing else is open.
                (
                    Message::Answer {
                        id: None,
                        answer: Err(refusal),
                    },
                    _,
                ) => return Err(QmpError::refused(command, refusal)),
                (Message::Answer { id, .. }, _) => self.is_late(id)?,
                (Message::Greeting(_), _) => return Err(self.strange("a second greeting")),
            }
        }
    }

    /// The next message, and the length of its line.
    fn receive(
        &mut self,
        command: &str,
        budget: &mut usize,
        deadline: &Deadline,
    ) -> Result<(Message, usize), QmpError> {
        let line = self
            .lines
            .line(LONGEST, budget, deadline)
            .map_err(|failure| QmpError::of(command, failure))?;
        let message = wire::parse(&line).inspect_err(|_| self.lines.hang_up())?;
        Ok((message, line.len()))
    }

    /// An answer that nobody waits for any more is no harm; one to what was never asked is.
    fn is_late(&mut self, id: Option<u64>) -> Result<(), QmpError> {
        match id {
            Some(id) if (1..=self.last).contains(&id) => Ok(()),
            _ => Err(self.strange("an answer to nothing")),
        }
    }

    fn strange(&mut self, what: &'static str) -> QmpError {
        self.lines.hang_up();
        QmpError::Strange { what }
    }

    fn keep(&mut self, event: Event, length: usize) {
        self.events_bytes += length;
        self.events.push_back((event, length));
        while self.events.len() > KEPT || self.events_bytes > KEPT_BYTES {
            let Some((_, length)) = self.events.pop_front() else {
                return;
            };
            self.events_bytes -= length;
            self.lost += 1;
        }
    }
}
