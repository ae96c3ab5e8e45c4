//! Telling webhooks: one consumer of events for each, which one gateway of the namespace runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::{Unanswered, WebhookAnswer, WebhookSender};
use crate::bus::{EventCursor, EventsFrom};
use crate::group::{Delivery, Group, Unhandled};
use crate::{Backoff, Error, Orchestrator, Result, Webhook};

/// How often the list of webhooks is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Attempts after the first: with the waits between them, most of a day.
const RETRIES: u8 = 40;
/// Ceiling of the first wait, and of all.
const WAITS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));
/// Requests to one webhook under way at once.
const AT_ONCE: usize = 8;

/// What is told of a webhook to what delivers to it.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Is(Box<Webhook>),
    Removed,
}

/// What one gateway needs to deliver.
#[derive(Clone, Debug)]
struct Deliverer {
    orch: Orchestrator,
    sender: WebhookSender,
    /// Has the list looked at before its time.
    look: Arc<Notify>,
}

/// Delivers to all webhooks until `stop` changes or its other end is gone; then finishes the requests under way.
pub(super) async fn keep_delivering(orch: Orchestrator, mut stop: watch::Receiver<()>) {
    let sender = match WebhookSender::new(&orch.config().webhooks) {
        Ok(sender) => sender,
        Err(error) => return tracing::error!(%error, "no webhook can be delivered"),
    };
    let deliverer = Deliverer { orch, sender, look: Arc::default() };
    let mut tended: HashMap<String, watch::Sender<Told>> = HashMap::new();
    let mut work = JoinSet::new();
    loop {
        let listed = tokio::select! {
            _ = stop.changed() => break,
            listed = deliverer.orch.webhooks() => listed,
        };
        match listed {
            Ok(webhooks) => {
                // One that has ended is begun anew.
                tended.retain(|_, teller| !teller.is_closed());
                for (id, teller) in &tended {
                    if !webhooks.iter().any(|webhook| webhook.id == *id) {
                        teller.send_replace(Told::Removed);
                    }
                }
                for webhook in webhooks {
                    let (id, now) = (webhook.id.clone(), Told::Is(Box::new(webhook)));
                    if let Some(teller) = tended.get(&id) {
                        teller.send_if_modified(|known| *known != now && std::mem::replace(known, now.clone()) != now);
                        continue;
                    }
                    let (teller, told) = watch::channel(now);
                    work.spawn(deliverer.clone().tend(id.as_str().into(), told));
                    tended.insert(id, teller);
                }
            }
            Err(error) => tracing::debug!(%error, "the list of webhooks cannot be read now"),
        }
        while work.try_join_next().is_some() {}
        tokio::select! {
            _ = stop.changed() => break,
            () = deliverer.look.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    drop(tended);
    while work.join_next().await.is_some() {}
}

impl Deliverer {
    /// Delivers to one webhook, as it is told that it is now, until it is removed or nothing more is told.
    async fn tend(self, id: Arc<str>, mut told: watch::Receiver<Told>) {
        let name = format!("webhook.{id}");
        loop {
            let now = told.borrow_and_update().clone();
            match now {
                Told::Removed => match self.orch.remove_group(&name).await {
                    // Another gateway, which does not know yet, will see to it.
                    Ok(_) | Err(Error::Conflict { .. }) => return,
                    Err(error) => return tracing::warn!(webhook = &*id, %error, "its group `{name}` is left behind"),
                },
                Told::Is(webhook) if webhook.paused => {}
                Told::Is(webhook) => {
                    let group = Group::new(&name, &webhook.wanted)
                        .from(EventsFrom::Behind(EventCursor::at(webhook.created_at)))
                        .retries(RETRIES)
                        .backoff(Backoff::exponential(WAITS.0, WAITS.1))
                        .at_once(AT_ONCE);
                    let changed = async {
                        // Seen here, and looked at below.
                        if told.changed().await.is_ok() {
                            told.mark_changed();
                        }
                    };
                    let deliver = |delivery| self.clone().deliver(Arc::clone(&id), delivery);
                    if let Err(error) = self.orch.consume(&group, deliver, changed).await {
                        tracing::error!(webhook = &*id, %error, "the webhook cannot be delivered to");
                    }
                }
            }
            if told.changed().await.is_err() {
                return;
            }
        }
    }

    /// One attempt at one event, with the webhook as it is at this moment: what is removed, paused or rotated is so at once.
    async fn deliver(self, id: Arc<str>, delivery: Delivery) -> Result<(), Unhandled> {
        let Delivery { event, attempt, .. } = delivery;
        let again = |error: String| Err(Unhandled::Retry { error, delay: None });
        let webhook = match self.orch.webhook(&id).await {
            Ok(webhook) if webhook.paused => {
                self.look.notify_one();
                return again("the webhook is paused".into());
            }
            Ok(webhook) => webhook,
            Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return again(error.to_string()),
        };
        // The group may be older than the webhook: made for one of the same id that was removed.
        let meant = webhook.wanted.is_empty() || webhook.wanted.iter().any(|want| want.matches(&event.event_type));
        if event.timestamp < webhook.created_at || !meant {
            return Ok(());
        }
        let outcome = verdict(self.sender.send(&webhook, &event).await);
        let (webhook, event) = (&webhook.id, &event.event_id);
        match outcome {
            Verdict::Delivered => {
                tracing::debug!(webhook, event, attempt, "delivered");
                Ok(())
            }
            Verdict::Gone => {
                let error = "the receiver answered 410: it is gone";
                match self.orch.pause_webhook(webhook, Some(error)).await {
                    Ok(true) => tracing::warn!(webhook, event, "{error}; the webhook is paused until it is resumed"),
                    // Paused by somebody else, or removed.
                    Ok(false) | Err(Error::NotFound { .. }) => {}
                    Err(fault) => tracing::warn!(webhook, %fault, "the webhook is gone and cannot be paused now"),
                }
                self.look.notify_one();
                again(error.into())
            }
            Verdict::Retry { error, delay } => {
                tracing::info!(webhook, event, attempt, error, "not delivered");
                Err(Unhandled::Retry { error, delay })
            }
        }
    }
}

/// What an answer means for an event.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Delivered,
    /// The receiver wants nothing any more.
    Gone,
    Retry {
        error: String,
        delay: Option<Duration>,
    },
}

fn verdict(answer: Result<WebhookAnswer, Unanswered>) -> Verdict {
    match answer {
        Ok(WebhookAnswer { status: 200..300, .. }) => Verdict::Delivered,
        Ok(WebhookAnswer { status: 410, .. }) => Verdict::Gone,
        Ok(WebhookAnswer { status, .. }) if (300..400).contains(&status) => Verdict::Retry {
            error: format!(
                "the receiver answered {status}, and redirects are not followed; give the webhook its last address"
            ),
            delay: None,
        },
        Ok(WebhookAnswer { status, retry_after, .. }) => {
            let delay = retry_after.filter(|_| matches!(status, 429 | 503));
            Verdict::Retry { error: format!("the receiver answered {status}"), delay }
        }
        Err(error) => Verdict::Retry { error: error.to_string(), delay: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_delivery_and_only_the_busy_are_asked_when() {
        let minute = Duration::from_secs(60);
        let after = |status| {
            let answer = WebhookAnswer { status, retry_after: Some(minute), took: Duration::ZERO };
            match verdict(Ok(answer)) {
                Verdict::Retry { error, delay } => (error.contains(&status.to_string()), delay),
                other => panic!("{status}: {other:?}"),
            }
        };
        for status in [200, 202, 204, 299] {
            let answer = WebhookAnswer { status, retry_after: None, took: Duration::ZERO };
            assert_eq!(verdict(Ok(answer)), Verdict::Delivered);
        }
        for status in [301, 307, 400, 401, 404, 411, 500, 502, 504] {
            assert_eq!(after(status), (true, None));
        }
        assert_eq!((after(429), after(503)), ((true, Some(minute)), (true, Some(minute))));
        let gone = WebhookAnswer { status: 410, retry_after: Some(minute), took: Duration::ZERO };
        assert_eq!(verdict(Ok(gone)), Verdict::Gone);
    }
}
