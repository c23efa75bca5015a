//! Watching the places where sources move. Whatever happens says only that a source is to be looked at again: never
//! which file, since the kernel leaves out files that come with a new folder, and all of them when too much happens.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, INotifyWatcher, PollWatcher, RecursiveMode, Watcher};

use super::followed::Watched;
use crate::clock::{Clock as _, HostClock};

/// Where something happens all the time, it is looked at after this nevertheless.
const LONGEST: Duration = Duration::from_secs(2);
/// How often it is looked whether a place that is not there has come.
const ABSENT: Duration = Duration::from_secs(1);
/// How often a place is compared where the kernel cannot tell.
const POLL: Duration = Duration::from_secs(5);

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watching {
    tell: Sender<Told>,
    thread: Option<JoinHandle<()>>,
}

enum Told {
    Seen(notify::Result<Event>),
    Stop,
}

impl Watching {
    /// Begins to watch the places of sources, by name. `moved` is told the name of a source that may have moved; it is
    /// called by a thread of its own and should not take long.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn begin(
        sources: Vec<(String, Vec<Watched>)>,
        moved: impl FnMut(&str) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (tell, told) = channel();
        let watcher = tell.clone();
        let thread = std::thread::Builder::new()
            .name("keel-watch".to_owned())
            .spawn(move || Watch::new(sources, watcher).run(&told, moved))?;
        Ok(Self {
            tell,
            thread: Some(thread),
        })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.tell.send(Told::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Which folder it is, whatever it is called.
type Identity = (u64, u64);

/// One place that is watched.
struct Place {
    source: usize,
    wanted: Watched,
    /// Where it really is, and which folder that is; none: it is not there.
    at: Option<(PathBuf, Identity)>,
}

impl Place {
    /// Whether something that happened at a path happened here.
    fn concerns(&self, path: &Path) -> bool {
        let Some((at, _)) = &self.at else {
            return false;
        };
        let Ok(below) = path.strip_prefix(at) else {
            return false;
        };
        // git makes these beside what it changes, and they are gone when it is done.
        if path.extension() == Some(OsStr::new("lock")) {
            return false;
        }
        let mut steps = below.components();
        let first = steps.next();
        let is_deeper = steps.next().is_some();
        let only = &self.wanted.only;
        let is_named =
            first.is_none_or(|first| only.iter().any(|name| first.as_os_str() == &**name));
        (only.is_empty() || is_named) && (self.wanted.deep || !is_deeper)
    }
}

/// Since when a source may have moved, and when something happened to it last.
struct Dirty {
    since: Instant,
    last: Instant,
    quiet: Duration,
}

impl Dirty {
    fn due(&self) -> Instant {
        (self.last + self.quiet).min(self.since + LONGEST)
    }
}

struct Watch {
    names: Vec<String>,
    places: Vec<Place>,
    /// One for all places: a user has few of them.
    kernel: Option<INotifyWatcher>,
    /// Where the kernel cannot tell.
    poll: Option<PollWatcher>,
    tell: Sender<Told>,
    dirty: BTreeMap<usize, Dirty>,
}

impl Watch {
    fn new(sources: Vec<(String, Vec<Watched>)>, tell: Sender<Told>) -> Self {
        let mut names = Vec::new();
        let mut places = Vec::new();
        for (source, (name, wanted)) in sources.into_iter().enumerate() {
            names.push(name);
            for wanted in wanted {
                places.extend(
                    around(&wanted)
                        .into_iter()
                        .chain([wanted])
                        .map(|wanted| Place {
                            source,
                            wanted,
                            at: None,
                        }),
                );
            }
        }
        let teller = tell.clone();
        let send = move |seen| {
            // Reading is no change; it would be seen for ever, since it is read again after each change.
            if matches!(&seen, Ok(Event { kind: EventKind::Access(kind), .. }) if *kind != AccessKind::Close(AccessMode::Write))
            {
                return;
            }
            let _ = teller.send(Told::Seen(seen));
        };
        let kernel = INotifyWatcher::new(send, Config::default().with_follow_symlinks(false));
        if let Err(error) = &kernel {
            tracing::warn!(%error, "the kernel does not tell of changes: sources are compared every 5 s");
        }
        Self {
            names,
            places,
            kernel: kernel.ok(),
            poll: None,
            tell,
            dirty: BTreeMap::new(),
        }
    }

    fn run(mut self, told: &Receiver<Told>, mut moved: impl FnMut(&str)) {
        self.look_at_places();
        // What is there was read before or will be: only what comes counts.
        self.dirty.clear();
        loop {
            let now = HostClock.instant();
            let due = self.dirty.values().map(Dirty::due).min();
            let absent = self.places.iter().any(|place| place.at.is_none());
            let wait = match (due, absent) {
                (Some(due), _) => due.saturating_duration_since(now),
                (None, true) => ABSENT,
                (None, false) => Duration::from_secs(3600),
            };
            match told.recv_timeout(wait) {
                Ok(Told::Seen(seen)) => self.seen(&seen),
                Err(RecvTimeoutError::Timeout) => self.look_at_places(),
                Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = HostClock.instant();
            let ready: Vec<usize> = self
                .dirty
                .iter()
                .filter(|(_, dirty)| dirty.due() <= now)
                .map(|(source, _)| *source)
                .collect();
            for source in ready {
                // Before it is looked at: what happens after that is told.
                self.look_at_places();
                self.dirty.remove(&source);
                if let Some(name) = self.names.get(source) {
                    moved(name);
                }
            }
        }
    }

    fn seen(&mut self, seen: &notify::Result<Event>) {
        let concerned: Vec<(usize, Duration)> = match seen {
            Ok(event) if !event.need_rescan() => self
                .places
                .iter()
                .filter(|place| event.paths.iter().any(|path| place.concerns(path)))
                .map(|place| (place.source, place.wanted.quiet))
                .collect(),
            // Something was lost.
            _ => self
                .places
                .iter()
                .map(|place| (place.source, place.wanted.quiet))
                .collect(),
        };
        for (source, quiet) in concerned {
            self.mark(source, quiet);
        }
    }

    fn mark(&mut self, source: usize, quiet: Duration) {
        let now = HostClock.instant();
        let dirty = self.dirty.entry(source).or_insert(Dirty {
            since: now,
            last: now,
            quiet,
        });
        dirty.last = now;
        dirty.quiet = quiet;
    }

    /// Watches what came or was put in the place of another; forgets what is gone.
    fn look_at_places(&mut self) {
        for index in 0..self.places.len() {
            let Some(place) = self.places.get(index) else {
                return;
            };
            let found = identity(&place.wanted.path);
            if found == place.at {
                continue;
            }
            let (source, deep, quiet) = (place.source, place.wanted.deep, place.wanted.quiet);
            let before = place.at.as_ref().map(|(path, _)| path.clone());
            if let Some(before) = before {
                self.leave(&before, index);
            }
            let watched = found.filter(|(path, _)| self.enter(path, deep));
            if watched.is_some() {
                self.mark(source, quiet);
            }
            if let Some(place) = self.places.get_mut(index) {
                place.at = watched;
            }
        }
    }

    /// Stops watching a path that no other place is at.
    fn leave(&mut self, path: &Path, index: usize) {
        let is_here = |place: &Place| place.at.as_ref().is_some_and(|(at, _)| at == path);
        let mut others = self.places.iter().enumerate();
        if others.any(|(other, place)| other != index && is_here(place)) {
            return;
        }
        if let Some(kernel) = &mut self.kernel {
            let _ = kernel.unwatch(path);
        }
        if let Some(poll) = &mut self.poll {
            let _ = poll.unwatch(path);
        }
    }

    /// Watches a path, by comparing where the kernel cannot.
    fn enter(&mut self, path: &Path, deep: bool) -> bool {
        let mode = if deep {
            RecursiveMode::Recursive
        } else {
            RecursiveMode::NonRecursive
        };
        let why = match &mut self.kernel {
            Some(kernel) => match kernel.watch(path, mode) {
                Ok(()) => return true,
                Err(error) => error.to_string(),
            },
            None => "it has no more".to_owned(),
        };
        if !path.is_dir() {
            return false;
        }
        tracing::warn!(path = %path.display(), why, "the kernel cannot watch a source: it is compared every 5 s");
        if self.poll.is_none() {
            let teller = self.tell.clone();
            let send = move |seen| drop(teller.send(Told::Seen(seen)));
            let config = Config::default()
                .with_poll_interval(POLL)
                .with_follow_symlinks(false);
            self.poll = PollWatcher::new(send, config).ok();
        }
        self.poll
            .as_mut()
            .is_some_and(|poll| poll.watch(path, mode).is_ok())
    }
}

/// The folder that holds a place which is a link: it may come to lead elsewhere.
fn around(wanted: &Watched) -> Option<Watched> {
    let found = wanted.path.symlink_metadata().ok()?;
    let name = wanted.path.file_name()?.to_str()?;
    found.is_symlink().then(|| Watched {
        path: wanted.path.parent().unwrap_or(Path::new("/")).to_path_buf(),
        deep: false,
        only: vec![name.to_owned()],
        quiet: wanted.quiet,
    })
}

fn identity(path: &Path) -> Option<(PathBuf, Identity)> {
    let path = path.canonicalize().ok()?;
    let found = path.symlink_metadata().ok()?;
    Some((path, (found.dev(), found.ino())))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use manifests::path_io;

    use super::*;

    fn watch(path: &Path, deep: bool, only: &[&str]) -> (Watching, Receiver<String>) {
        let (tell, told) = channel();
        let wanted = Watched {
            path: path.to_path_buf(),
            deep,
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            quiet: Duration::from_millis(30),
        };
        let watching = Watching::begin(vec![("edge".to_owned(), vec![wanted])], move |name| {
            tell.send(name.to_owned()).expect("heard");
        })
        .expect("a thread");
        // It watches from when its thread runs.
        let _ = told.recv_timeout(Duration::from_millis(150));
        (watching, told)
    }

    fn hears(told: &Receiver<String>) -> bool {
        told.recv_timeout(Duration::from_secs(5)).is_ok()
    }

    fn is_silent(told: &Receiver<String>) -> bool {
        told.recv_timeout(Duration::from_millis(200)).is_err()
    }

    #[test]
    fn a_burst_is_told_once_and_reading_never() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_watching, told) = watch(folder.path(), true, &[]);
        for number in 0..20 {
            let below = folder.path().join(format!("a/{number}"));
            path_io::create_dir_all(&below).expect("a folder");
            path_io::write(below.join("a.yaml"), "a: 1\n").expect("written");
        }
        assert!(hears(&told));
        assert!(is_silent(&told), "once");
        path_io::read(folder.path().join("a/3/a.yaml")).expect("read");
        assert!(is_silent(&told), "reading is no change");
        // Folders that came later are watched too.
        path_io::write(folder.path().join("a/3/b.yaml"), "b: 1\n").expect("written");
        assert!(hears(&told));
    }

    #[test]
    fn a_place_that_comes_goes_or_leads_elsewhere_is_watched_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let (watching, told) = watch(&at("edge"), true, &[]);
        path_io::create_dir_all(at("new")).expect("a folder");
        path_io::write(at("new/a.yaml"), "a: 1\n").expect("written");
        path_io::rename(at("new"), at("edge")).expect("moved");
        assert!(hears(&told), "it came");
        path_io::rename(at("edge"), at("old")).expect("moved");
        assert!(hears(&told), "it went");
        path_io::create_dir_all(at("edge")).expect("a folder");
        assert!(hears(&told), "another one came");
        path_io::write(at("edge/a.yaml"), "a: 1\n").expect("written");
        assert!(hears(&told), "which is watched");
        drop(watching);
        std::os::unix::fs::symlink("edge", at("current")).expect("a link");
        let (_watching, told) = watch(&at("current"), true, &[]);
        std::os::unix::fs::symlink("old", at("next")).expect("a link");
        path_io::rename(at("next"), at("current")).expect("moved");
        assert!(hears(&told), "it leads elsewhere");
        path_io::write(at("old/b.yaml"), "b: 1\n").expect("written");
        assert!(hears(&told), "where it is watched");
    }

    #[test]
    fn only_what_is_named_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_watching, told) = watch(folder.path(), false, &["HEAD", "packed-refs"]);
        path_io::write(folder.path().join("index"), "x").expect("written");
        path_io::write(folder.path().join("HEAD.lock"), "x").expect("written");
        assert!(is_silent(&told));
        path_io::rename(folder.path().join("HEAD.lock"), folder.path().join("HEAD"))
            .expect("moved");
        assert!(hears(&told));
    }
}
