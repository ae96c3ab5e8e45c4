//! How an attempt is asked to stop, and within what time it has to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a handler may go on after cancelling was asked for, unless it says otherwise.
pub(crate) const CANCEL_GRACE_DEFAULT: Duration = Duration::from_secs(5);

/// A wish that an attempt stops. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Cancelling {
    token: CancellationToken,
    /// When it was first asked, and by when the attempt is to be over.
    asked: Arc<Mutex<Option<Instant>>>,
    within: watch::Sender<Option<Instant>>,
}

impl Cancelling {
    pub(crate) fn new() -> Self {
        Self { token: CancellationToken::new(), asked: Arc::default(), within: watch::Sender::new(None) }
    }

    /// Asks the attempt to stop, within a time that whoever asks has set; of several the soonest end counts.
    pub(crate) fn ask(&self, within: Option<Duration>) {
        let now = Instant::now();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        if let Some(end) = within.map(|within| now + within) {
            self.within.send_if_modified(|soonest| {
                let is_sooner = soonest.is_none_or(|soonest| end < soonest);
                if is_sooner {
                    *soonest = Some(end);
                }
                is_sooner
            });
        }
        self.token.cancel();
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// When the attempt's time is over: `grace` from the first time that it was asked to stop, or less where that was said.
    fn deadline(&self, grace: Duration) -> Option<Instant> {
        let end = (*self.asked.lock().unwrap_or_else(PoisonError::into_inner))? + grace;
        Some(self.within.borrow().map_or(end, |within| within.min(end)))
    }

    /// Resolves when the attempt has been asked to stop and its time to do so is over.
    pub(crate) async fn overdue(&self, grace: Duration) {
        self.token.cancelled().await;
        let mut within = self.within.subscribe();
        while let Some(end) = self.deadline(grace) {
            tokio::select! {
                () = sleep_until(end) => return,
                Ok(()) = within.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soonest_end_counts() {
        let second = Duration::from_secs(1);
        let cancelling = Cancelling::new();
        assert_eq!(cancelling.deadline(second), None);
        cancelling.ask(None);
        let asked = cancelling.deadline(Duration::ZERO).expect("it was asked");
        assert_eq!(cancelling.deadline(5 * second), Some(asked + 5 * second));
        cancelling.ask(Some(1000 * second));
        assert_eq!(cancelling.deadline(5 * second), Some(asked + 5 * second), "nobody gives more than the handler has");
        cancelling.ask(Some(2 * second));
        let sooner = cancelling.deadline(5 * second).expect("it was asked");
        assert!((asked + 2 * second..asked + 3 * second).contains(&sooner), "whoever asks may be in a hurry");
        cancelling.ask(Some(100 * second));
        cancelling.ask(None);
        assert_eq!(cancelling.deadline(5 * second), Some(sooner), "asking again gives no more time");
        assert_eq!(cancelling.deadline(second), Some(asked + second));
    }
}
