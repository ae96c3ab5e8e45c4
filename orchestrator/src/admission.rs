//! How often somebody may come: counted in Redis, so that all processes of a namespace count together.

use crate::store::{Fault, Items};
use crate::{Orchestrator, Result};

/// What became of one who came, and what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admission {
    /// Whether there was a place.
    pub admitted: bool,
    /// How many more may come now.
    pub left: u32,
    /// The Unix second when there is a place more than now, by the server's clock.
    pub free_at: u64,
    /// Seconds until then, rounded up.
    pub free_in: u64,
}

impl Orchestrator {
    /// Admits `whose` to `what`, unless `limit` (1 to 10,000) were admitted within the last 60 s: exactly, however many processes
    /// ask at once. Whoever is refused is not counted. Asked once: an answer that was lost may have counted.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn admit(&self, what: &str, whose: &[u8], limit: u32) -> Result<Admission> {
        let who = [what.as_bytes(), b" ", whose].concat();
        let call = self.store.call(&self.store.scripts().limit).arg(who).arg(limit);
        let mut items = Items::of(self.store.send(&call).await.map_err(Fault::into_error)?)?;
        Ok(Admission {
            admitted: items.next::<u8>()? == 1,
            left: items.next()?,
            free_at: items.next()?,
            free_in: items.next()?,
        })
    }
}
