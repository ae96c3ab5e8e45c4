//! How long things wait, and what people have decided: for who watches a namespace from outside.

use crate::store::Items;
use crate::{Orchestrator, Result};

/// What one look has found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges {
    /// When it was taken, in milliseconds of the server's clock; the next look begins there.
    pub(crate) next_ms: u64,
    /// Approvals that nobody has decided yet.
    pub(crate) approvals_pending: u64,
    /// For how long the oldest of them has been waiting, in milliseconds.
    pub(crate) approvals_oldest_ms: u64,
    /// For how long the oldest runnable task of each queue has been runnable, in milliseconds.
    pub(crate) oldest_ms: Vec<(String, u64)>,
    /// What has become of approvals since the last look, and how long that took in milliseconds.
    pub(crate) decided: Vec<(String, u64)>,
}

impl Orchestrator {
    /// A look; of the decisions, those since `since_ms` (a thousand at most, the oldest first).
    pub(crate) async fn gauges(&self, since_ms: u64) -> Result<Gauges> {
        let call = |_| self.store().call(&self.store().scripts().gauge).arg(since_ms);
        let mut reply = Items::of(self.store().repeat(call).await?)?;
        let mut gauges = Gauges {
            next_ms: reply.next()?,
            approvals_pending: reply.next()?,
            approvals_oldest_ms: reply.next()?,
            ..Gauges::default()
        };
        let mut pairs = Items::of(reply.next()?)?;
        while !pairs.is_empty() {
            gauges.oldest_ms.push((lossy(pairs.next()?), pairs.next()?));
        }
        let mut pairs = Items::of(reply.next()?)?;
        while !pairs.is_empty() {
            gauges.decided.push((lossy(pairs.next()?), pairs.next()?));
        }
        Ok(gauges)
    }

    /// The server's clock in milliseconds, as this process knows it.
    pub(crate) fn now_ms(&self) -> u64 {
        self.store().now_ms()
    }
}

/// A name that somebody else wrote need not be text.
fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
