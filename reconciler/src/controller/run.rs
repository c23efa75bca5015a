//! The controller at work: threads that wait for sources, for the world and for work, and one loop that decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::Scope;
use std::time::{Duration, Instant};

use manifests::id::SourceName;
use runtime::sys::heap;
use runtime::watch::Bell;

use super::aside::{Aside, Waiting};
use super::event::{Deed, Event, Now, Request, Work};
use super::fetching::Fetcher;
use super::ground::Ground;
use super::in_force::InForces;
use super::metrics::Metrics;
use super::news::{self, Feed, Topic};
use super::picture::{Picture, Pictures};
use super::standing::Standing;
use super::state::{Followed, Pace, State};
use super::trials::Trials;
use super::work::Worker;
use crate::diff::suspension::{Pin, Scope as Suspended, Suspension};
use crate::source::{followed, watch};

/// How long after the last work it is over for now.
const REST: Duration = Duration::from_secs(1);
/// How long until the host is watched again after the kernel refused.
const WATCH_AGAIN: Duration = Duration::from_secs(30);

/// The controller cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The kernel gives no descriptor or no thread.
    #[error("begin to watch")]
    Begin(#[source] std::io::Error),
    /// A thread ended by a fault of ours.
    #[error("a part of the controller broke down")]
    Broken,
}

/// A source that is to be followed.
pub struct Source {
    /// What it is called.
    pub name: SourceName,
    /// Where it comes from.
    pub followed: Box<dyn followed::Followed>,
    /// The projects that it may have; empty: all, and what belongs to the host.
    pub projects: BTreeSet<String>,
    /// Sources that must be settled before.
    pub depends_on: Vec<SourceName>,
}

/// How the controller works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often things are done that no event asks for.
    pub pace: Pace,
    /// For jitter.
    pub seed: u64,
    /// Each source is brought to where it shall be once; then it leaves.
    pub once: bool,
    /// How many steps at once; absent: as apply chooses.
    pub parallelism: Option<usize>,
    /// What is suspended.
    pub suspensions: BTreeMap<Suspended, Suspension>,
    /// Sources of which a revision stays in force.
    pub pins: BTreeMap<SourceName, Pin>,
}

/// Who is told what happens and how all stands then. It is told by the loop itself, and so must not take long.
pub trait Witness {
    /// Something happened.
    fn heard(&mut self, event: &Event) {
        let _ = event;
    }

    /// This follows from it.
    fn stood(&mut self, state: &State, in_force: &InForces, now: Now) {
        let _ = (state, in_force, now);
    }
}

/// Nobody is told.
impl Witness for () {}

/// What the threads tell the loop.
#[expect(
    clippy::large_enum_variant,
    reason = "one lives for a moment, on its way to the loop"
)]
enum Told {
    Event(Event),
    /// A thread ended by a fault of ours.
    Broken,
}

/// By which others tell the controller something, and see how it stands.
#[derive(Clone)]
pub struct Handle {
    tell: Sender<Told>,
    standing: Arc<Mutex<Arc<Standing>>>,
    pictures: Arc<Pictures>,
    feed: Arc<Feed>,
    metrics: Arc<Metrics>,
}

impl Handle {
    /// Asks for something. What comes of it is seen later.
    pub fn ask(&self, request: Request) {
        // A controller that has left does nothing any more.
        let _ = self.tell.send(Told::Event(Event::Asked(request)));
    }

    /// Lets it look at the clock, which it does by itself as well: who is woken and says nothing is stuck.
    pub fn wake(&self) {
        let _ = self.tell.send(Told::Event(Event::Woken));
    }

    /// Asks it to leave.
    pub fn leave(&self) {
        let _ = self.tell.send(Told::Event(Event::Leave));
    }

    /// How it stands.
    pub fn standing(&self) -> Arc<Standing> {
        let standing = self.standing.lock();
        Arc::clone(&standing.unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// What it last saw.
    pub fn picture(&self) -> Arc<Picture> {
        self.pictures.newest()
    }

    /// What happened lately.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// A controller that has not begun.
pub struct Controller {
    told: Receiver<Told>,
    handle: Handle,
}

impl Default for Controller {
    fn default() -> Self {
        let (tell, told) = channel();
        let handle = Handle {
            tell,
            standing: Arc::default(),
            pictures: Arc::default(),
            feed: Arc::default(),
            metrics: Arc::default(),
        };
        Self { told, handle }
    }
}

/// Tells the loop when a thread ends by a panic.
struct Guard(Sender<Told>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.send(Told::Broken);
        }
    }
}

impl Controller {
    /// By which others speak with it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Follows the sources until somebody asks it to leave. `stood` is told each time that it stands otherwise, `witness`
    /// what happens.
    ///
    /// # Errors
    /// It cannot begin, or a part of it broke down.
    pub fn run(
        self,
        ground: &dyn Ground,
        sources: Vec<Source>,
        settings: &Settings,
        stood: &mut dyn FnMut(&Standing),
        witness: &mut dyn Witness,
    ) -> Result<Arc<Standing>, ControllerError> {
        let Self { told, handle } = self;
        let bell = Bell::new().map_err(ControllerError::Begin)?;
        let session = ground.session();
        let in_force = InForces::in_folder(session.folder.path());
        let watched: Vec<(String, Vec<followed::Watched>)> = sources
            .iter()
            .map(|source| (source.name.to_string(), source.followed.watched()))
            .collect();
        let asks = handle.clone();
        let _watching = watch::Watching::begin(watched, move |name| {
            asks.ask(Request::Fetch(SourceName::new(name)));
        })
        .map_err(ControllerError::Begin)?;
        let began = session.clock.instant();
        let running = Loop {
            ground,
            bell: &bell,
            in_force: &in_force,
            handle: &handle,
            began,
            settings,
        };
        std::thread::scope(|scope| running.run(scope, &told, sources, stood, witness))
    }
}

#[derive(Clone, Copy)]
struct Loop<'env> {
    ground: &'env dyn Ground,
    bell: &'env Bell,
    in_force: &'env InForces,
    handle: &'env Handle,
    began: Instant,
    settings: &'env Settings,
}

impl<'env> Loop<'env> {
    fn now(&self) -> Now {
        let session = self.ground.session();
        Now {
            day: session.clock.now(),
            up: session
                .clock
                .instant()
                .saturating_duration_since(self.began),
        }
    }

    fn run<'scope>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        told: &Receiver<Told>,
        sources: Vec<Source>,
        stood: &mut dyn FnMut(&Standing),
        witness: &mut dyn Witness,
    ) -> Result<Arc<Standing>, ControllerError> {
        // Whatever ends the loop: nobody waits for the watch.
        let _end = EndWatch(self.bell);
        let mut state = self.begin(&sources);
        let work = self.work(scope);
        let mut fetches = BTreeMap::new();
        for source in sources {
            let name = source.name.clone();
            let fetch = self.fetch(scope, source).map_err(ControllerError::Begin)?;
            fetches.insert(name, fetch);
        }
        if !self.settings.once {
            scope.spawn(move || self.watch());
        }
        let mut event = Event::Woken;
        let mut has_worked = true;
        loop {
            has_worked |= matches!(
                event,
                Event::Fetched(..) | Event::Ended(_) | Event::BackedUp(_)
            );
            witness.heard(&event);
            let deeds = state.decide(event, self.now());
            self.stand(&state, stood);
            witness.stood(&state, self.in_force, self.now());
            for deed in deeds {
                match deed {
                    Deed::Fetch(name, pin) => {
                        if let Some((fetch, _)) = fetches.get(&name) {
                            let _ = fetch.send(pin);
                        }
                    }
                    Deed::Begin(one) => {
                        let _ = work.send(one);
                    }
                    Deed::BackUp => self.back_up(scope),
                    Deed::Leave => return Ok(self.handle.standing()),
                }
            }
            if self.settings.once && state.has_tried_all() {
                event = Event::Leave;
                continue;
            }
            event = match self.wait(&state, told, &mut has_worked) {
                Some(Told::Event(event)) => event,
                Some(Told::Broken) => return Err(ControllerError::Broken),
                None => Event::Woken,
            };
        }
    }

    /// What was in force when the last controller ended is so again.
    fn begin(&self, sources: &[Source]) -> State {
        let followed = sources.iter().map(|source| {
            let poll = Some(source.followed.interval());
            let depends_on = source.depends_on.clone();
            (source.name.clone(), Followed { poll, depends_on })
        });
        let mut state = State::new(
            followed.collect(),
            self.settings.suspensions.clone(),
            self.settings.pace.clone(),
            self.settings.seed,
            self.now(),
        );
        for (name, source) in &mut state.sources {
            source.pinned = self.settings.pins.get(name).cloned();
            if let Some(before) = self.in_force.bring_back(name) {
                source.begins_with(before.digest.clone());
            }
        }
        state
    }

    /// Waits for something that happens, or until there is something to do. Who rests after work holds no memory for it.
    fn wait(&self, state: &State, told: &Receiver<Told>, has_worked: &mut bool) -> Option<Told> {
        let now = self.now();
        let wakes = state.wake_at(now);
        let mut left = wakes.map(|at| at.saturating_sub(now.up));
        if *has_worked && left.is_none_or(|left| left > REST) {
            match told.recv_timeout(REST) {
                Err(RecvTimeoutError::Timeout) => {
                    *has_worked = false;
                    self.ground.session().runtime.rest();
                    heap::give_back();
                    left = left.map(|left| left - REST);
                }
                other => return other.ok(),
            }
        }
        match left {
            None => told.recv().ok(),
            Some(left) => told.recv_timeout(left).ok(),
        }
    }

    fn stand(&self, state: &State, stood: &mut dyn FnMut(&Standing)) {
        let now = self.now();
        let standing = Arc::new(Standing::of(state, now));
        stood(&standing);
        let before = {
            let last = self.handle.standing.lock();
            let mut last = last.unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::replace(&mut *last, Arc::clone(&standing))
        };
        for one in news::between(&before, &standing) {
            // Nobody else logs it: who fetches tells what came of it, each time that it is tried.
            if let (Topic::Unreachable, Some(source)) = (one.topic, &one.source) {
                tracing::warn!(%source, why = one.message, "cannot be looked at: what was in force stays in force");
            }
            self.handle.feed.tell(now.day, one);
        }
    }

    fn tell(&self, event: Event) {
        let _ = self.handle.tell.send(Told::Event(event));
    }

    fn guard(&self) -> Guard {
        Guard(self.handle.tell.clone())
    }

    /// The thread that does one thing after the other.
    fn work<'scope>(self, scope: &'scope Scope<'scope, 'env>) -> Sender<Work> {
        let (send, orders) = channel::<Work>();
        scope.spawn(move || {
            let _guard = self.guard();
            let mut worker = Worker {
                ground: self.ground,
                in_force: self.in_force,
                pictures: &self.handle.pictures,
                feed: &self.handle.feed,
                metrics: &self.handle.metrics,
                parallelism: self.settings.parallelism,
                told: BTreeMap::new(),
                contended: BTreeMap::new(),
                trials: Trials::in_folder(self.ground.session().folder.path()),
            };
            for work in orders {
                let ended = worker.work(&work);
                self.bell.look_again();
                self.tell(Event::Ended(ended));
            }
        });
        send
    }

    /// The thread of one source: what is found there comes into force. It ends when what is answered here is dropped.
    fn fetch<'scope>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        source: Source,
    ) -> std::io::Result<(Sender<Option<Pin>>, Waiting)> {
        let (send, orders) = channel::<Option<Pin>>();
        let (aside, waiting) = Aside::begin(source.followed, self.guard())?;
        scope.spawn(move || {
            let _guard = self.guard();
            let name = source.name.clone();
            let mut fetcher = Fetcher {
                name: source.name,
                source: aside,
                projects: source.projects,
                in_force: self.in_force,
                clock: self.ground.session().clock,
                seen: None,
                pinned: None,
            };
            for pin in orders {
                let fetched = fetcher.fetch(pin);
                self.handle.metrics.fetched(&name, &fetched);
                self.tell(Event::Fetched(name.clone(), fetched));
                // It is in force by now: this may take its time.
                if let Some(ahead) = fetcher.ahead() {
                    self.tell(ahead);
                }
            }
        });
        Ok((send, waiting))
    }

    fn back_up<'scope>(self, scope: &'scope Scope<'scope, 'env>) {
        scope.spawn(move || {
            let _guard = self.guard();
            let wrong = self.ground.back_up().err();
            if let Some(why) = &wrong {
                tracing::error!(why, "not all backups that are due were made");
            }
            self.tell(Event::BackedUp(wrong));
        });
    }

    /// The thread that watches the host.
    fn watch(self) {
        let _guard = self.guard();
        loop {
            let moved = |what| {
                tracing::debug!(?what, "the world moved");
                self.tell(Event::WorldMoved);
            };
            match self.ground.watch(self.bell, &moved) {
                Ok(()) => return,
                Err(error) => {
                    let why = crate::error::chain(&error);
                    tracing::error!(why, "the host is not watched: it is looked at less often");
                }
            }
            if self.bell.ends_within(WATCH_AGAIN) {
                return;
            }
        }
    }
}

struct EndWatch<'a>(&'a Bell);

impl Drop for EndWatch<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
