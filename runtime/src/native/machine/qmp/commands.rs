//! The commands that every machine needs, and the words of QEMU for how it is.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Qmp, QmpError};
use crate::native::machine::plain;

/// How a machine is (`RunState` of QEMU's `qapi/run-state.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// A debugger holds it.
    Debug,
    /// It waits for its state from elsewhere.
    #[serde(rename = "inmigrate")]
    InMigrate,
    /// QEMU or KVM failed.
    InternalError,
    /// A disk failed, most often since the host's file system is full.
    IoError,
    /// Somebody stopped its processors.
    Paused,
    /// Its state was sent away.
    #[serde(rename = "postmigrate")]
    PostMigrate,
    /// It has not begun.
    #[serde(rename = "prelaunch")]
    PreLaunch,
    /// The last of its state is sent away.
    FinishMigrate,
    /// A snapshot is loaded, or could not be.
    RestoreVm,
    /// Its processors run.
    Running,
    /// A snapshot is written.
    SaveVm,
    /// The guest has shut down.
    Shutdown,
    /// The guest sleeps.
    Suspended,
    /// Its watchdog stopped it.
    Watchdog,
    /// Its kernel has panicked.
    GuestPanicked,
    /// It runs twice.
    Colo,
    /// A word that this keel does not know.
    #[serde(other)]
    Unknown,
}

impl RunState {
    /// For people, after "it is" or "it has".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Debug => "held by a debugger",
            Self::InMigrate => "waiting for its saved state",
            Self::InternalError => "stopped by an error of QEMU",
            Self::IoError => "stopped by an error of a disk",
            Self::Paused => "paused",
            Self::PostMigrate => "paused, its state is saved",
            Self::PreLaunch => "not begun",
            Self::FinishMigrate => "saving the last of its state",
            Self::RestoreVm => "paused, a snapshot is being loaded or could not be",
            Self::Running => "running",
            Self::SaveVm => "saving a snapshot",
            Self::Shutdown => "shut down by its guest",
            Self::Suspended => "asleep",
            Self::Watchdog => "stopped by its watchdog",
            Self::GuestPanicked => "stopped by a panic of its kernel",
            Self::Colo => "running twice",
            Self::Unknown => "in a state that keel does not know",
        }
    }
}

/// The answer of `query-status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Whether its processors run.
    pub running: bool,
    /// How it is.
    #[serde(rename = "status")]
    pub state: RunState,
}

/// How far a job is (`JobStatus` of QEMU's `qapi/job.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStatus {
    /// Not even made.
    Undefined,
    /// Made.
    Created,
    /// It works.
    Running,
    /// Somebody paused it.
    Paused,
    /// It could be completed.
    Ready,
    /// Ready and paused.
    Standby,
    /// It waits for the others of its transaction.
    Waiting,
    /// It waits to be finalized.
    Pending,
    /// It is being cancelled, or failed.
    Aborting,
    /// It is over: its result is there until it is dismissed.
    Concluded,
    /// Dismissed.
    Null,
    /// A word that this keel does not know.
    #[serde(other)]
    Unknown,
}

/// A long work of QEMU. One that is over stays until it is dismissed, so its result is known also to a later client.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    /// As it was named when it was begun.
    pub id: String,
    /// `snapshot-save`, `backup`, …
    #[serde(rename = "type", deserialize_with = "plain::text")]
    pub kind: String,
    /// How far it is.
    pub status: JobStatus,
    /// What is done, in a unit of the job's own.
    pub current_progress: i64,
    /// What there is to do, as far as is known.
    pub total_progress: i64,
    /// Why it failed; only once it is over.
    #[serde(default, deserialize_with = "plain::optional")]
    pub error: Option<String>,
}

impl Job {
    /// `None`: it is not over. Else its result.
    pub fn result(&self) -> Option<Result<(), &str>> {
        let over = matches!(self.status, JobStatus::Concluded | JobStatus::Null);
        over.then(|| self.error.as_deref().map_or(Ok(()), Err))
    }
}

impl Qmp {
    fn ask_for<T: DeserializeOwned>(&mut self, command: &str) -> Result<T, QmpError> {
        let answer = self.execute(command, Value::Null)?;
        serde_json::from_value(answer).map_err(|source| QmpError::Unexpected {
            command: command.to_owned(),
            source,
        })
    }

    fn tell(&mut self, command: &str) -> Result<(), QmpError> {
        self.execute(command, Value::Null).map(drop)
    }

    /// How the machine is.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn status(&mut self) -> Result<Status, QmpError> {
        self.ask_for("query-status")
    }

    /// Ends QEMU at once, as if the power were cut. It may be gone before its answer is read.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn quit(&mut self) -> Result<(), QmpError> {
        match self.tell("quit") {
            Err(QmpError::Closed) => Ok(()),
            other => other,
        }
    }

    /// Presses the power button. Whether the guest cares is seen later.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn power_down(&mut self) -> Result<(), QmpError> {
        self.tell("system_powerdown")
    }

    /// Stops the processors; one that is stopped stays so.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn stop(&mut self) -> Result<(), QmpError> {
        self.tell("stop")
    }

    /// Lets the processors run.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn resume(&mut self) -> Result<(), QmpError> {
        self.tell("cont")
    }

    /// The jobs, also those that are over and not dismissed.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn jobs(&mut self) -> Result<Vec<Job>, QmpError> {
        self.ask_for("query-jobs")
    }

    /// Forgets a job that is over.
    ///
    /// # Errors
    /// As [`Qmp::execute`]; QEMU refuses for one that is not.
    pub fn dismiss_job(&mut self, id: &str) -> Result<(), QmpError> {
        self.execute("job-dismiss", json!({"id": id})).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_qemu_are_understood() {
        let status = |word: &str| -> Status {
            let value = json!({"status": word, "singlestep": false, "running": false});
            serde_json::from_value(value).unwrap()
        };
        assert_eq!(status("prelaunch").state, RunState::PreLaunch);
        assert_eq!(status("inmigrate").state, RunState::InMigrate);
        assert_eq!(status("postmigrate").state, RunState::PostMigrate);
        assert_eq!(status("restore-vm").state, RunState::RestoreVm);
        assert_eq!(
            status("io-error").state.words(),
            "stopped by an error of a disk"
        );
        assert_eq!(status("from-tomorrow").state, RunState::Unknown);
    }

    #[test]
    fn the_result_of_a_job_is_there_when_it_is_over() {
        let job = |status: &str, error: Value| -> Job {
            let mut value = json!({
                "id": "s1", "type": "snapshot-save", "status": status,
                "current-progress": 1, "total-progress": 1,
            });
            if !error.is_null() {
                value["error"] = error;
            }
            serde_json::from_value(value).unwrap()
        };
        assert_eq!(job("running", Value::Null).result(), None);
        assert_eq!(job("aborting", json!("no")).result(), None);
        assert_eq!(job("concluded", Value::Null).result(), Some(Ok(())));
        let failed = job("concluded", json!("no \u{1b}space"));
        assert_eq!(failed.result(), Some(Err("no space")));
    }
}
