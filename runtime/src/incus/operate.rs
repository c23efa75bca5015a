//! Work with one instance: commands, logs, files.

use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use manifests::id::Address;
use serde_json::{Value, json};

use super::IncusRuntime;
use super::client::{ClientError, Waiting, at};
use super::wire::State;
use crate::error::{Class, RuntimeError};
use crate::runtime::{ExecRequest, ExitStatus, FileInside, Operate, Usage};

/// As long as a command takes.
const FOR_EVER: Waiting<'static> = Waiting {
    cancel: None,
    timeout: std::time::Duration::from_secs(u64::MAX / 4),
    progress: None,
};

fn below(instance: &Address, what: &str) -> String {
    let project = [("project", instance.project_name())];
    at(&["instances", &instance.name, what], &project)
}

fn unsupported(doing: &str, why: &str) -> RuntimeError {
    RuntimeError::new(doing, Class::Unsupported, why.to_owned())
}

impl IncusRuntime {
    /// What the server recorded of an output.
    fn recorded(&self, place: Option<&str>, instance: &Address) -> Result<Vec<u8>, ClientError> {
        let Some(place) = place else {
            return Ok(Vec::new());
        };
        let place = format!("{place}?project={}", instance.project_name());
        let found = self.client.bytes(&place)?;
        let _ = self
            .client
            .write("DELETE", &place, None, None, &Waiting::SHORT);
        Ok(found.map(|found| found.body).unwrap_or_default())
    }
}

impl Operate for IncusRuntime {
    fn exec(
        &self,
        instance: &Address,
        request: &ExecRequest,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<ExitStatus, RuntimeError> {
        let failed = |error: ClientError| error.doing("run a command in").of(instance);
        if request.terminal {
            let why =
                "this engine gives commands no terminal yet: leave out -t, or use `incus exec`";
            return Err(unsupported("run a command in", why).of(instance));
        }
        let environment: serde_json::Map<String, Value> = request
            .environment
            .iter()
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect();
        let body = json!({
            "command": request.command,
            "environment": environment,
            "cwd": request.directory.clone().unwrap_or_default(),
            "user": request.uid,
            "group": request.gid,
            "interactive": false,
            "wait-for-websocket": false,
            "record-output": true,
        });
        let (operation, _) = self
            .client
            .begin(&below(instance, "exec"), &body)
            .map_err(failed)?;
        let done = self.client.wait(&operation, &FOR_EVER).map_err(failed)?;
        let facts = done.metadata.unwrap_or_default();
        for (number, stream) in [("1", streams[1]), ("2", streams[2])] {
            let output = self
                .recorded(facts["output"][number].as_str(), instance)
                .map_err(failed)?;
            let written = stream
                .try_clone_to_owned()
                .and_then(|stream| std::fs::File::from(stream).write_all(&output));
            written.map_err(|error| RuntimeError::new("write its output", Class::Retry, error))?;
        }
        let code = facts["return"].as_i64().unwrap_or(-1);
        Ok(match u8::try_from(code) {
            Ok(code) => ExitStatus::Code(code),
            Err(_) => ExitStatus::Code(u8::MAX),
        })
    }

    fn console(&self, instance: &Address, _: [BorrowedFd<'_>; 2]) -> Result<(), RuntimeError> {
        let why = "this engine connects nobody to consoles yet: `keel logs` and `incus console` do";
        Err(unsupported("connect to", why).of(instance))
    }

    fn show_screen(&self, instance: &Address, _: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        let why = "this engine shows no screens yet: `incus console --type vga` does";
        Err(unsupported("show the screen of", why).of(instance))
    }

    fn screen_socket(&self, instance: &Address) -> Result<PathBuf, RuntimeError> {
        let why = "this engine shows no screens yet: `incus console --type vga` does";
        Err(unsupported("show the screen of", why).of(instance))
    }

    fn console_log(&self, instance: &Address, limit: usize) -> Result<Vec<u8>, RuntimeError> {
        let failed = |error: ClientError| error.doing("read the console of").of(instance);
        let found = self
            .client
            .bytes(&below(instance, "console"))
            .map_err(failed)?;
        let mut log = found.map(|found| found.body).unwrap_or_default();
        let start = log.len().saturating_sub(limit);
        Ok(log.split_off(start))
    }

    fn usage(&self, instance: &Address) -> Result<Usage, RuntimeError> {
        let failed = |error: ClientError| error.doing("ask after").of(instance);
        let state: State = self
            .client
            .have(&below(instance, "state"))
            .map_err(failed)?;
        let some = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
        Ok(Usage {
            memory: some(state.memory.usage),
            cpu_microseconds: some(state.cpu.usage / 1000),
            processes: some(state.processes),
        })
    }

    fn read_file(&self, instance: &Address, path: &str) -> Result<FileInside, RuntimeError> {
        let failed = |error: ClientError| error.doing("read a file of").of(instance);
        let found = self.client.bytes(&file(instance, path)).map_err(failed)?;
        let wrong =
            |class, why: String| RuntimeError::new("read a file of", class, why).of(instance);
        let found = found.ok_or_else(|| wrong(Class::Refused, format!("there is no {path}")))?;
        let header = |name: &str| {
            let known = found.header(&format!("x-incus-{name}"));
            known
                .or_else(|| found.header(&format!("x-lxd-{name}")))
                .unwrap_or_default()
        };
        if !matches!(header("type"), "file" | "") {
            return Err(wrong(Class::Refused, format!("{path} is no regular file")));
        }
        Ok(FileInside {
            mode: u32::from_str_radix(header("mode").trim_start_matches("0o"), 8).unwrap_or(0o644),
            uid: header("uid").parse().unwrap_or(0),
            gid: header("gid").parse().unwrap_or(0),
            content: found.body,
        })
    }

    fn write_file(
        &self,
        instance: &Address,
        path: &str,
        content: &FileInside,
        create_folders: bool,
    ) -> Result<(), RuntimeError> {
        let failed = |error: ClientError| error.doing("write a file of").of(instance);
        let headers = |mode: u32, kind: &str| {
            let dialect = if self.dialect.server == "lxd" {
                "lxd"
            } else {
                "incus"
            };
            let names = match dialect {
                "lxd" => [
                    "X-LXD-uid",
                    "X-LXD-gid",
                    "X-LXD-mode",
                    "X-LXD-type",
                    "X-LXD-write",
                ],
                _ => [
                    "X-Incus-uid",
                    "X-Incus-gid",
                    "X-Incus-mode",
                    "X-Incus-type",
                    "X-Incus-write",
                ],
            };
            let values = [
                content.uid.to_string(),
                content.gid.to_string(),
                format!("{mode:04o}"),
                kind.to_owned(),
                "overwrite".to_owned(),
            ];
            names.into_iter().zip(values).collect::<Vec<_>>()
        };
        if create_folders {
            let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
            let mut above = String::new();
            for step in steps.iter().take(steps.len().saturating_sub(1)) {
                above.push('/');
                above.push_str(step);
                let place = file(instance, &above);
                if self.client.bytes(&place).map_err(failed)?.is_none() {
                    let made = self.client.upload(
                        &place,
                        headers(0o755, "directory"),
                        0,
                        &mut std::io::empty(),
                        &Waiting::SHORT,
                    );
                    made.map_err(failed)?;
                }
            }
        }
        let length = content.content.len() as u64;
        let done = self.client.upload(
            &file(instance, path),
            headers(content.mode, "file"),
            length,
            &mut content.content.as_slice(),
            &Waiting::SHORT,
        );
        done.map(|_| ()).map_err(failed)
    }
}

fn file(instance: &Address, path: &str) -> String {
    let query = [("path", path), ("project", instance.project_name())];
    at(&["instances", &instance.name, "files"], &query)
}
