//! Deliveries as forges send them, and forged ones.

use std::time::{Duration, Instant};

use base64::Engine as _;
use jiff::Timestamp;
use manifests::id::SourceName;
use ring::hmac;

use super::doors::{Doors, Refused, Taken};
use super::guard::{Bucket, Known};
use super::signature::Unsigned;
use crate::clock::{Clock as _, HostClock};

const SETTINGS: &str = "\
apiVersion: evenkeel/v1
kind: Controller
webhooks: { listen: '127.0.0.1:9480' }
sources:
  - { name: hub, directory: { path: /a }, webhook: { forge: github, secret: { environment: KEY } } }
  - { name: lab, directory: { path: /b }, webhook: { forge: gitlab, secret: { environment: KEY } } }
  - { name: tea, directory: { path: /c }, webhook: { forge: gitea, secret: { environment: KEY } } }
  - { name: any, directory: { path: /d }, webhook: { secret: { environment: KEY } } }
  - { name: none, directory: { path: /e } }
";

/// The key of RFC 4231's second test.
const KEY: &str = "Jefe";
const BODY: &[u8] = b"what do ya want for nothing?";
const SIGNATURE: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

struct Hall {
    doors: Doors,
    day: Timestamp,
    now: Instant,
}

impl Hall {
    fn new() -> Self {
        let (settings, found) = manifests::controller::read("c.yaml", SETTINGS);
        let settings = settings.unwrap_or_else(|| panic!("{found:?}"));
        let now = HostClock.instant();
        let variable = |_: &str| Some(KEY.to_owned());
        Self {
            doors: Doors::of(&settings.sources, &variable, now).expect("secrets"),
            day: "2026-11-27T12:00:00Z".parse().expect("a time"),
            now,
        }
    }

    fn take(&self, source: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Taken, Refused> {
        let header = |name: &str| {
            let found = headers.iter().find(|(one, _)| *one == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let source = SourceName::new(source);
        self.doors
            .take(&source, &header, body, (self.day, self.now))
    }
}

#[test]
fn forges_sign_each_in_their_way() {
    let hall = Hall::new();
    let hub = format!("sha256={SIGNATURE}");
    for (source, headers) in [
        ("hub", [("x-hub-signature-256", hub.as_str())]),
        ("tea", [("x-gitea-signature", SIGNATURE)]),
        ("lab", [("x-gitlab-token", KEY)]),
        ("any", [("x-signature", hub.as_str())]),
    ] {
        let first = hall.take(source, &headers, BODY);
        assert!(matches!(first, Ok(Taken::Looks)), "{source}: {first:?}");
        // What comes again does nothing.
        let again = hall.take(source, &headers, BODY);
        match source {
            "any" => assert!(matches!(again, Err(Refused::Twice)), "{again:?}"),
            _ => assert!(matches!(again, Ok(Taken::Again)), "{source}: {again:?}"),
        }
    }
    let ping = [
        ("x-hub-signature-256", hub.as_str()),
        ("x-github-event", "ping"),
    ];
    assert!(matches!(hall.take("hub", &ping, BODY), Ok(Taken::Ping)));
}

#[test]
fn what_nobody_signed_is_refused() {
    let hall = Hall::new();
    let good = format!("sha256={SIGNATURE}");
    let other = good.replace("5bdc", "5bdd");
    let cut = good[..40].to_owned();
    for (source, headers, body) in [
        ("hub", vec![], BODY),
        ("hub", vec![("x-hub-signature-256", SIGNATURE)], BODY),
        ("hub", vec![("x-hub-signature-256", other.as_str())], BODY),
        ("hub", vec![("x-hub-signature-256", cut.as_str())], BODY),
        ("hub", vec![("x-hub-signature-256", "sha256=")], BODY),
        (
            "hub",
            vec![("x-hub-signature-256", good.as_str())],
            b"something else",
        ),
        // SHA-1, as it was once.
        (
            "hub",
            vec![(
                "x-hub-signature",
                "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            )],
            BODY,
        ),
        (
            "any",
            vec![(
                "x-signature",
                "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            )],
            BODY,
        ),
        ("tea", vec![("x-gitea-signature", good.as_str())], BODY),
        // A wrong one is not made good by the other.
        (
            "tea",
            vec![
                ("x-forgejo-signature", "00"),
                ("x-gitea-signature", SIGNATURE),
            ],
            BODY,
        ),
        ("lab", vec![("x-gitlab-token", "jefe")], BODY),
        ("lab", vec![("x-gitlab-token", "")], BODY),
        ("lab", vec![("x-hub-signature-256", good.as_str())], BODY),
    ] {
        let refused = hall.take(source, &headers, body);
        assert!(
            matches!(refused, Err(Refused::Unsigned(_))),
            "{source} {headers:?}: {refused:?}"
        );
    }
    for source in ["none", "strange", "../hub"] {
        let headers = [("x-hub-signature-256", good.as_str())];
        assert!(matches!(
            hall.take(source, &headers, BODY),
            Err(Refused::NoDoor)
        ));
    }
}

#[test]
fn what_is_signed_with_its_time_is_good_for_minutes() {
    let mut hall = Hall::new();
    let seconds = hall.day.as_second().to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    let signed = [b"msg_1.", seconds.as_bytes(), b".", BODY].concat();
    let encoded = base64::engine::general_purpose::STANDARD.encode(hmac::sign(&key, &signed));
    let signature = format!("v1,AAAA v1,{encoded}");
    let headers = [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", seconds.as_str()),
        ("webhook-signature", signature.as_str()),
    ];
    for source in ["lab", "any"] {
        assert!(matches!(
            hall.take(source, &headers, BODY),
            Ok(Taken::Looks)
        ));
    }
    let mut forged = headers;
    forged[0] = ("webhook-id", "msg_2");
    let refused = hall.take("any", &forged, BODY);
    assert!(
        matches!(refused, Err(Refused::Unsigned(Unsigned::Wrong))),
        "{refused:?}"
    );
    hall.day = hall
        .day
        .checked_add(jiff::SignedDuration::from_mins(6))
        .expect("a time");
    let refused = hall.take("lab", &headers, BODY);
    assert!(
        matches!(refused, Err(Refused::Unsigned(Unsigned::Old))),
        "{refused:?}"
    );
}

#[test]
fn too_many_are_refused_and_who_signs_is_not_kept_out_by_some_who_do_not() {
    let mut hall = Hall::new();
    let signed = |number: u32| {
        let body = number.to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
        let signature = format!("sha256={}", hex::encode(hmac::sign(&key, body.as_bytes())));
        (body, signature)
    };
    let send = |hall: &Hall, number| {
        let (body, signature) = signed(number);
        hall.take("any", &[("x-signature", &signature)], body.as_bytes())
    };
    for _ in 0..20 {
        assert!(hall.take("any", &[], b"x").is_err());
    }
    for number in 0..30 {
        assert!(send(&hall, number).is_ok(), "{number}");
    }
    assert!(matches!(send(&hall, 30), Err(Refused::TooMany(_))));
    hall.now += Duration::from_secs(1);
    assert!(send(&hall, 30).is_ok(), "it comes again later");
    for _ in 0..100 {
        assert!(hall.take("any", &[], b"x").is_err());
    }
    hall.now += Duration::from_millis(100);
    assert!(matches!(
        hall.take("any", &[], b"x"),
        Err(Refused::TooMany(_))
    ));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut known = Known::default();
    for number in 0..10_000_u32 {
        assert!(!known.knows(&number.to_ne_bytes()));
        known.remember(&number.to_ne_bytes());
    }
    assert!(known.knows(&9_999_u32.to_ne_bytes()));
    assert!(!known.knows(&0_u32.to_ne_bytes()));
    let now = HostClock.instant();
    let mut bucket = Bucket::new(2, Duration::from_secs(1), now);
    let later = now + Duration::from_secs(3600);
    for _ in 0..2 {
        assert!(bucket.take(later).is_ok());
    }
    assert!(bucket.take(later).is_err(), "an hour fills it once");
}
