//! What a worker can take now, and its wait for it.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use orchestrator::{Result, Wake};

use super::{ABORT_GRACE, BREATH, Run};
use crate::Worker;
use crate::counted::Rare;

/// Longest blocking wait before it is sent anew.
const PATIENCE: Duration = Duration::from_secs(30);

/// A blocking wait under way, and how many queues it listens to beside the inbox.
pub(super) struct Listening {
    pub(super) wait: BoxFuture<'static, Result<Option<Wake>>>,
    queues: usize,
    nudged: bool,
}

impl Run {
    pub(super) fn free(&self) -> usize {
        if self.draining { 0 } else { self.worker.slots.saturating_sub(self.running.len()) }
    }

    /// How many tasks are wanted now, and from which queues.
    pub(super) fn wants(&self) -> (usize, &[String]) {
        let (free, Worker { queues, unblocked, pool, .. }) = (self.free(), &self.worker);
        if unblocked.len() == queues.len() {
            return (free, queues);
        }
        match pool.room(self.running.values().filter(|running| running.blocking).count()) {
            0 if unblocked.is_empty() => (0, unblocked),
            0 => (free, unblocked),
            room => (free.min(room), queues),
        }
    }

    /// There may be threads for blocking handlers again.
    pub(super) fn widen(&mut self) {
        if self.narrowed && self.wants().1.len() == self.worker.queues.len() {
            (self.narrowed, self.hungry) = (false, true);
        }
    }

    /// Sees to it that a blocking wait is under way that listens to what this worker can use now.
    pub(super) fn listen(&mut self) {
        let queues = match self.wants() {
            (1.., queues) if !self.hungry => queues.len(),
            _ => 0,
        };
        match &mut self.listening {
            None => {
                let names = if queues > 0 { self.wants().1.to_vec() } else { Vec::new() };
                let doorbell = self.life.doorbell.clone();
                let wait = async move { doorbell.wait(&names, PATIENCE).await }.boxed();
                self.listening = Some(Listening { wait, queues, nudged: false });
            }
            Some(listening) if queues > listening.queues && !listening.nudged => {
                listening.nudged = true;
                let doorbell = self.life.doorbell.clone();
                tokio::spawn(async move { doorbell.nudge().await });
            }
            Some(_) => {}
        }
    }

    /// The blocking wait has ended.
    pub(super) async fn hear(&mut self, rung: Result<Option<Wake>>) {
        self.listening = None;
        match rung {
            Ok(Some(Wake::Work(queue))) if self.wants().0 > 0 && self.wants().1.contains(&queue) => {
                self.hungry = true;
                self.woken = Some(queue);
            }
            Ok(Some(Wake::Work(queue))) => {
                // No slot for it: somebody else may have one. Until one is free here, only the inbox is listened to.
                self.hungry = true;
                if self.life.doorbell.put_back(&queue).await.is_err() {
                    self.unsure = true;
                }
            }
            Ok(Some(Wake::Cancel(id))) => self.cancel(id, None),
            Ok(Some(Wake::CancelWithin(id, span))) => self.cancel(id, Some(span)),
            Ok(None) => {}
            Err(error) => {
                self.worker.metrics.meter.rare(Rare::RedisError);
                // A token may have been popped for us and lost with the connection: look for ourselves.
                tracing::debug!(%error, "the blocking wait broke");
                self.hungry = true;
                tokio::time::sleep(BREATH).await;
            }
        }
    }

    /// Ends the blocking wait without losing a wake token that it may just have taken.
    pub(super) async fn silence(&mut self) {
        let Some(listening) = self.listening.take() else { return };
        let nudge = async {
            self.life.doorbell.nudge().await?;
            listening.wait.await
        };
        if let Ok(Ok(Some(Wake::Work(queue)))) = tokio::time::timeout(ABORT_GRACE, nudge).await {
            let _ = self.life.doorbell.put_back(&queue).await;
        }
    }
}
