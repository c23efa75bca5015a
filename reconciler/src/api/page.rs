//! The page for browsers: files that are in the program, with a policy that lets nothing else run. It only looks, by the same
//! questions that everybody may ask.

use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

/// Nothing but the files of the page itself is loaded, and nothing of it stands in its HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let head: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (head, text)
}

pub(super) async fn index() -> impl IntoResponse {
    file("text/html; charset=utf-8", include_str!("page/index.html"))
}

pub(super) async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", include_str!("page/page.css"))
}

pub(super) async fn script() -> impl IntoResponse {
    file(
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    )
}

pub(super) async fn icon() -> impl IntoResponse {
    file("image/svg+xml", include_str!("page/page.svg"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_stands_in_the_html_that_the_policy_forbids_and_no_text_is_read_as_html() {
        let html = include_str!("page/index.html");
        assert!(
            !html.contains("<style") && !html.contains(" style=") && !html.contains(" onclick")
        );
        let mut scripts = html.match_indices("<script");
        assert!(scripts.all(|(at, _)| html[at..].contains("src=\"/page.js\"></script>")));
        let script = include_str!("page/page.js");
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!script.contains(word), "{word}");
        }
    }
}
