//! The way of new tasks into Redis: routed, checked, cut into batches, stored once.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::handle::TaskHandle;
use crate::new_task::Draft;
use crate::router::{BUILT_IN, built_in};
use crate::store::read;
use crate::{Error, NewTask, Orchestrator, Result, TaskId};

/// Tasks in one call of the script at most.
pub const BATCH_MAX: usize = 1000;
/// Bytes of records in one call at most; a larger batch is cut.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// A first send that arrives later than this after its ids were made is void.
const SEND_WINDOW_MS: u64 = 10_000;
/// So is a repeated one after this.
const REPEAT_WINDOW_MS: u64 = 60_000;
/// How long the published handler table is taken as known.
const OFFERS_FRESH: Duration = Duration::from_secs(5);

/// The queues of published handlers, as last asked for.
#[derive(Debug, Default)]
pub(crate) struct Offers(Mutex<Option<(Instant, HashMap<String, String>)>>);

impl Offers {
    fn queue(&self, task_type: &str) -> Option<Option<String>> {
        let table = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (asked, queues) = table.as_ref()?;
        (asked.elapsed() < OFFERS_FRESH).then(|| queues.get(task_type).cloned())
    }

    /// The types that workers have published, as last asked for.
    fn types(&self) -> Vec<String> {
        let table = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        table.as_ref().map(|(_, queues)| queues.keys().cloned().collect()).unwrap_or_default()
    }

    fn keep(&self, queues: HashMap<String, String>) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((Instant::now(), queues));
    }
}

/// Stores all tasks; the handles come in the order of the tasks.
pub(crate) async fn submit<T>(
    orch: &Orchestrator,
    tasks: impl Iterator<Item = NewTask<T>>,
) -> Result<Vec<TaskHandle<T>>> {
    let mut handles = Vec::new();
    let mut tasks = tasks.peekable();
    while tasks.peek().is_some() {
        orch.store.freshen_time().await?;
        let now_ms = orch.store.now_ms();
        let mut batches: Vec<(String, Vec<(usize, Draft)>)> = Vec::new();
        let mut own_ids = true;
        let first = handles.len();
        for task in tasks.by_ref().take(BATCH_MAX) {
            own_ids &= task.id.is_none();
            let id = task.id.unwrap_or_else(|| TaskId::at(now_ms));
            if id.created_at_ms() > now_ms + REPEAT_WINDOW_MS && task.id.is_some() {
                return Err(Error::invalid(format!("task id {id} lies more than a minute ahead of Redis's clock")));
            }
            let queue = route(orch, &task).await?;
            let draft = task.into_draft(id, queue, now_ms)?;
            let slot = (handles.len(), draft);
            match batches.iter_mut().find(|(queue, _)| *queue == slot.1.queue) {
                Some((_, batch)) => batch.push(slot),
                None => batches.push((slot.1.queue.clone(), vec![slot])),
            }
            handles.push(TaskHandle::new(orch.clone(), id));
        }
        refuse_twins(&handles[first..])?;
        for (queue, mut batch) in batches {
            while !batch.is_empty() {
                let rest = batch.split_off(batch_length(&batch));
                store(orch, &queue, &mut batch, own_ids).await?;
                for (slot, draft) in batch {
                    handles[slot] = TaskHandle::new(orch.clone(), draft.id);
                }
                batch = rest;
            }
        }
    }
    Ok(handles)
}

fn refuse_twins<T>(handles: &[TaskHandle<T>]) -> Result {
    let mut ids: Vec<TaskId> = handles.iter().map(TaskHandle::id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::invalid(format!("task id {} is given twice in one call", pair[0]))),
        None => Ok(()),
    }
}

/// How many of the first drafts fit one call.
fn batch_length(batch: &[(usize, Draft)]) -> usize {
    let mut bytes = 0;
    let fits = batch.iter().take_while(|(_, draft)| {
        bytes += draft.record.len();
        bytes <= BATCH_BYTES_MAX
    });
    fits.count().max(1)
}

/// The queue of a task: named on it, by custom rule, published by a worker, of its own handler, built in.
async fn route<T>(orch: &Orchestrator, task: &NewTask<T>) -> Result<String> {
    if let Some(queue) = &task.queue {
        return Ok(queue.clone());
    }
    if let Some(queue) = orch.config().router.by_rule(&task.task_type, task.priority, task.source) {
        return Ok(queue.into());
    }
    let published = match orch.offers.queue(&task.task_type) {
        Some(known) => known,
        None => {
            orch.offers.keep(orch.offers().await?.into_iter().map(|(k, offer)| (k, offer.queue)).collect());
            orch.offers.queue(&task.task_type).flatten()
        }
    };
    if let Some(queue) = published.or_else(|| task.home.clone()) {
        return Ok(queue);
    }
    if let Some(queue) = built_in(&task.task_type) {
        return Ok(queue.into());
    }
    crate::router::check_name("task type", &task.task_type)?;
    let offered = orch.offers.types();
    let mut known: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
    known.extend(offered.iter().map(String::as_str).filter(|offered| built_in(offered).is_none()));
    known.sort_unstable();
    let hint =
        crate::config::nearest(&task.task_type, &known).map(|n| format!(" Did you mean `{n}`?")).unwrap_or_default();
    Err(Error::invalid(format!(
        "no queue is known for task type `{}`.{hint} Known are {}. A worker that handles it makes it known; else name the queue on the task",
        task.task_type,
        known.join(", ")
    )))
}

/// Stores one batch of one queue, all or none.
async fn store(orch: &Orchestrator, queue: &str, batch: &mut [(usize, Draft)], own_ids: bool) -> Result {
    match send(orch, queue, batch).await {
        Err(Error::Conflict { .. }) if own_ids => {
            // Our idea of the server's clock was off, and nothing was stored: learn the time and make the ids anew.
            orch.store.learn_time().await?;
            for (_, draft) in batch.iter_mut() {
                draft.id = TaskId::at(orch.store.now_ms());
            }
            send(orch, queue, batch).await
        }
        outcome => outcome,
    }
    .map_err(|error| match error {
        Error::Conflict { .. } => Error::invalid(
            "the task's id is more than a minute old: a new task takes a new id, and a repeated call must come sooner",
        ),
        other => other,
    })
}

async fn send(orch: &Orchestrator, queue: &str, batch: &[(usize, Draft)]) -> Result {
    let queue_max = orch.config().queue_max;
    let created_ms = batch.iter().map(|(_, draft)| draft.id.created_at_ms()).min().unwrap_or(0);
    let ids = batch.iter().flat_map(|(_, draft)| [Some(&draft.id), draft.parent.as_ref()]).flatten();
    let mut slices: Vec<&[u8]> = ids.map(|id| &id.as_bytes()[..4]).collect();
    slices.sort_unstable();
    slices.dedup();
    // A caller's own id may have been sent before by somebody else: that is asked for from the start.
    let chosen = batch.iter().any(|(_, draft)| draft.chosen_id);
    let queues = [queue.to_owned()];
    let call = |sent_before: bool| {
        let scripts = orch.store.scripts();
        let call = match sent_before || chosen {
            true => {
                orch.store.call(&scripts.enqueue_again).arg(queue).arg(format!("-{}", created_ms + REPEAT_WINDOW_MS))
            }
            false => orch.store.call(&scripts.enqueue).arg(queue).arg(created_ms + SEND_WINDOW_MS),
        };
        let call = batch.iter().fold(call, |call, (_, draft)| call.arg(draft.address()).arg(draft.record.as_slice()));
        call.mended_by(orch.store.mend("", &queues, &slices))
    };
    match orch.store.repeat(call).await {
        Ok(reply) => read::<u64>(reply).map(drop),
        Err(Error::QueueFull { queue, .. }) => Err(Error::QueueFull { queue, bound: queue_max }),
        Err(error) => Err(error),
    }
}
