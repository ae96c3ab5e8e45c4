//! Which webhooks a namespace has. Gateways deliver to them.

use crate::store::Replaced;
use crate::task::instant;
use crate::webhook::{WEBHOOKS_MAX, check_id};
use crate::{Error, Orchestrator, Result, Webhook, WebhookSecret};

impl Orchestrator {
    /// Adds a webhook, which is told of what happens from now on; returns it as it is stored. Adding the same one again
    /// changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id, an address or a number of patterns that cannot be; [`Error::Conflict`] when another
    /// webhook has this id, and for more than [`WEBHOOKS_MAX`]; [`Error::Unavailable`].
    pub async fn add_webhook(&self, webhook: Webhook) -> Result<Webhook> {
        let webhook = webhook.checked(&self.config().webhooks)?;
        self.store.learn_time().await?;
        let webhook = Webhook { created_at: instant(self.store.now_ms()), ..webhook };
        let bytes = webhook.write()?;
        loop {
            match self.store.replace_webhook(&webhook.id, b"", &bytes, WEBHOOKS_MAX).await? {
                Replaced::Done => return Ok(webhook),
                Replaced::Full => {
                    return Err(Error::Conflict {
                        what: format!("there are {WEBHOOKS_MAX} webhooks, as many as there may be; remove one"),
                    });
                }
                Replaced::Other => match self.webhook(&webhook.id).await {
                    Ok(there)
                        if (&there.url, &there.wanted, &there.secrets)
                            == (&webhook.url, &webhook.wanted, &webhook.secrets) =>
                    {
                        return Ok(there);
                    }
                    // Removed meanwhile.
                    Err(Error::NotFound { .. }) => {}
                    Ok(there) => {
                        return Err(Error::Conflict {
                            what: format!(
                                "webhook `{}` is there already and goes to {}; remove it, or choose another id",
                                there.id, there.url
                            ),
                        });
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// All webhooks, by id. One that cannot be read is left out, and logged.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn webhooks(&self) -> Result<Vec<Webhook>> {
        let stored = self.store.webhooks().await?;
        let read = |(id, bytes): (Vec<u8>, Vec<u8>)| {
            let id = String::from_utf8_lossy(&id).into_owned();
            Webhook::read(&id, &bytes)
                .inspect_err(|error| tracing::warn!(webhook = id, %error, "a webhook cannot be read"))
                .ok()
        };
        let mut webhooks: Vec<Webhook> = stored.into_iter().filter_map(read).collect();
        webhooks.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(webhooks)
    }

    /// One webhook.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn webhook(&self, id: &str) -> Result<Webhook> {
        check_id(id)?;
        Webhook::read(id, &self.stored_webhook(id).await?)
    }

    /// Removes a webhook: nothing is sent to it any more, a request under way is finished.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn remove_webhook(&self, id: &str) -> Result {
        check_id(id)?;
        loop {
            let old = self.stored_webhook(id).await?;
            if self.store.replace_webhook(id, &old, b"", WEBHOOKS_MAX).await? == Replaced::Done {
                return Ok(());
            }
        }
    }

    /// Signs with a new secret, made here unless one is given, and with the one that was in force, so that the receiver can
    /// change over; one that is older is dropped. Rotate twice to be rid of a secret that is known.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn rotate_webhook_secret(&self, id: &str, secret: Option<WebhookSecret>) -> Result<Webhook> {
        let secret = secret.unwrap_or_else(WebhookSecret::generate);
        self.change_webhook(id, |webhook| webhook.rotate(secret.clone())).await.map(|(webhook, _)| webhook)
    }

    /// Sends nothing to a webhook until it is resumed; `because` says why, when it is not by hand. Returns whether that was
    /// a change.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn pause_webhook(&self, id: &str, because: Option<&str>) -> Result<bool> {
        let pause = |webhook: &mut Webhook| {
            let because = because.map(crate::error::excerpt);
            !webhook.paused && {
                (webhook.paused, webhook.paused_because) = (true, because);
                true
            }
        };
        self.change_webhook(id, pause).await.map(|(_, changed)| changed)
    }

    /// Goes on with what a webhook has not been told yet, as far back as events are kept. Returns whether that was a change.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn resume_webhook(&self, id: &str) -> Result<bool> {
        let resume = |webhook: &mut Webhook| {
            webhook.paused_because = None;
            std::mem::replace(&mut webhook.paused, false)
        };
        self.change_webhook(id, resume).await.map(|(_, changed)| changed)
    }

    async fn stored_webhook(&self, id: &str) -> Result<Vec<u8>> {
        let stored = self.store.webhook(id).await?;
        stored.ok_or_else(|| Error::NotFound { what: format!("webhook `{id}`") })
    }

    /// Changes a webhook as it is now, again when somebody else has changed it meanwhile. `change` says whether it did.
    async fn change_webhook(&self, id: &str, change: impl Fn(&mut Webhook) -> bool) -> Result<(Webhook, bool)> {
        check_id(id)?;
        loop {
            let old = self.stored_webhook(id).await?;
            let mut webhook = Webhook::read(id, &old)?;
            if !change(&mut webhook) {
                return Ok((webhook, false));
            }
            if self.store.replace_webhook(id, &old, &webhook.write()?, WEBHOOKS_MAX).await? == Replaced::Done {
                return Ok((webhook, true));
            }
        }
    }
}
