//! [`Problem`]: what somebody is told whose question is refused or fails, as RFC 9457 has it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::{CliError, Exit, chain};
use crate::session::SessionError;

/// Why a question is refused or fails.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Problem {
    /// What kind of problem it is, in a stable word: `keel:locked`.
    pub r#type: String,
    /// The same for people.
    pub title: String,
    /// The status of HTTP.
    pub status: u16,
    /// What happened.
    pub detail: String,
    /// The code of keel, such as `G102`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What would help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Problem {
    fn new(status: StatusCode, word: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("keel:{word}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: None,
            hints: Vec::new(),
        }
    }

    /// Adds something that helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The question is none.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad",
            "the question is wrong",
            detail,
        )
    }

    /// There is no such thing, or none that the caller may see.
    pub fn not_there(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "notThere",
            "there is no such thing",
            detail,
        )
    }

    /// Nobody knows who asks.
    pub fn nobody() -> Self {
        let detail = "nothing tells who you are";
        Self::new(StatusCode::UNAUTHORIZED, "nobody", "who are you?", detail)
    }

    /// What came is not signed by who may send it.
    pub fn unsigned(detail: impl Into<String>) -> Self {
        let title = "nobody knows who sent it";
        Self::new(StatusCode::UNAUTHORIZED, "unsigned", title, detail)
    }

    /// It is asked too often.
    pub fn too_many(detail: impl Into<String>) -> Self {
        let title = "too many at once";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "tooMany", title, detail)
    }

    /// Who asks may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "you may not", detail)
    }

    /// It does not fit how things are now.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "conflict",
            "not as things are",
            detail,
        )
    }

    /// It took too long.
    pub fn too_slow() -> Self {
        let detail = "it took too long; it may go on";
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "tooSlow",
            "it took too long",
            detail,
        )
    }

    /// The controller has not looked yet.
    pub fn not_yet() -> Self {
        let detail = "the controller has not looked at the host yet";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "notYet", "not yet", detail)
    }

    /// Asked under another name than that of this host: a page of somebody else may be behind it.
    pub fn other_host() -> Self {
        let detail = "the name of the server in the question is not `localhost`";
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "otherHost",
            "who is meant?",
            detail,
        )
    }

    /// A fault of ours.
    pub fn bug() -> Self {
        let detail = "keel stopped on a fault of its own; please report this";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "bug",
            "a fault of keel",
            detail,
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            let way = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, way);
        }
        response
    }
}

impl From<CliError> for Problem {
    fn from(error: CliError) -> Self {
        let (status, word, title) = match error.exit {
            Exit::Usage => (StatusCode::BAD_REQUEST, "bad", "the question is wrong"),
            Exit::Invalid => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "it cannot be done",
            ),
            Exit::Refused => (StatusCode::CONFLICT, "refused", "it is refused"),
            Exit::Stale => (StatusCode::CONFLICT, "stale", "the plan is stale"),
            Exit::Locked => (StatusCode::LOCKED, "locked", "somebody else is at work"),
            Exit::Partly => (StatusCode::CONFLICT, "partly", "it was done in part"),
            Exit::Done | Exit::Unexpected | Exit::Differences | Exit::Other(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "failed", "it failed")
            }
        };
        let detail = error.source.map(|source| chain(source.as_ref()));
        Self {
            code: error.code,
            hints: error.hints,
            ..Self::new(status, word, title, detail.unwrap_or_default())
        }
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        let is_gone = matches!(error, SessionError::NotThere(_));
        let problem = Self::from(CliError::from(error));
        match is_gone {
            true => Self::not_there(problem.detail),
            false => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_keep_their_words_codes_and_hints() {
        let error = CliError::new(Exit::Refused, "19 of 24 would go").coded("G102");
        let problem = Problem::from(error.hint("keel approve"));
        assert_eq!(
            (problem.status, problem.r#type.as_str()),
            (409, "keel:refused")
        );
        assert_eq!(problem.detail, "19 of 24 would go");
        assert_eq!(problem.code.as_deref(), Some("G102"));
        assert_eq!(problem.hints, ["keel approve"]);
        let gone = SessionError::NotThere("instance/x".parse().expect("an address"));
        assert_eq!(Problem::from(gone).status, 404);
    }
}
