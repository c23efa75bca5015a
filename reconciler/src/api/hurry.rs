//! [`Hurry`]: the body of a question, which must have come by a time. Who sends a head and then nothing would keep one of
//! the few places for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// How long it may take until all of it has come.
const PATIENCE: Duration = Duration::from_secs(15);

/// It has not come.
#[derive(Debug, thiserror::Error)]
#[error("the rest of it did not come within {} s", .0.as_secs())]
struct Late(Duration);

/// A body that fails where it takes too long.
struct Hurry {
    inner: Body,
    patience: Duration,
    until: Pin<Box<Sleep>>,
}

impl Hurry {
    fn new(inner: Body, patience: Duration) -> Self {
        Self {
            inner,
            patience,
            until: Box::pin(sleep(patience)),
        }
    }
}

impl HttpBody for Hurry {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if frame.is_ready() {
            return frame;
        }
        match self.until.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Some(Err(axum::Error::new(Late(self.patience))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Questions are answered whose bodies come soon.
pub(super) async fn soon(request: Request, next: Next) -> Response {
    next.run(request.map(|body| Body::new(Hurry::new(body, PATIENCE))))
        .await
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A body of which one part comes, and then nothing any more.
    struct Halts(Option<Bytes>);

    impl HttpBody for Halts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.take() {
                Some(part) => Poll::Ready(Some(Ok(Frame::data(part)))),
                None => Poll::Pending,
            }
        }
    }

    #[test]
    fn what_does_not_come_is_not_waited_for_and_what_comes_is_whole() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let read = async |body| {
                let body = Body::new(Hurry::new(body, Duration::from_millis(20)));
                axum::body::to_bytes(body, 100).await
            };
            let halts = Body::new(Halts(Some(Bytes::from_static(b"a part"))));
            let error = read(halts).await.expect_err("the rest does not come");
            let said = crate::error::chain(&error);
            assert!(said.contains("did not come within"), "{said}");
            let whole = read(Body::from("all of it")).await.expect("it came");
            assert_eq!(whole, "all of it");
        });
    }
}
