//! Waiting for the end of tasks: one inbox and one blocking read a process, however many wait.
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
        if !state.listening {
            state.listening = true;
            tokio::spawn(listen(Bell::new(&self.store), self.inbox.clone(), Arc::clone(&self.state)));
        }
        interest
    }
}

/// Reads the inbox while anybody waits.
async fn listen(bell: Bell, inbox: String, state: Arc<Mutex<State>>) {
    let mut listening = Listening { state, over: false };
    while !listening.over {
        let rung = bell.wait(&[], &inbox, Duration::from_secs(5)).await;
        listening.hear(&rung);
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
    /// between the look and the end.
    fn hear(&mut self, rung: &Result<Option<Rung>>) {
        let mut state = lock(&self.state);
        match rung {
            Ok(Some(Rung::Note(note))) => {
                if let Some((notify, _)) = TaskId::from_slice(note).and_then(|id| state.waiting.get(&id)) {
                    notify.notify_waiters();
                }
            }
            Ok(_) => {}
            // Notes may have passed unseen: everybody looks for himself.
            Err(_) => state.waiting.values().for_each(|(notify, _)| notify.notify_waiters()),
        }
        if state.waiting.is_empty() {
            state.listening = false;
            self.over = true;
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if !self.over {
            lock(&self.state).listening = false;
        }
    }
}
