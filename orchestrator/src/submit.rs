//! The way of new tasks into Redis: routed, checked, cut into batches, stored once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::handle::TaskHandle;
use crate::id::ID_BYTES;
use crate::idempotency::Seen;
use crate::new_task::Draft;
use crate::router::{BUILT_IN, QUEUE_DEFAULT, built_in};
use crate::store::read;
use crate::task::Whereabouts;
use crate::{Error, NewTask, Offer, Orchestrator, Result, Status, Task, TaskId};

/// Tasks in one call of the script at most.
pub const BATCH_MAX: usize = 1000;
/// Tasks with a gate, a clock or the like in one call at most: the script does more for each.
const SPECIAL_MAX: usize = 100;
/// Bytes of records in one call at most; a larger batch is cut.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// A first send that arrives later than this after its ids were made is void.
const SEND_WINDOW_MS: u64 = 10_000;
/// So is a repeated one after this.
const REPEAT_WINDOW_MS: u64 = 60_000;
/// Types in the handler table beyond which none is added for an agent outside.
const OFFERS_MAX: usize = 1000;
/// How long the published handler table is taken as known.
const OFFERS_FRESH: Duration = Duration::from_secs(5);

/// What is known of handlers and queues.
#[derive(Debug)]
struct Known {
    /// The handler table by task type.
    offers: HashMap<String, Offer>,
    /// Queues whose tasks tell no events.
    quiet: Vec<String>,
}

type Table = Arc<Known>;
/// Drafts of one queue, with their places among the handles.
type Batch = Vec<(usize, Draft)>;

/// What workers have published, as last asked for.
#[derive(Debug, Default)]
pub(crate) struct Offers(Mutex<Option<(Instant, Table)>>);

impl Offers {
    /// Has it asked for anew.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }

    /// The table, not older than [`OFFERS_FRESH`].
    async fn table(&self, orch: &Orchestrator) -> Result<Table> {
        let kept = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        match kept {
            Some((asked, table)) if asked.elapsed() < OFFERS_FRESH => Ok(table),
            _ => {
                let table = Arc::new(Known { offers: orch.offers().await?, quiet: orch.store.quiet_now().await? });
                *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
                    Some((Instant::now(), Arc::clone(&table)));
                Ok(table)
            }
        }
    }
}

/// A task that was stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Submitted {
    /// Its id.
    pub id: TaskId,
    /// The task as it was stored; `None` when it could not be read back.
    pub task: Option<Task>,
    /// Whether it was there before, because another of its kind is unwanted: nothing was stored. See [`Unique`](crate::Unique).
    pub existing: bool,
}

/// Stores one task, and tells what it has become.
pub(crate) async fn submit_one<T>(orch: &Orchestrator, task: NewTask<T>) -> Result<Submitted> {
    orch.store.freshen_time().await?;
    let now_ms = orch.store.now_ms();
    let known = orch.offers.table(orch).await?;
    let id = orch.store.new_id(now_ms);
    let is_chosen = task.id.is_some();
    let draft = draft(orch, &known, task, id, now_ms)?;
    if !is_chosen && !draft.is_special() {
        let (record, due_ms) = (draft.record.clone(), draft.due_ms);
        let id = crate::gather::store_one(orch, draft).await?;
        let status = if due_ms > 0 { Status::Pending } else { Status::Assigned };
        let at = Whereabouts { status: Some(status), due_ms: (due_ms > 0).then_some(due_ms), ..Whereabouts::default() };
        return Ok(Submitted { id, task: Some(Task::live(id, &record, at)?), existing: false });
    }
    let queue = draft.queue.clone();
    let mut batch = [(0, draft)];
    store(orch, &queue, &mut batch, !is_chosen).await?;
    let (id, existing) = (batch[0].1.id, batch[0].1.existing);
    let task = orch.get(id).await.inspect_err(|error| {
        tracing::warn!(%error, task_id = %id, "a task was stored and could not be read back");
    });
    Ok(Submitted { id, task: task.ok(), existing })
}

/// A checked task for its queue.
fn draft<T>(orch: &Orchestrator, known: &Known, task: NewTask<T>, id: TaskId, now_ms: u64) -> Result<Draft> {
    let id = task.id.unwrap_or(id);
    if id.created_at_ms() > now_ms + REPEAT_WINDOW_MS && task.id.is_some() {
        return Err(Error::invalid(format!("task id {id} lies more than a minute ahead of Redis's clock")));
    }
    let offer = known.offers.get(&task.task_type);
    let queue = route(orch, &task, offer, &known.offers)?;
    let mut draft = task.into_draft(id, queue, now_ms, orch.config(), offer)?;
    if known.quiet.contains(&draft.queue) {
        crate::record::make_quiet(&mut draft.record);
    }
    Ok(draft)
}

/// A checked task for its queue, under an id that follows from what makes it.
pub(crate) async fn draft_of(orch: &Orchestrator, task: NewTask, id: TaskId) -> Result<Draft> {
    let known = orch.offers.table(orch).await?;
    draft(orch, &known, task, id, orch.store.now_ms())
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
        let known = orch.offers.table(orch).await?;
        let mut batches: Vec<((String, bool), Batch)> = Vec::new();
        let mut own_ids = true;
        let first = handles.len();
        for task in tasks.by_ref().take(BATCH_MAX) {
            own_ids &= task.id.is_none();
            let draft = draft(orch, &known, task, orch.store.new_id(now_ms), now_ms)?;
            let id = draft.id;
            let road = (draft.queue.clone(), draft.is_special());
            let slot = (handles.len(), draft);
            match batches.iter_mut().find(|(other, _)| *other == road) {
                Some((_, batch)) => batch.push(slot),
                None => batches.push((road, vec![slot])),
            }
            handles.push(TaskHandle::new(orch.clone(), id));
        }
        refuse_twins(&handles[first..])?;
        for ((queue, special), mut batch) in batches {
            while !batch.is_empty() {
                let keyed = batch.iter().any(|(_, draft)| draft.key.is_some());
                let most = if keyed {
                    1
                } else if special {
                    SPECIAL_MAX
                } else {
                    BATCH_MAX
                };
                let rest =
                    batch.split_off(batch_length(batch.iter().map(|(_, draft)| draft)).min(most).min(batch.len()));
                store(orch, &queue, &mut batch, own_ids).await?;
                for (slot, draft) in batch {
                    handles[slot] = TaskHandle::new(orch.clone(), draft.id).found(draft.existing);
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
pub(crate) fn batch_length<'d>(drafts: impl Iterator<Item = &'d Draft>) -> usize {
    let mut bytes = 0;
    let fits = drafts.take_while(|draft| {
        bytes += draft.record.len();
        bytes <= BATCH_BYTES_MAX
    });
    fits.count().max(1)
}

/// The queue of a task: named on it, by custom rule, published by a worker, of its own handler, built in.
fn route<T>(
    orch: &Orchestrator,
    task: &NewTask<T>,
    offer: Option<&Offer>,
    offers: &HashMap<String, Offer>,
) -> Result<String> {
    if let Some(queue) = &task.queue {
        return Ok(queue.clone());
    }
    if let Some(queue) = orch.config().router.by_rule(&task.task_type, task.priority, task.source) {
        return Ok(queue.into());
    }
    if let Some(queue) = offer.map(|offer| offer.queue.clone()).or_else(|| task.home.clone()) {
        return Ok(queue);
    }
    if let Some(queue) = built_in(&task.task_type) {
        return Ok(queue.into());
    }
    crate::router::check_name("task type", &task.task_type)?;
    let mut known: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
    known.extend(offers.keys().map(String::as_str).filter(|offered| built_in(offered).is_none()));
    known.sort_unstable();
    let hint =
        crate::config::nearest(&task.task_type, &known).map(|n| format!(" Did you mean `{n}`?")).unwrap_or_default();
    Err(Error::invalid(format!(
        "no queue is known for task type `{}`.{hint} Known are {}. A worker that handles it makes it known; else name the queue on the task",
        task.task_type,
        known.join(", ")
    )))
}

/// The queues where tasks of these types go, whatever their priority and source; each once. Whoever asks for a type handles
/// it: one that nobody knew becomes known, so that it can be submitted.
pub(crate) async fn homes(orch: &Orchestrator, types: &[String], may_tell: bool) -> Result<Vec<String>> {
    let known = orch.offers.table(orch).await?;
    let mut homes: Vec<String> = Vec::new();
    for task_type in types {
        let mut own = orch.config().router.homes(task_type);
        let offered = known.offers.get(task_type).map(|offer| offer.queue.clone());
        own.extend(offered.or_else(|| built_in(task_type).map(Into::into)));
        if own.is_empty() {
            if !may_tell {
                return Err(Error::invalid(format!(
                    "`{task_type}` is no task type that is known here; whoever belongs to no tenant makes types known, by claiming them"
                )));
            }
            let offer = Offer { task_type: task_type.clone(), queue: QUEUE_DEFAULT.into(), ..Offer::default() };
            orch.store.offer(task_type, &crate::codec::encode("offer", &offer, 64 * 1024)?, OFFERS_MAX).await?;
            orch.offers.forget();
            own.push(offer.queue);
        }
        own.retain(|home| !homes.contains(home));
        homes.append(&mut own);
    }
    Ok(homes)
}

/// Stores one batch of one queue, all or none.
pub(crate) async fn store(orch: &Orchestrator, queue: &str, batch: &mut [(usize, Draft)], own_ids: bool) -> Result {
    match send(orch, queue, batch).await {
        Err(error) if own_ids && is_late(&error) => {
            // Our idea of the server's clock was off, and nothing was stored: learn the time and make the ids anew.
            orch.store.learn_time().await?;
            for (_, draft) in batch.iter_mut() {
                draft.id = orch.store.new_id(orch.store.now_ms());
                draft.sent_ms = draft.id.created_at_ms();
            }
            send(orch, queue, batch).await
        }
        outcome => outcome,
    }
    .map_err(|error| match is_late(&error) {
        true => Error::invalid(
            "the task's id is more than a minute old: a new task takes a new id, and a repeated call must come sooner",
        ),
        false => error,
    })
}

/// Whether the script refused a send that came too late.
fn is_late(error: &Error) -> bool {
    matches!(error, Error::Conflict { what } if what.starts_with("LATE"))
}

async fn send(orch: &Orchestrator, queue: &str, batch: &mut [(usize, Draft)]) -> Result {
    let queue_max = orch.config().queue_max;
    let created_ms = batch.iter().map(|(_, draft)| draft.sent_ms).min().unwrap_or(0);
    let ids = batch.iter().flat_map(|(_, draft)| [Some(&draft.id), draft.parent.as_ref()]).flatten();
    let mut slices: Vec<&[u8]> = ids.map(|id| &id.as_bytes()[..4]).collect();
    slices.sort_unstable();
    slices.dedup();
    // A caller's own id may have been sent before by somebody else: that is asked for from the start.
    let chosen = batch.iter().any(|(_, draft)| draft.chosen_id);
    let queues = [queue.to_owned()];
    if batch.iter().any(|(_, draft)| draft.is_special()) {
        return send_special(orch, queue, batch, created_ms, chosen).await;
    }
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

/// The road of tasks with a gate, a clock, an end of their time or a key that they hold alone.
async fn send_special(
    orch: &Orchestrator,
    queue: &str,
    batch: &mut [(usize, Draft)],
    created_ms: u64,
    chosen: bool,
) -> Result {
    let mut parts = Vec::with_capacity(batch.len());
    for (_, draft) in batch.iter() {
        parts.push((draft.clock()?, draft.asked(orch.config())?));
    }
    let call = |sent_before: bool| {
        let void = match sent_before || chosen {
            true => format!("-{}", created_ms + REPEAT_WINDOW_MS),
            false => (created_ms + SEND_WINDOW_MS).to_string(),
        };
        let call = orch.store.call(&orch.store.scripts().admit).arg(queue).arg(void);
        batch.iter().zip(&parts).fold(call, |call, ((_, draft), (clock, asking))| {
            call.arg(draft.address()).arg(draft.record.as_slice()).arg(clock.as_slice()).arg(asking.as_slice())
        })
    };
    match orch.store.repeat(call).await {
        Ok(reply) => {
            let (_, due_ms, seen, others): (u64, i64, Vec<u8>, Vec<u8>) = read(reply)?;
            orch.store.tick_in(due_ms);
            for pair in others.chunks(2 * ID_BYTES) {
                let id_of = |bytes: &[u8]| TaskId::from_slice(bytes);
                let (Some(asked), Some(holder)) =
                    pair.split_at_checked(ID_BYTES).map_or((None, None), |(a, b)| (id_of(a), id_of(b)))
                else {
                    return Err(Error::corrupt("the holder of a unique task's key"));
                };
                for (_, draft) in batch.iter_mut().filter(|(_, draft)| draft.id == asked) {
                    (draft.id, draft.existing) = (holder, true);
                }
            }
            match (Seen::read(&seen), batch) {
                (Seen::Same(before), [(_, draft)]) => draft.id = before,
                (Seen::Other, _) => return Err(Seen::conflict()),
                _ => {}
            }
            Ok(())
        }
        Err(Error::QueueFull { queue, .. }) => Err(Error::QueueFull { queue, bound: orch.config().queue_max }),
        Err(error) => Err(error),
    }
}
