//! What a worker counts of itself, whether anybody asks for it or not.

/// How an attempt ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Completed,
    Failed,
    Retried,
    Snoozed,
    Rejected,
    Cancelled,
    Parked,
    Stopped,
}

impl Ended {
    #[cfg(feature = "metrics")]
    pub(crate) const NAMES: [&str; 8] =
        ["completed", "failed", "retried", "snoozed", "rejected", "cancelled", "parked", "stopped"];
}

/// What rarely happens, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rare {
    LateRenewal,
    FailedRenewal,
    LostLease,
    RedisError,
    StaleOutcome,
}
