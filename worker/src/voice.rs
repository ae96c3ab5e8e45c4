//! What a handler tells of its work while it runs: how far it is, and what it puts out. Told in the background, gathered, and
//! told whole before the attempt's end is.
//!
//! **Invariant:** one call is under way at a time. One whose answer is not known is sent again as it was, so that nothing is
//! told twice or out of order, also when the sending was dropped half way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use orchestrator::{
    Assignment, CHUNKS_SENT_MAX, ChunkBatch, Error, Incarnation, OUTPUT_BYTES_MAX, PackedChunk, Progress, Result,
    TaskId, Ticket,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Bytes of output that wait to be sent at most; then whoever puts out more waits.
const BUFFER_MAX: usize = OUTPUT_BYTES_MAX / 8;
/// Bytes of output that are sent without waiting for more.
const FULL: usize = 16 * 1024;
/// Bytes of output sent by one call, but for its last chunk.
const SENT_MAX: usize = 64 * 1024;
/// Pause before sending again what Redis did not take.
const BREATH: Duration = Duration::from_millis(200);
/// How often it is refused before it is given up: for a moment nobody has a task whose worker asks what it holds.
const REFUSALS: u32 = 5;

/// How often is told at most, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Shortest time between two words on progress.
    pub(crate) progress: Duration,
    /// How long output is gathered.
    pub(crate) gather: Duration,
    /// How long what is left is sent when the attempt is over.
    pub(crate) last_words: Duration,
}

impl Pace {
    pub(crate) const USUAL: Self = Self {
        progress: Duration::from_millis(250),
        gather: Duration::from_millis(30),
        last_words: Duration::from_secs(5),
    };
    /// For tests that count awaits.
    #[cfg(feature = "testing")]
    pub(crate) const AT_ONCE: Self = Self { progress: Duration::ZERO, gather: Duration::ZERO, ..Self::USUAL };
}

/// Where it is told.
#[async_trait]
pub(crate) trait Mouth: Send + Sync {
    async fn progress(&self, task: &Assignment, progress: &Progress, id: TaskId) -> Result;
    /// Returns the number of the last chunk.
    async fn put_out(&self, task: &Assignment, batch: &ChunkBatch) -> Result<u64>;
    fn new_id(&self) -> TaskId;
    fn pace(&self) -> Pace {
        Pace::USUAL
    }
    /// Hears of progress when it is reported; for tests.
    fn hear(&self, _progress: &Progress) {}
}

#[async_trait]
impl Mouth for (Incarnation, Ticket) {
    async fn progress(&self, task: &Assignment, progress: &Progress, id: TaskId) -> Result {
        self.0.note_progress(task, progress, id).await
    }

    async fn put_out(&self, task: &Assignment, batch: &ChunkBatch) -> Result<u64> {
        self.0.put_out(task, batch, None).await.map(|(number, _, _)| number)
    }

    fn new_id(&self) -> TaskId {
        self.0.new_id()
    }
}

/// What one attempt tells.
pub(crate) struct Voice {
    task: Arc<Assignment>,
    mouth: Box<dyn Mouth>,
    said: Mutex<Said>,
    /// There may be something to send.
    news: Notify,
    /// There may be room for more output.
    room: Notify,
}

#[derive(Default)]
struct Said {
    /// The newest word on progress.
    progress: Option<Progress>,
    /// The one that was sent, or is being sent, as which event.
    sent: Option<(Progress, TaskId)>,
    /// Whether the sent one has arrived.
    arrived: bool,
    sent_at: Option<Instant>,
    chunks: VecDeque<PackedChunk>,
    /// Bytes in `chunks`.
    bytes: usize,
    /// When the oldest of them came.
    since: Option<Instant>,
    /// What is being sent.
    batch: Option<ChunkBatch>,
    /// Number of the last chunk that arrived.
    at: u64,
    /// Chunks given up since.
    lost: u64,
    /// The attempt is over: what is here is sent, and nothing is added.
    closing: bool,
    /// Nobody takes it any more.
    over: bool,
}

/// What is to be sent next.
enum Next {
    Output(ChunkBatch),
    Progress(Progress, TaskId),
    Later(Instant),
    Nothing,
}

impl Voice {
    pub(crate) fn new(mouth: Box<dyn Mouth>, task: Arc<Assignment>) -> Self {
        Self { task, mouth, said: Mutex::default(), news: Notify::new(), room: Notify::new() }
    }

    /// Nobody takes anything any more once this is dropped; who waits to put out more goes on in vain.
    pub(crate) fn until_dropped(&self) -> impl Drop {
        Speaking(self)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Notes how far the handler is.
    pub(crate) fn report(&self, progress: Progress) {
        self.mouth.hear(&progress);
        let mut said = self.said();
        let newest = said.progress.as_ref().or(said.sent.as_ref().map(|(sent, _)| sent));
        if !said.over && !said.closing && newest != Some(&progress) {
            said.progress = Some(progress);
            self.news.notify_one();
        }
    }

    /// Takes a chunk as soon as there is room for it.
    pub(crate) async fn put_out(&self, chunk: PackedChunk) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut said = self.said();
                if said.over || said.closing {
                    return;
                }
                if said.chunks.is_empty() || said.bytes + chunk.weight() <= BUFFER_MAX {
                    said.bytes += chunk.weight();
                    said.since.get_or_insert_with(Instant::now);
                    let was_full = said.bytes - chunk.weight() >= FULL;
                    said.chunks.push_back(chunk);
                    if said.chunks.len() == 1 || (said.bytes >= FULL && !was_full) {
                        self.news.notify_one();
                    }
                    return;
                }
            }
            room.await;
        }
    }

    /// Sends what there is to send, for as long as the attempt runs.
    pub(crate) async fn speak(&self) {
        loop {
            match self.next(false) {
                Next::Output(batch) => self.send_output(batch).await,
                Next::Progress(progress, id) => self.send_progress(progress, id).await,
                Next::Later(at) => {
                    tokio::select! {
                        () = self.news.notified() => {}
                        () = sleep_until(at) => {}
                    }
                }
                Next::Nothing => self.news.notified().await,
            }
        }
    }

    /// Sends all that is left: output always, the word on progress unless the attempt is tried again. What comes from now on,
    /// from what the handler has left behind, is not taken.
    pub(crate) async fn finish(&self, with_progress: bool) {
        {
            let mut said = self.said();
            said.closing = true;
            if !with_progress {
                said.progress = None;
            }
        }
        self.room.notify_waiters();
        if timeout(self.mouth.pace().last_words, self.drain()).await.is_err() {
            tracing::warn!("what is left of the task's output could not be sent in time, and is lost");
            self.said().stop();
        }
    }

    async fn drain(&self) {
        loop {
            match self.next(true) {
                Next::Output(batch) => self.send_output(batch).await,
                Next::Progress(progress, id) => self.send_progress(progress, id).await,
                Next::Later(_) | Next::Nothing => break,
            }
        }
    }

    /// What is to be sent now; at the end of the attempt without waiting for more.
    fn next(&self, at_once: bool) -> Next {
        let (mut said, pace, now) = (self.said(), self.mouth.pace(), Instant::now());
        if said.over {
            return Next::Nothing;
        }
        if let Some(batch) = &said.batch {
            return Next::Output(batch.clone());
        }
        if let Some((progress, id)) = said.sent.as_ref().filter(|_| !said.arrived) {
            return Next::Progress(progress.clone(), *id);
        }
        let output_at = said.since.map(|since| if said.bytes >= FULL { now } else { since + pace.gather });
        if output_at.is_some_and(|at| at_once || at <= now) {
            return Next::Output(said.take());
        }
        // What is no news any more need not be told.
        if said.progress.is_some() && said.progress.as_ref() == said.sent.as_ref().map(|(sent, _)| sent) {
            said.progress = None;
        }
        let Some(progress) = said.progress.clone() else { return output_at.map_or(Next::Nothing, Next::Later) };
        let progress_at = said.sent_at.map_or(now, |sent| sent + pace.progress);
        if at_once || progress_at <= now {
            let id = self.mouth.new_id();
            said.progress = None;
            (said.sent, said.arrived, said.sent_at) = (Some((progress.clone(), id)), false, Some(now));
            return Next::Progress(progress, id);
        }
        Next::Later(output_at.map_or(progress_at, |at| at.min(progress_at)))
    }

    async fn send_output(&self, batch: ChunkBatch) {
        let sent = self.insist(|| self.mouth.put_out(&self.task, &batch)).await;
        let mut said = self.said();
        said.batch = None;
        match sent {
            Some(Ok(number)) => (said.at, said.lost) = (number, 0),
            Some(Err(error)) => {
                tracing::warn!(%error, chunks = batch.chunks.len(), "some of the task's output is lost; the task goes on");
                said.lost += batch.chunks.len() as u64;
            }
            None => said.stop(),
        }
        drop(said);
        self.room.notify_waiters();
    }

    async fn send_progress(&self, progress: Progress, id: TaskId) {
        let sent = self.insist(|| self.mouth.progress(&self.task, &progress, id)).await;
        let mut said = self.said();
        said.arrived = true;
        match sent {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "a word on progress is lost"),
            None => {
                said.stop();
                drop(said);
                self.room.notify_waiters();
            }
        }
    }

    /// Sends it until there is an answer; `None` when the task is not this worker's any more.
    async fn insist<T, F: Future<Output = Result<T>>>(&self, mut send: impl FnMut() -> F) -> Option<Result<T>> {
        let mut refusals = 0;
        loop {
            match send().await {
                Err(Error::LeaseLost) if refusals == REFUSALS => return None,
                Err(Error::LeaseLost) => refusals += 1,
                Err(Error::Unavailable { reason, .. }) => {
                    tracing::debug!(reason, "what a handler tells is sent again");
                }
                outcome => return Some(outcome),
            }
            sleep(BREATH).await;
        }
    }
}

/// An attempt that may tell something.
struct Speaking<'v>(&'v Voice);

impl Drop for Speaking<'_> {
    fn drop(&mut self) {
        self.0.said().stop();
        self.0.room.notify_waiters();
    }
}

impl Said {
    /// The next output to be sent.
    fn take(&mut self) -> ChunkBatch {
        let mut weight = 0;
        let fit = self.chunks.iter().take(CHUNKS_SENT_MAX).take_while(|chunk| {
            let fits = weight < SENT_MAX;
            weight += chunk.weight();
            fits
        });
        let count = fit.count();
        let chunks: Vec<PackedChunk> = self.chunks.drain(..count).collect();
        self.bytes -= chunks.iter().map(PackedChunk::weight).sum::<usize>();
        // The rest has waited long enough.
        self.since = self.since.filter(|_| !self.chunks.is_empty());
        let batch = ChunkBatch { name: rand::random(), chunks, at: self.at, lost: self.lost };
        self.batch = Some(batch.clone());
        batch
    }

    fn stop(&mut self) {
        self.over = true;
        self.chunks.clear();
        (self.bytes, self.since, self.progress, self.batch) = (0, None, None, None);
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::future::pending;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use orchestrator::{Alone, CHUNK_BYTES_MAX, NewTask};

    use super::*;

    /// Far above what a loaded machine needs.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn piece(bytes: usize) -> PackedChunk {
        PackedChunk::new("x".repeat(bytes).into()).expect("a fair chunk").expect("not empty")
    }

    fn voice(mouth: impl Mouth + 'static) -> Arc<Voice> {
        let alone = Alone::new(NewTask::<()>::new("any", &()), 0).expect("a fair task");
        let claim = alone.claim(0, 0, false, 0).expect("our own record");
        Arc::new(Voice::new(Box::new(mouth), claim.assignment()))
    }

    /// A line on which no answer ever comes.
    struct Silent;

    #[async_trait]
    impl Mouth for Silent {
        async fn progress(&self, _: &Assignment, _: &Progress, _: TaskId) -> Result {
            pending().await
        }

        async fn put_out(&self, _: &Assignment, _: &ChunkBatch) -> Result<u64> {
            pending().await
        }

        fn new_id(&self) -> TaskId {
            Alone::new_id(0)
        }

        fn pace(&self) -> Pace {
            Pace { last_words: Duration::from_millis(50), ..Pace::USUAL }
        }
    }

    #[tokio::test]
    async fn it_ends_though_nobody_answers() {
        let voice = voice(Silent);
        voice.put_out(piece(CHUNK_BYTES_MAX)).await;
        // There is no room for as much again: who puts it out waits.
        let more = voice.put_out(piece(CHUNK_BYTES_MAX));
        tokio::pin!(more);
        assert!(futures::poll!(more.as_mut()).is_pending());
        let both = async { futures::join!(voice.finish(true), more) };
        timeout(PATIENCE, both).await.expect("both have an end");
        assert!(matches!(voice.next(true), Next::Nothing), "what is left is given up");
        timeout(PATIENCE, voice.put_out(piece(1))).await.expect("nobody waits for a voice that is gone");
    }

    /// As if what the handler has left behind put out more whenever it can.
    #[derive(Clone, Default)]
    struct Chatting(Arc<(OnceLock<Arc<Voice>>, AtomicU32)>);

    #[async_trait]
    impl Mouth for Chatting {
        async fn progress(&self, _: &Assignment, _: &Progress, _: TaskId) -> Result {
            Ok(())
        }

        async fn put_out(&self, _: &Assignment, batch: &ChunkBatch) -> Result<u64> {
            self.0.1.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            let voice = self.0.0.get().expect("the voice");
            voice.put_out(piece(1)).await;
            voice.report(Progress::new(rand::random(), "").expect("a fair word"));
            Ok(batch.at + 1)
        }

        fn new_id(&self) -> TaskId {
            Alone::new_id(0)
        }

        fn pace(&self) -> Pace {
            Pace { last_words: PATIENCE, ..Pace::USUAL }
        }
    }

    #[tokio::test]
    async fn what_comes_behind_the_end_does_not_put_it_off() {
        let mouth = Chatting::default();
        let voice = voice(mouth.clone());
        let _ = mouth.0.0.set(Arc::clone(&voice));
        voice.put_out(piece(1)).await;
        timeout(PATIENCE / 2, voice.finish(true)).await.expect("it comes to its end");
        assert_eq!(mouth.0.1.load(Ordering::Relaxed), 1, "what there was, and nothing else");
        assert!(matches!(voice.next(true), Next::Nothing));
    }
}
