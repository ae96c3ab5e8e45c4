//! How long a credential stays good, for answers that last.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use super::stored_keys::HeldKey;

/// A credential that was found good.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// Good as long as this gateway runs: a key of the environment.
    Endless,
    /// From this Unix second on no request is let through with it: a token.
    Token(f64),
    /// Good until it ends or is revoked: a key in Redis.
    Key(HeldKey),
}

impl Standing {
    /// Waits until it is not good any more; tells why.
    pub(super) async fn over(self) -> &'static str {
        match self {
            Self::Endless => std::future::pending().await,
            Self::Token(end) => {
                sleep(left(end)).await;
                "the token has expired"
            }
            Self::Key(key) => key.over().await,
        }
    }
}

/// The time to a Unix second.
pub(super) fn left(end: f64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Duration::try_from_secs_f64(end - now).unwrap_or_default()
}
