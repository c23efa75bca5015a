//! The page for browsers: files that are in the program, with a policy that lets nothing else run. It only looks, by the same
//! questions that everybody may ask.

use axum::extract::Path;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

use super::Problem;

/// Nothing but the files of the page itself is loaded, and nothing of it stands in its HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What belongs to the page: name, kind and text of each file.
const FILES: [(&str, &str, &str); 7] = [
    (
        "page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    ("page.svg", "image/svg+xml", include_str!("page/page.svg")),
    ("page.js", SCRIPT, include_str!("page/page.js")),
    ("parts.js", SCRIPT, include_str!("page/parts.js")),
    ("objects.js", SCRIPT, include_str!("page/objects.js")),
    ("object.js", SCRIPT, include_str!("page/object.js")),
    ("rest.js", SCRIPT, include_str!("page/rest.js")),
];

const INDEX: &str = include_str!("page/index.html");

fn with_policy(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let head: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (head, text)
}

pub(super) async fn index() -> impl IntoResponse {
    with_policy("text/html; charset=utf-8", INDEX)
}

pub(super) async fn file(Path(name): Path<String>) -> Result<impl IntoResponse, Problem> {
    let found = FILES.iter().find(|(file, _, _)| *file == name);
    let (_, kind, text) = found.ok_or_else(|| Problem::not_there("the page has no such file"))?;
    Ok(with_policy(kind, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stands_in_the_html_that_the_policy_forbids_and_no_text_is_read_as_html() {
        let inline = ["<style", " style=", " onclick", "javascript:"];
        assert!(inline.iter().all(|word| !INDEX.contains(word)));
        let mut scripts = INDEX.match_indices("<script");
        assert!(scripts.all(|(at, _)| INDEX[at..].contains("src=\"/page/page.js\"></script>")));
        let dangerous = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            ".style",
        ];
        for (name, _, text) in FILES {
            for word in dangerous {
                assert!(!text.contains(word), "{name}: {word}");
            }
            // What it loads is there.
            for at in text.split("from \"./").skip(1) {
                let file = at.split('"').next().unwrap_or_default();
                assert!(
                    FILES.iter().any(|(name, _, _)| *name == file),
                    "{name}: {file}"
                );
            }
        }
        for at in INDEX.split("\"/page/").skip(1) {
            let file = at.split('"').next().unwrap_or_default();
            assert!(FILES.iter().any(|(name, _, _)| *name == file), "{file}");
        }
    }
}
