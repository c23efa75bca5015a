//! Traces that go out, webhooks that come in, pull requests that are answered.

use super::Checking;
use crate::controller::source::SourceSettings;
use crate::controller::{
    Forge, PullRequestSettings, TracesSettings, WebhookSettings, WebhooksSettings,
};
use crate::decode::{BAD_VALUE, MISSING_FIELD};
use crate::pointer::Pointer;

/// More pull requests than this are not looked at each time.
const MOST: u32 = 200;

impl Checking<'_> {
    pub(super) fn traces(&mut self, traces: &TracesSettings, at: &Pointer) {
        let TracesSettings {
            endpoint,
            token,
            authority: _,
            proxy,
        } = traces;
        if endpoint.is_none() {
            self.missing(at, "endpoint", "write the address of the collector");
        }
        if let Some(token) = token {
            self.token(token, &at.field("token"));
        }
        self.proxy(proxy.as_deref(), at);
    }

    /// Webhooks have a secret and a place where they come in; who waits for some names both.
    pub(super) fn webhooks(&mut self, sources: &[SourceSettings], webhooks: &WebhooksSettings) {
        let mut any = false;
        for (index, source) in sources.iter().enumerate() {
            let Some(WebhookSettings { forge: _, secret }) = &source.webhook else {
                continue;
            };
            any = true;
            let at = Pointer::new("/sources").index(index).field("webhook");
            match secret {
                Some(secret) => self.token(secret, &at.field("secret")),
                None => self.missing(
                    &at,
                    "secret",
                    "write where the secret is: who has none is refused",
                ),
            }
            if webhooks.listen.is_none() {
                self.tell(
                    MISSING_FIELD,
                    &at,
                    "nobody listens for webhooks",
                    "write `webhooks: { listen: '127.0.0.1:9480' }` beside `sources`",
                );
            }
        }
        if let (Some(listen), false) = (&webhooks.listen, any) {
            self.tell(
                MISSING_FIELD,
                &Pointer::new("/webhooks/listen"),
                format!("no source has a `webhook`: nothing would come in at {listen}"),
                "write `webhook: { forge: gitea, secret: { credential: NAME } }` in a source",
            );
        }
    }

    pub(super) fn pull_requests(
        &mut self,
        pulls: &PullRequestSettings,
        is_git: bool,
        at: &Pointer,
    ) {
        let PullRequestSettings {
            forge,
            api,
            repository,
            token,
            refs: _,
            forks: _,
            most,
            authority: _,
            proxy,
        } = pulls;
        if !is_git {
            let hint = "pull requests are of a repository: write `git: …`";
            self.tell(BAD_VALUE, at, "a directory has no pull requests", hint);
        }
        if *forge == Forge::Generic {
            let hint =
                "`gitea`, `forgejo`, `github` or `gitlab`: each takes comments in its own way";
            self.missing(at, "forge", hint);
        }
        if api.is_none() {
            let hint =
                "write the address of its REST API, such as `https://git.example.org/api/v1`";
            self.missing(at, "api", hint);
        }
        let mut steps = repository.split('/');
        let is_name = |step: &str| {
            !step.is_empty()
                && !step.starts_with('.')
                && step
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let has_two = repository.split('/').count() >= 2;
        if repository.is_empty() {
            self.missing(
                at,
                "repository",
                "write its name there, such as `team/edge`",
            );
        } else if !has_two || !steps.all(is_name) {
            self.tell(
                BAD_VALUE,
                &at.field("repository"),
                format!("`{}` is no name of a repository", repository.escape_debug()),
                "write owner and name, such as `team/edge`",
            );
        }
        match token {
            Some(token) => self.token(token, &at.field("token")),
            None => self.missing(at, "token", "write where the token is by which it comments"),
        }
        if *most == 0 || *most > MOST {
            self.tell(
                BAD_VALUE,
                &at.field("most"),
                format!("{most} are none or too many"),
                "from 1 to 200",
            );
        }
        self.proxy(proxy.as_deref(), at);
    }
}
