//! Work with one instance of this host: exec, console, logs, usage, files.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use manifests::id::Address;
use manifests::kind::Spec;
use manifests::path_io::AtPath as _;

use super::NativeRuntime;
use super::container::exec::{StreamsPlan, exec};
use super::container::plan::{FilePlan, ProgramPlan};
use super::container::relay::{relay, size};
use super::definition::Definition;
use super::instance::{InstancePicks, files, machine, running};
use super::shim::Running;
use crate::error::{Class, RuntimeError};
use crate::runtime::{ExecRequest, ExitStatus, FileInside, Operate, Usage};

/// The biggest file of an instance that is read, in bytes: it is held in memory, and its size is the guest's choice.
const MOST_READ: u64 = 256 << 20;

impl NativeRuntime {
    pub(super) fn definition(
        &self,
        address: &Address,
    ) -> Result<Arc<Definition<InstancePicks>>, RuntimeError> {
        self.host
            .instances_beside(address)?
            .into_iter()
            .find(|one| one.address == *address)
            .ok_or_else(|| {
                RuntimeError::new("find", Class::NeedsOperator, "there is no such instance")
                    .of(address)
            })
    }

    fn running(&self, address: &Address) -> Result<Box<Running>, RuntimeError> {
        self.running_of(&*self.definition(address)?)
    }

    fn running_of(
        &self,
        definition: &Definition<InstancePicks>,
    ) -> Result<Box<Running>, RuntimeError> {
        let address = &definition.address;
        running(&self.host, &definition.uid)?.ok_or_else(|| {
            RuntimeError::new("reach", Class::Conflict, "it does not run").of(address)
        })
    }
}

fn is_machine(definition: &Definition<InstancePicks>) -> bool {
    matches!(&definition.spec, Spec::Instance(instance) if !instance.is_container())
}

/// The environment of a program that a person runs: the manifest's over ours, what they ask for over both.
pub(super) fn environment(
    written: Vec<(String, String)>,
    request: &ExecRequest,
) -> Vec<(String, String)> {
    let mut all = vec![
        (
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
        (
            "HOME".to_owned(),
            if request.uid == 0 { "/root" } else { "/" }.to_owned(),
        ),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("container".to_owned(), "lxc".to_owned()),
    ];
    if request.terminal {
        all.push(("TERM".to_owned(), "xterm-256color".to_owned()));
    }
    for (name, value) in written
        .into_iter()
        .chain(request.environment.iter().cloned())
    {
        all.retain(|(known, _)| *known != name);
        all.push((name, value));
    }
    all
}

impl Operate for NativeRuntime {
    fn exec(
        &self,
        instance: &Address,
        request: &ExecRequest,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<ExitStatus, RuntimeError> {
        let definition = self.definition(instance)?;
        let now = self.running_of(&definition)?;
        let written = match &definition.spec {
            Spec::Instance(written) => self.host.secrets.environment(written),
            _ => Ok(Vec::new()),
        };
        let written = written.map_err(|error| error.of(instance))?;
        if is_machine(&definition) {
            let environment = environment(written, request);
            return machine::exec(&now, request, environment, streams)
                .map_err(|error| error.of(instance));
        }
        let program = ProgramPlan {
            arguments: request.command.clone(),
            environment: environment(written, request),
            directory: request.directory.clone().unwrap_or_else(|| "/".to_owned()),
            uid: request.uid,
            gid: request.gid,
            groups: Vec::new(),
        };
        let (rows, columns) = size(streams[0]).unwrap_or((24, 80));
        let plan = match request.terminal {
            true => StreamsPlan::Terminal { rows, columns },
            false => StreamsPlan::Pipes,
        };
        let failed =
            |error| RuntimeError::new("run a command in", Class::Retry, error).of(instance);
        let mut session = exec(&now, &self.host.config.shim, &program, plan).map_err(failed)?;
        let status = relay(&mut session, streams[0], streams[1], streams[2]).map_err(failed)?;
        Ok(match u8::try_from(status) {
            Ok(code) => ExitStatus::Code(code),
            Err(_) => ExitStatus::Signal(u8::try_from(status - 256).unwrap_or(0)),
        })
    }

    fn console(
        &self,
        instance: &Address,
        streams: [BorrowedFd<'_>; 2],
    ) -> Result<(), RuntimeError> {
        let now = self.running(instance)?;
        let console = now.attach_console().map_err(|error| {
            RuntimeError::new("attach to the console of", Class::Retry, error).of(instance)
        })?;
        console.relay(streams[0], streams[1]).map_err(|error| {
            RuntimeError::new("talk to the console of", Class::Retry, error).of(instance)
        })?;
        Ok(())
    }

    fn show_screen(&self, instance: &Address, client: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        let now = self.running(instance)?;
        machine::screen::show(&now, client).map_err(|error| error.of(instance))
    }

    fn screen_socket(&self, instance: &Address) -> Result<PathBuf, RuntimeError> {
        let definition = self.definition(instance)?;
        let now = self.running_of(&definition)?;
        if !is_machine(&definition) {
            let why = "a container has none: `keel console` without --type shows its terminal";
            let error = RuntimeError::new("show the screen of", Class::Unsupported, why);
            return Err(error.of(instance));
        }
        machine::screen::look(&now).map_err(|error| error.of(instance))?;
        Ok(now.run_dir().join(machine::screen::SOCKET))
    }

    fn console_log(&self, instance: &Address, limit: usize) -> Result<Vec<u8>, RuntimeError> {
        let definition = self.definition(instance)?;
        let folder = self.host.run_folder(&definition.uid);
        let failed = |error| RuntimeError::new("read the log of", Class::Retry, error).of(instance);
        let mut log = Vec::new();
        for name in [crate::shim::ring::OLDER, crate::shim::ring::FILE] {
            let path = folder.join(name);
            let mut file = match std::fs::File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at("open", &path).map_err(failed),
            };
            let length = file.metadata().map(|metadata| metadata.size()).unwrap_or(0);
            let skip = length.saturating_sub(limit as u64);
            file.seek(SeekFrom::Start(skip))
                .at("read", &path)
                .map_err(failed)?;
            file.take(limit as u64)
                .read_to_end(&mut log)
                .at("read", &path)
                .map_err(failed)?;
        }
        let skip = log.len().saturating_sub(limit);
        log.drain(..skip);
        Ok(log)
    }

    fn usage(&self, instance: &Address) -> Result<Usage, RuntimeError> {
        let definition = self.definition(instance)?;
        self.running(instance)?;
        let usage = self.host.cgroups(&definition.uid).usage();
        Ok(Usage {
            memory: usage.memory,
            cpu_microseconds: usage.cpu_nanoseconds.map(|nanoseconds| nanoseconds / 1000),
            processes: usage.processes,
        })
    }

    fn read_file(&self, instance: &Address, path: &str) -> Result<FileInside, RuntimeError> {
        let definition = self.definition(instance)?;
        let now = self.running_of(&definition)?;
        if is_machine(&definition) {
            return machine::read_file(&now, path, MOST_READ).map_err(|error| error.of(instance));
        }
        files::read(&now, path, MOST_READ).map_err(|error| {
            RuntimeError::new(format!("read {path} in"), Class::NeedsOperator, error).of(instance)
        })
    }

    fn write_file(
        &self,
        instance: &Address,
        path: &str,
        file: &FileInside,
        create_folders: bool,
    ) -> Result<(), RuntimeError> {
        let definition = self.definition(instance)?;
        let now = self.running_of(&definition)?;
        if is_machine(&definition) {
            return machine::write_file(&now, path, file, create_folders)
                .map_err(|error| error.of(instance));
        }
        let file = FilePlan {
            target: path.to_owned(),
            content: file.content.clone(),
            mode: file.mode,
            uid: file.uid,
            gid: file.gid,
            create_parents: create_folders,
            only_if_absent: false,
            ours: Vec::new(),
        };
        files::write(&self.host, &now, &[file]).map_err(|error| error.of(instance))
    }
}
