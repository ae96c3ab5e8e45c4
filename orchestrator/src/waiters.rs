//! Waiting for the end of tasks and for their output: one blocking read a process, however many wait.
//!
//! Who reads output is told in an inbox of its own, `<name>.o`: chunk.lua knows by it whom to tell.
//!
//! **Invariant:** interest is registered before the task is looked at, and looked at again after every note, lost
//! connection and half minute; so a note may be lost without a waiter hanging.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::store::{Bell, Rung, Store, read};
use crate::{Error, Result, TaskId};

/// Longest time between two looks at a task that is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// All who wait in this process.
#[derive(Debug)]
pub(crate) struct Waiters {
    store: Store,
    inbox: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Who waits for a task, and how many of them.
    waiting: HashMap<TaskId, (Arc<Notify>, usize)>,
    /// Who reads a task's output, and how many of them.
    reading: HashMap<TaskId, (Arc<Notify>, usize)>,
    listening: bool,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One waiter's interest; dropping it withdraws it.
struct Interest {
    state: Arc<Mutex<State>>,
    id: TaskId,
    notify: Arc<Notify>,
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if let Some((_, count)) = state.waiting.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                state.waiting.remove(&self.id);
            }
        }
    }
}

impl Waiters {
    pub(crate) fn new(store: &Store) -> Self {
        let inbox = format!("client-{:016x}", rand::random::<u64>());
        Self { store: store.clone(), inbox, state: Arc::default() }
    }

    /// The finished value of a task, once it has ended.
    pub(crate) async fn ended(&self, id: TaskId) -> Result<Vec<u8>> {
        let interest = self.register(id);
        loop {
            let notified = interest.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let script = &self.store.scripts().await_end;
            let reply = self.store.repeat(|_| self.store.call(script).arg(id.as_bytes()).arg(&self.inbox)).await?;
            let mut parts: Vec<Vec<u8>> = read(reply)?;
            match parts.first().map(Vec::as_slice) {
                Some(b"ended") if parts.len() == 2 => return Ok(parts.swap_remove(1)),
                Some(b"unknown") => return Err(Error::NotFound { what: format!("task {id}") }),
                Some(b"wait") => {}
                _ => {
                    return Err(Error::Conflict {
                        what: format!("16 clients wait for task {id} already; ask for it instead"),
                    });
                }
            }
            // Either way the task is looked at again.
            let _ = tokio::time::timeout(LOOK_AGAIN, notified).await;
        }
    }

    fn register(&self, id: TaskId) -> Interest {
        let mut state = lock(&self.state);
        let (notify, count) = state.waiting.entry(id).or_default();
        *count += 1;
        let interest = Interest { state: Arc::clone(&self.state), id, notify: Arc::clone(notify) };
        self.listen(&mut state);
        interest
    }

    fn listen(&self, state: &mut State) {
        if !state.listening {
            state.listening = true;
            tokio::spawn(listen(self.store.clone(), self.inbox.clone(), Arc::clone(&self.state)));
        }
    }

    /// Notes that somebody reads the output of a task.
    pub(crate) fn read(&self, id: TaskId) -> Reading {
        let mut state = lock(&self.state);
        let (notify, count) = state.reading.entry(id).or_default();
        *count += 1;
        let (notify, inbox) = (Arc::clone(notify), outbox_of(&self.inbox));
        self.listen(&mut state);
        Reading { state: Arc::clone(&self.state), id, notify, inbox }
    }
}

/// The inbox for news of output.
fn outbox_of(inbox: &str) -> String {
    format!("{inbox}.o")
}

/// One reader's interest; dropping it withdraws it.
#[derive(Debug)]
pub(crate) struct Reading {
    state: Arc<Mutex<State>>,
    id: TaskId,
    notify: Arc<Notify>,
    inbox: String,
}

impl Reading {
    /// Where the reader is to be told.
    pub(crate) fn inbox(&self) -> &str {
        &self.inbox
    }

    /// Resolves when there may be news; enabled before a look, it misses none.
    pub(crate) fn news(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if let Some((_, count)) = state.reading.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                state.reading.remove(&self.id);
            }
        }
    }
}

/// Has the inbox not told any more of a task whose output nobody reads here.
async fn hush(store: Store, state: Arc<Mutex<State>>, id: TaskId, inbox: String) {
    let is_read = || lock(&state).reading.get(&id).map(|(notify, _)| Arc::clone(notify));
    if is_read().is_none() {
        let hushed = store.hush(id, &inbox).await;
        tracing::trace!(?hushed, %id, "nobody reads this output any more");
    }
    // Who came meanwhile names the inbox anew.
    if let Some(reader) = is_read() {
        reader.notify_waiters();
    }
}

/// Reads the inbox while anybody waits.
async fn listen(store: Store, inbox: String, state: Arc<Mutex<State>>) {
    let (bell, outbox) = (Bell::new(&store), outbox_of(&inbox));
    let mut listening = Listening { state, over: false };
    while !listening.over {
        let rung = bell.notes(&[&inbox, &outbox], Duration::from_secs(5)).await;
        if let Some(id) = listening.hear(&rung) {
            tokio::spawn(hush(store.clone(), Arc::clone(&listening.state), id, outbox.clone()));
        }
        if rung.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The right to read the inbox. Given back even when the runtime drops the reader.
struct Listening {
    state: Arc<Mutex<State>>,
    over: bool,
}

impl Listening {
    /// Wakes whom a note concerns; it is over when nobody is left, decided under the lock so that nobody registers
    /// between the look and the end. Returns a task of whose output somebody was told in vain.
    fn hear(&mut self, rung: &Result<Option<Rung>>) -> Option<TaskId> {
        let mut state = lock(&self.state);
        let mut in_vain = None;
        match rung {
            Ok(Some(Rung::Note(note))) => {
                let told = match note.split_first() {
                    Some((b'o', id)) if note.len() > crate::id::ID_BYTES => {
                        let id = TaskId::from_slice(id);
                        in_vain = id.filter(|id| !state.reading.contains_key(id));
                        id
                    }
                    _ => TaskId::from_slice(note),
                };
                for (notify, _) in told.iter().flat_map(|id| [state.waiting.get(id), state.reading.get(id)]).flatten() {
                    notify.notify_waiters();
                }
            }
            Ok(_) => {}
            // Notes may have passed unseen: everybody looks for himself.
            Err(_) => state.waiting.values().chain(state.reading.values()).for_each(|(n, _)| n.notify_waiters()),
        }
        if state.waiting.is_empty() && state.reading.is_empty() {
            state.listening = false;
            self.over = true;
        }
        in_vain
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if !self.over {
            lock(&self.state).listening = false;
        }
    }
}
