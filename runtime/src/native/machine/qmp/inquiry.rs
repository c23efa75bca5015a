//! Questions to a monitor that are asked all at once, before it has even greeted. The caller can ask other machines, or do
//! something else, before it listens to what each says.
//!
//! QEMU 7.2 reads its monitor byte by byte, with seven system calls for each, some five microseconds: words that need not be
//! said are not. So the questions bear no numbers. QEMU answers in the order in which it was asked (`docs/interop/qmp-spec`),
//! and nothing else was asked over this connection.
//!
//! The ability `oob` is enabled though nothing is asked out of band: without it QEMU reads a command only when the one before
//! is done (`monitor/qmp.c`: one is queued "for backward compatibility"), and its two threads wake each other for each.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::Message;
use super::{Qmp, QmpError};
use crate::native::deadline::Deadline;
use crate::native::machine::line_socket::{FLOOD, LineSocket};

/// What precedes all questions.
const READY: &str = "qmp_capabilities";

/// What is said to each of several questions, in their order.
pub type Answers = Vec<Result<Value, QmpError>>;

/// Questions that a monitor was asked.
#[derive(Debug)]
pub struct Inquiry {
    qmp: Qmp,
    commands: Vec<String>,
    deadline: Deadline,
    /// How long it has to greet, and until when.
    moment: Duration,
    greeting: Deadline,
}

impl Inquiry {
    /// Asks a monitor. `patience` is for all of the answers, `moment` for the greeting: who is connected already keeps others
    /// waiting.
    ///
    /// # Errors
    /// There is no monitor, or too many wait for it.
    pub fn ask(
        path: &Path,
        commands: &[(&str, Value)],
        patience: Duration,
        moment: Duration,
    ) -> Result<Self, QmpError> {
        let deadline = Deadline::after(patience);
        // Where others wait to be served already, nobody waits to wait.
        let lines = LineSocket::connect(path, &Deadline::after(Duration::ZERO))
            .map_err(|failure| QmpError::no_monitor(path, failure))?;
        let mut qmp = Qmp::unknown(lines, patience);
        let mut text = json!({ "execute": READY, "arguments": { "enable": ["oob"] } }).to_string();
        for (command, arguments) in commands {
            let mut request = json!({ "execute": command });
            if !arguments.is_null() {
                request["arguments"] = arguments.clone();
            }
            text.push_str(&request.to_string());
        }
        qmp.send(READY, &text, None, &deadline)?;
        Ok(Self {
            qmp,
            commands: commands.iter().map(|(one, _)| (*one).to_owned()).collect(),
            deadline,
            moment,
            greeting: Deadline::after(moment.min(patience)),
        })
    }

    /// Whether it has begun to speak, or does in its moment.
    pub fn speaks(&self) -> bool {
        self.qmp.lines.speaks(&self.greeting)
    }

    /// What it says to each question, and the connection, to ask more. A refusal of one concerns that one alone.
    ///
    /// # Errors
    /// QEMU did not answer in time, has ended or lost its senses.
    pub fn answers(self) -> Result<(Qmp, Answers), QmpError> {
        let Self {
            mut qmp,
            commands,
            deadline,
            moment,
            ..
        } = self;
        // What it said meanwhile is heard, however late somebody listens.
        let deadline = deadline.at_least(moment);
        qmp.greeting(&deadline)?;
        qmp.next_answer(READY, &deadline)??;
        let mut answers = Vec::with_capacity(commands.len());
        for command in &commands {
            answers.push(qmp.next_answer(command, &deadline)?);
        }
        Ok((qmp, answers))
    }
}

impl Qmp {
    /// The answer to the next of the questions without numbers.
    fn next_answer(
        &mut self,
        command: &str,
        deadline: &Deadline,
    ) -> Result<Result<Value, QmpError>, QmpError> {
        let mut budget = FLOOD;
        loop {
            match self.receive(command, &mut budget, deadline)? {
                (Message::Event(event), length) => self.keep(event, length),
                (Message::Answer { id: None, answer }, _) => {
                    return Ok(answer.map_err(|refusal| QmpError::refused(command, refusal)));
                }
                (Message::Answer { .. }, _) => return Err(self.strange("an answer to nothing")),
                (Message::Greeting(_), _) => return Err(self.strange("a second greeting")),
            }
        }
    }
}
