//! Reading what a task puts out, as it comes, without polling.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::output::{PLACE_MAX, Standing};
use crate::waiters::Reading;
use crate::{Chunk, Error, Orchestrator, Result, Status, TaskId};

/// Longest time between two looks at a task whose output is read.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// As long a one of a reader that is not told.
const GLANCE: Duration = Duration::from_secs(1);

/// What a task puts out; see [`Orchestrator::chunks`].
#[derive(Debug)]
pub struct Chunks {
    orch: Orchestrator,
    id: TaskId,
    /// Number of the last chunk that was read.
    place: u64,
    read: VecDeque<Chunk>,
    status: Option<Status>,
    /// Held from the first wait on.
    reading: Option<Arc<Reading>>,
}

impl Orchestrator {
    /// Reads what a task puts out while it runs ([`ctx.emit_chunk`] in its handler), from the first chunk that is kept, and waits
    /// for more until it has ended. All readers of a process share one connection.
    ///
    /// [`ctx.emit_chunk`]: https://docs.rs/orchestrator-worker
    ///
    /// ```no_run
    /// # async fn read(orch: orchestrator::Orchestrator, id: orchestrator::TaskId) -> orchestrator::Result {
    /// let mut chunks = orch.chunks(id);
    /// while let Some(chunk) = chunks.next().await? {
    ///     print!("{}", chunk.data.as_text().unwrap_or_default());
    /// }
    /// println!("it is {}", chunks.status().unwrap());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn chunks(&self, id: TaskId) -> Chunks {
        Chunks { orch: self.clone(), id, place: 0, read: VecDeque::new(), status: None, reading: None }
    }
}

impl Chunks {
    /// Begins behind the chunk of this number instead. One that there has not been yet means the newest.
    #[must_use]
    pub fn after(mut self, number: u64) -> Self {
        self.place = number.min(PLACE_MAX);
        self
    }

    /// Number of the last chunk that [`Chunks::next`] has told, or behind which it began.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.read.front().map_or(self.place, |chunk| chunk.number - 1 - chunk.missed)
    }

    /// How the task has ended, once [`Chunks::next`] has told all of its output.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status.filter(|_| self.read.is_empty())
    }

    /// The next chunk; `None` when the task has ended and there are no more.
    ///
    /// Cancel-safe. After an error it may be called again.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the task is unknown or its retention has passed; [`Error::Unavailable`].
    pub async fn next(&mut self) -> Result<Option<Chunk>> {
        let reading = Arc::clone(self.reading.get_or_insert_with(|| Arc::new(self.orch.waiters.read(self.id))));
        loop {
            let news = reading.news();
            tokio::pin!(news);
            news.as_mut().enable();
            let patience = match self.look(reading.inbox()).await? {
                _ if !self.read.is_empty() || self.status.is_some() => return Ok(self.read.pop_front()),
                true => LOOK_AGAIN,
                false => GLANCE,
            };
            let _ = tokio::time::timeout(patience, news).await;
        }
    }

    /// All that is there, once there is something, up to about a MiB; `None` as [`Chunks::next`].
    ///
    /// Cancel-safe. After an error it may be called again.
    ///
    /// # Errors
    /// As [`Chunks::next`].
    pub async fn next_some(&mut self) -> Result<Option<Vec<Chunk>>> {
        let Some(first) = self.next().await? else { return Ok(None) };
        Ok(Some([first].into_iter().chain(self.read.drain(..)).collect()))
    }

    /// The next chunk that is there already.
    ///
    /// # Errors
    /// As [`Chunks::next`].
    pub async fn next_if_any(&mut self) -> Result<Option<Chunk>> {
        self.look("").await?;
        Ok(self.read.pop_front())
    }

    /// Reads on unless something is left. Returns whether the inbox will be told of more.
    async fn look(&mut self, inbox: &str) -> Result<bool> {
        if !self.read.is_empty() || self.status.is_some() {
            return Ok(true);
        }
        let looked = self.orch.store().output(self.id, self.place, inbox).await?;
        match looked.chunks.last() {
            Some(last) => self.place = last.number,
            // It does not reach that far any more: Redis has lost its end, or all of it.
            None => self.place = self.place.min(looked.newest),
        }
        self.read.extend(looked.chunks);
        match looked.standing {
            Standing::Live { told } => return Ok(told),
            // There may be more behind a page.
            Standing::Ended(status) if self.read.is_empty() => self.status = Some(status),
            Standing::Ended(_) => {}
            Standing::Unknown if self.read.is_empty() => {
                return Err(Error::NotFound { what: format!("task {}", self.id) });
            }
            Standing::Unknown => {}
        }
        Ok(true)
    }

    /// All that is there behind its place, for tests that read in the name of an inbox; and whether that is told of more.
    #[cfg(feature = "test-clock")]
    #[doc(hidden)]
    pub async fn look_as(&mut self, inbox: &str) -> Result<(Vec<Chunk>, bool)> {
        let told = self.look(inbox).await?;
        Ok((self.read.drain(..).collect(), told))
    }

    /// Has that inbox told no more.
    #[cfg(feature = "test-clock")]
    #[doc(hidden)]
    pub async fn hush_as(&self, inbox: &str) -> Result {
        self.orch.store().hush(self.id, inbox).await
    }
}
