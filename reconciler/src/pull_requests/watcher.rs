//! The thread of one source: it looks which pull requests there are, and says of what is new what it would do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use manifests::controller::{ProposalRefs, PullRequestSettings, SourceSettings};
use manifests::id::SourceName;
use manifests::visible::visible;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::forge::{Ask, Place};
use super::judge::{Case, Judged, judge};
use super::told::{One, Told};
use crate::clock::{Clock as _, HostClock};
use crate::controller::run::Handle;
use crate::error::chain;
use crate::source::failure::SourceError;
use crate::source::repository::{Around, Git, Proposal};
use crate::view::markdown::COMMENT;
use crate::web::access::{AccessError, Hidden, TokenPlace, Variable};
use crate::web::client::{Question, Reach, WebError, ask};

/// How long a forge may take.
const FORGE: Duration = Duration::from_secs(15);
/// Room in a comment for what stands around the plan.
const AROUND: usize = 512;
/// Pages of comments that are looked through for ours.
const PAGES: usize = 10;
/// The longest pause after failures.
const LONGEST: Duration = Duration::from_secs(900);
/// Characters of an answer that are told.
const ANSWER: usize = 200;

/// Pull requests cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The settings name something that cannot be used.
    #[error("watch the pull requests of {name}")]
    Source {
        /// The source.
        name: String,
        /// Why not.
        source: SourceError,
    },
    /// A token is not where it should be.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The kernel gives no thread.
    #[error("begin to watch pull requests")]
    Begin(#[source] std::io::Error),
}

/// Why something could not be said.
#[derive(Debug, thiserror::Error)]
enum Unsaid {
    #[error(transparent)]
    Web(#[from] WebError),
    #[error("{method} {path}: the forge answers {status}: {answer}")]
    Refused {
        method: String,
        path: String,
        status: u16,
        answer: String,
    },
    #[error("{0}: the answer of the forge is none")]
    NoAnswer(String),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Watches while it is there; dropping it ends the thread after what it is at.
pub struct Watching {
    _ends: Sender<()>,
}

struct Watcher {
    name: SourceName,
    settings: PullRequestSettings,
    refs: ProposalRefs,
    repository: Git,
    place: Place,
    api: String,
    token: TokenPlace,
    reach: Reach,
    handle: Handle,
    /// What a status is called: `keel/edge (web-1)`.
    context: String,
    mark: String,
    file: PathBuf,
    told: Told,
}

/// Watches the pull requests of a source, where its settings say so. What was said is kept in the state folder.
///
/// # Errors
/// The settings name what cannot be used, or there is no thread.
pub fn watch(
    source: &SourceSettings,
    around: &Around<'_>,
    state: &std::path::Path,
    host: &str,
    handle: Handle,
) -> Result<Option<Watching>, WatchError> {
    let (Some(settings), Some(git)) = (&source.pull_requests, &source.git) else {
        return Ok(None);
    };
    let nothing =
        |what: &str| AccessError::new(format!("watch the pull requests of {}", source.name), what);
    let api = settings
        .api
        .as_ref()
        .ok_or_else(|| nothing("it has no `api`"))?;
    let token = settings
        .token
        .as_ref()
        .ok_or_else(|| nothing("it has no `token`"))?;
    let variable: Variable<'_> = around.variable;
    // What anybody proposes is kept apart from what is followed.
    let repository = Git::new(format!("{}.pulls", source.name), git, around);
    let repository = repository.map_err(|error| WatchError::Source {
        name: source.name.clone(),
        source: error,
    })?;
    let file = state
        .join("controller")
        .join("pulls")
        .join(format!("{}.json", source.name));
    let watcher = Watcher {
        name: SourceName::new(source.name.as_str()),
        refs: settings
            .refs
            .clone()
            .unwrap_or_else(|| ProposalRefs::of(settings.forge)),
        place: Place {
            forge: settings.forge,
            repository: settings.repository.clone(),
        },
        api: api.as_str().trim_end_matches('/').to_owned(),
        token: TokenPlace::of(token, variable)?,
        reach: Reach {
            authority: settings
                .authority
                .as_ref()
                .map(|path| path.as_path().to_path_buf()),
            proxy: settings.proxy.clone(),
        },
        context: format!("keel/{} ({host})", source.name),
        mark: format!("<!-- keel:pull {} {} -->", plain(&source.name), plain(host)),
        told: Told::read(&file),
        settings: settings.clone(),
        repository,
        handle,
        file,
    };
    let interval = git.interval.as_std();
    let (ends, ended) = channel();
    std::thread::Builder::new()
        .name("keel-pulls".to_owned())
        .spawn(move || watcher.run(interval, &ended))
        .map_err(WatchError::Begin)?;
    Ok(Some(Watching { _ends: ends }))
}

/// Letters, digits and dots: nothing that ends a comment of HTML.
fn plain(name: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || ".-_".contains(c) {
            c
        } else {
            '?'
        }
    };
    name.chars()
        .map(keep)
        .collect::<String>()
        .replace("--", "-?")
}

impl Watcher {
    fn run(mut self, interval: Duration, ended: &Receiver<()>) {
        let mut failures = 0_u32;
        loop {
            // What others propose must not end it.
            let looked = catch_unwind(AssertUnwindSafe(|| self.look()));
            let looked = looked.unwrap_or_else(|_| Err("a fault of keel".to_owned()));
            match looked {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures += 1;
                    if failures == 1 {
                        let source = self.name.as_str();
                        tracing::warn!(source, why, "pull requests are not answered");
                    }
                }
            }
            let pause = interval
                .saturating_mul(1 << failures.min(6))
                .min(LONGEST.max(interval));
            match ended.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks once. One that fails holds up no other.
    pub(super) fn look(&mut self) -> Result<(), String> {
        if self.handle.picture().world.is_none() {
            // The host was not looked at yet: the next time.
            return Ok(());
        }
        let most = usize::try_from(self.settings.most).unwrap_or(usize::MAX);
        let found = self.repository.proposals(&self.refs, most);
        let found = found.map_err(|error| chain(&error))?;
        let mut first = None;
        for proposal in &found {
            if let Err(error) = self.answer(proposal) {
                let (source, number, why) = (self.name.as_str(), proposal.number, chain(&error));
                tracing::debug!(source, number, why, "a pull request is not answered");
                first.get_or_insert(why);
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn answer(&mut self, proposal: &Proposal) -> Result<(), Unsaid> {
        let Proposal { number, commit } = proposal;
        let picture = self.handle.picture();
        let (Some(world), Some(looked)) = (&picture.world, picture.sources.get(&self.name)) else {
            return Ok(());
        };
        let in_force = looked.in_force.commit.clone();
        let before = self.told.0.get(number).cloned().unwrap_or_default();
        let is_known = before.commit == *commit;
        // What is closed or strange stays so while it has the same commit; a plan is another one when other things are in force.
        if is_known && (before.said.is_none() || before.in_force == in_force) {
            return Ok(());
        }
        let pull = self.ask(&self.place.pull(*number))?;
        let pull = self.place.read_pull(&pull);
        let pull = pull.ok_or_else(|| Unsaid::NoAnswer(format!("pull request {number}")))?;
        let mut one = One {
            commit: commit.clone(),
            in_force: in_force.clone(),
            said: None,
            comment: before.comment,
        };
        let is_meant = pull.is_open && (self.settings.forks || !pull.is_from_fork);
        if pull.head == *commit && is_meant {
            let tree = self.repository.proposed(commit);
            let judged = match &tree {
                Ok(tree) => judge(&Case {
                    source: self.name.as_str(),
                    tree,
                    world,
                    owner: Some(looked.in_force.desired.source.name.as_str()),
                    in_force: looked.in_force.revision.as_deref(),
                    now: HostClock.now(),
                    limit: COMMENT - AROUND,
                }),
                Err(error) => Judged::unknown(&chain(error)),
            };
            self.say(*number, commit, &judged, &before, &mut one)?;
            let (source, verdict, summary) = (self.name.as_str(), judged.verdict, &judged.summary);
            tracing::info!(
                source,
                number,
                commit,
                ?verdict,
                summary,
                "a pull request is answered"
            );
        } else if pull.head != *commit {
            // It moved meanwhile: the next look sees that.
            return Ok(());
        }
        self.told.0.insert(*number, one);
        let most = usize::try_from(self.settings.most).unwrap_or(usize::MAX);
        if let Err(error) = self.told.keep(&self.file, most.saturating_mul(2)) {
            tracing::warn!(
                "what was said of pull requests is not kept: {}",
                chain(&error)
            );
        }
        Ok(())
    }

    fn say(
        &self,
        number: u64,
        commit: &str,
        judged: &Judged,
        before: &One,
        one: &mut One,
    ) -> Result<(), Unsaid> {
        let Judged {
            verdict,
            summary,
            body,
        } = judged;
        let body = format!("{}\n{body}", self.mark);
        let said = hex::encode(digest(&SHA256, body.as_bytes()));
        if before.said.as_ref() != Some(&said) || before.comment.is_none() {
            one.comment = Some(self.comment(number, before.comment, &body)?);
        }
        self.ask(&self.place.status(commit, *verdict, summary, &self.context))?;
        one.said = Some(said);
        Ok(())
    }

    /// Writes our comment anew, or for the first time.
    fn comment(&self, number: u64, known: Option<u64>, body: &str) -> Result<u64, Unsaid> {
        let known = match known {
            Some(known) => Some(known),
            None => self.find(number)?,
        };
        if let Some(comment) = known {
            match self.ask(&self.place.rewrite(number, comment, body)) {
                Ok(_) => return Ok(comment),
                // Somebody deleted it, or wrote one that looks like ours.
                Err(Unsaid::Refused {
                    status: 403 | 404, ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        let written = self.ask(&self.place.write(number, body))?;
        let id = written.get("id").and_then(Value::as_u64);
        id.ok_or_else(|| Unsaid::NoAnswer(format!("comment of {number}")))
    }

    fn find(&self, number: u64) -> Result<Option<u64>, Unsaid> {
        for page in 1..=PAGES {
            let answer = self.ask(&self.place.comments(number, page))?;
            match Place::find(&answer, &self.mark) {
                (None, true) => {}
                (found, _) => return Ok(found),
            }
        }
        Ok(None)
    }

    fn ask(&self, what: &Ask) -> Result<Value, Unsaid> {
        let token = self.token.read().map_err(WebError::from)?;
        let mut headers: Vec<(&'static str, Hidden)> = self
            .place
            .identity(&token.0)
            .into_iter()
            .map(|(name, value)| (name, Hidden(value)))
            .collect();
        if what.body.is_some() {
            headers.push(("content-type", Hidden("application/json".to_owned())));
        }
        let question = Question {
            method: what.method.clone(),
            url: Hidden(format!("{}{}", self.api, what.path)),
            bearer: None,
            headers,
            body: what
                .body
                .as_ref()
                .map(|body| body.to_string().into_bytes())
                .unwrap_or_default(),
        };
        let answer = ask(question, &self.reach, FORGE)?;
        if !answer.is_good() {
            let text = String::from_utf8_lossy(&answer.body);
            return Err(Unsaid::Refused {
                method: what.method.to_string(),
                path: what.path.clone(),
                status: answer.status,
                answer: visible(&text.chars().take(ANSWER).collect::<String>()),
            });
        }
        serde_json::from_slice(&answer.body).map_err(|_| Unsaid::NoAnswer(what.path.clone()))
    }
}
