//! The words of the forges: what is asked of their REST APIs, and what they answer.

use manifests::controller::Forge;
use reqwest::Method;
use serde_json::{Value, json};

use super::judge::Verdict;

/// Characters of the description of a status, which all of them take.
const DESCRIPTION: usize = 140;
/// Comments of one answer.
const PAGE: usize = 100;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Behind the address of the API.
    pub(super) path: String,
    pub(super) body: Option<Value>,
}

/// A pull request as a forge tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pull {
    pub(super) is_open: bool,
    /// It comes from another repository.
    pub(super) is_from_fork: bool,
    /// The whole name of its newest commit.
    pub(super) head: String,
}

/// A repository on a forge.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) forge: Forge,
    /// `team/edge`.
    pub(super) repository: String,
}

impl Place {
    fn is_gitlab(&self) -> bool {
        match self.forge {
            Forge::Gitlab => true,
            Forge::Github | Forge::Gitea | Forge::Forgejo | Forge::Generic => false,
        }
    }

    fn base(&self) -> String {
        match self.is_gitlab() {
            true => format!("/projects/{}", self.repository.replace('/', "%2F")),
            false => format!("/repos/{}", self.repository),
        }
    }

    /// Headers that say who asks.
    pub(super) fn identity(&self, token: &str) -> Vec<(&'static str, String)> {
        match self.forge {
            Forge::Gitlab => vec![("private-token", token.to_owned())],
            Forge::Github => vec![
                ("authorization", format!("Bearer {token}")),
                ("accept", "application/vnd.github+json".to_owned()),
            ],
            Forge::Gitea | Forge::Forgejo | Forge::Generic => {
                vec![("authorization", format!("token {token}"))]
            }
        }
    }

    /// Asks for a pull request.
    pub(super) fn pull(&self, number: u64) -> Ask {
        let what = match self.is_gitlab() {
            true => "merge_requests",
            false => "pulls",
        };
        Ask {
            method: Method::GET,
            path: format!("{}/{what}/{number}", self.base()),
            body: None,
        }
    }

    /// What is answered to that.
    pub(super) fn read_pull(&self, answer: &Value) -> Option<Pull> {
        let text = |path: &str| answer.pointer(path)?.as_str();
        match self.is_gitlab() {
            true => Some(Pull {
                is_open: text("/state")? == "opened",
                is_from_fork: answer.get("source_project_id")?
                    != answer.get("target_project_id")?,
                head: text("/sha")?.to_owned(),
            }),
            false => Some(Pull {
                is_open: text("/state")? == "open",
                // The repository that it came from may be gone.
                is_from_fork: text("/head/repo/full_name") != Some(text("/base/repo/full_name")?),
                head: text("/head/sha")?.to_owned(),
            }),
        }
    }

    /// Says how a commit is.
    pub(super) fn status(
        &self,
        commit: &str,
        verdict: Verdict,
        summary: &str,
        context: &str,
    ) -> Ask {
        let mut description: String = summary.chars().take(DESCRIPTION).collect();
        if description.len() < summary.len() {
            description = summary.chars().take(DESCRIPTION - 1).collect();
            description.push('…');
        }
        let (path, body) = match self.is_gitlab() {
            true => {
                let state = match verdict {
                    Verdict::Good => "success",
                    Verdict::Bad | Verdict::Unknown => "failed",
                };
                let body = json!({"state": state, "name": context, "description": description});
                (format!("{}/statuses/{commit}", self.base()), body)
            }
            false => {
                let state = match verdict {
                    Verdict::Good => "success",
                    Verdict::Bad => "failure",
                    Verdict::Unknown => "error",
                };
                let body = json!({"state": state, "context": context, "description": description});
                (format!("{}/statuses/{commit}", self.base()), body)
            }
        };
        Ask {
            method: Method::POST,
            path,
            body: Some(body),
        }
    }

    fn comments_of(&self, number: u64) -> String {
        match self.is_gitlab() {
            true => format!("{}/merge_requests/{number}/notes", self.base()),
            false => format!("{}/issues/{number}/comments", self.base()),
        }
    }

    /// Asks for the comments of a pull request, the oldest first.
    pub(super) fn comments(&self, number: u64, page: usize) -> Ask {
        let path = self.comments_of(number);
        let query = match self.forge {
            Forge::Gitlab => format!("per_page={PAGE}&sort=asc&order_by=created_at&page={page}"),
            Forge::Github => format!("per_page={PAGE}&page={page}"),
            Forge::Gitea | Forge::Forgejo | Forge::Generic => format!("limit={PAGE}&page={page}"),
        };
        Ask {
            method: Method::GET,
            path: format!("{path}?{query}"),
            body: None,
        }
    }

    /// The number of the comment with a mark among those that are answered, and whether there may be more.
    pub(super) fn find(answer: &Value, mark: &str) -> (Option<u64>, bool) {
        let comments = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = comments.iter().find(|comment| {
            let body = comment.get("body").and_then(Value::as_str);
            body.is_some_and(|body| body.starts_with(mark))
        });
        let number = ours.and_then(|comment| comment.get("id")?.as_u64());
        (number, comments.len() >= PAGE)
    }

    /// Writes a comment.
    pub(super) fn write(&self, number: u64, body: &str) -> Ask {
        Ask {
            method: Method::POST,
            path: self.comments_of(number),
            body: Some(json!({ "body": body })),
        }
    }

    /// Writes it anew.
    pub(super) fn rewrite(&self, number: u64, comment: u64, body: &str) -> Ask {
        let (method, path) = match self.is_gitlab() {
            true => (
                Method::PUT,
                format!("{}/{comment}", self.comments_of(number)),
            ),
            false => (
                Method::PATCH,
                format!("{}/issues/comments/{comment}", self.base()),
            ),
        };
        Ask {
            method,
            path,
            body: Some(json!({ "body": body })),
        }
    }
}
