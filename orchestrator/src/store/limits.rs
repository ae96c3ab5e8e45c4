//! How many requests of one client were admitted of late.

use super::{Fault, Items, Store};
use crate::Result;

/// What became of a request, and what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) admitted: bool,
    /// How many more may come now.
    pub(crate) left: u32,
    /// The Unix second when there is a place more than now, by the server's clock.
    pub(crate) free_at: u64,
    /// Seconds until then, rounded up.
    pub(crate) free_in: u64,
}

impl Store {
    /// Admits a request, unless `limit` were admitted within the last 60 s. Sent once: a lost answer may have counted.
    pub(crate) async fn admit_request(&self, endpoint: &str, address: &[u8], limit: u32) -> Result<Admission> {
        let who = [endpoint.as_bytes(), b" ", address].concat();
        let call = self.call(&self.scripts().limit).arg(who).arg(limit);
        let mut items = Items::of(self.send(&call).await.map_err(Fault::into_error)?)?;
        Ok(Admission {
            admitted: items.next::<u8>()? == 1,
            left: items.next()?,
            free_at: items.next()?,
            free_in: items.next()?,
        })
    }
}
