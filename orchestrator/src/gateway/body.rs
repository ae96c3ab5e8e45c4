//! Bodies of requests, bounded in size and time.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};

use super::Problem;

/// How much of an unwanted body is taken in before the answer is sent, so that the client gets to read it.
const DISCARD_BYTES: usize = 4 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Bounds of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

/// The body of `request`, which has to be declared as JSON.
pub(super) async fn read(request: Request, bounds: Bounds) -> Result<Vec<u8>, Problem> {
    check_type(request.headers())?;
    take(request, bounds).await
}

/// The body of `request`, whatever it is declared as.
pub(super) async fn take(request: Request, bounds: Bounds) -> Result<Vec<u8>, Problem> {
    if announced(request.headers()).is_some_and(|bytes| bytes > bounds.bytes as u64) {
        discard(request).await;
        return Err(too_large(bounds));
    }
    let mut body = request.into_body();
    let read = tokio::time::timeout(bounds.time, collect(&mut body, bounds.bytes)).await;
    match read {
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} s", bounds.time.as_secs_f32()),
        )),
        Ok(Err(Unread::Broken)) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "the body broke off or is not sound HTTP"))
        }
        Ok(Err(Unread::TooLarge)) => {
            drain(body).await;
            Err(too_large(bounds))
        }
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// Takes in the rest of a request that is refused anyhow, within bounds: a client that is still sending when the
/// connection closes would not see why.
pub(super) async fn discard(request: Request) {
    // A client that asks first has sent nothing.
    if !request.headers().contains_key(EXPECT) {
        drain(request.into_body()).await;
    }
}

async fn drain(mut body: Body) {
    let mut left = DISCARD_BYTES;
    let _ = tokio::time::timeout(DISCARD_TIME, async {
        while let Some(Ok(frame)) = next(&mut body).await {
            left = left.saturating_sub(frame.len());
            if left == 0 {
                break;
            }
        }
    })
    .await;
}

enum Unread {
    TooLarge,
    Broken,
}

async fn collect(body: &mut Body, bytes_max: usize) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    while let Some(frame) = next(body).await {
        let frame = frame.map_err(|_| Unread::Broken)?;
        if bytes.len() + frame.len() > bytes_max {
            return Err(Unread::TooLarge);
        }
        bytes.extend_from_slice(&frame);
    }
    Ok(bytes)
}

/// The next data of a body; trailers count as none.
async fn next(body: &mut Body) -> Option<Result<Vec<u8>, axum::Error>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().map(|data| data.to_vec()).unwrap_or_default()))
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(bounds: Bounds) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body has more than {} bytes; keep large data elsewhere and pass a reference", bounds.bytes),
    )
}

/// Whether the body is declared as plain JSON.
pub(super) fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default().to_ascii_lowercase());
    let kind = text(CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind != "application/json" && !(kind.starts_with("application/") && kind.ends_with("+json")) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send JSON, with the header Content-Type: application/json",
        ));
    }
    match text(CONTENT_ENCODING).as_deref() {
        None | Some("identity") => Ok(()),
        Some(_) => {
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body as it is, without a Content-Encoding"))
        }
    }
}
