//! The names of the keys that Rust itself touches. All others are built inside the scripts; see ARCHITECTURE.md.
//!
//! Every key begins with `{<namespace>.<partition>}:`, so that one partition is one slot of a cluster.

/// Keys of one partition of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    base: String,
}

impl Keys {
    pub(crate) fn new(namespace: &str) -> Self {
        Self { base: format!("{{{namespace}.0}}:") }
    }

    /// STREAM of events; the declared key of every script.
    pub(crate) fn events(&self) -> String {
        format!("{}e", self.base)
    }

    /// ZSET with the wake token of a queue.
    pub(crate) fn token(&self, queue: &str) -> String {
        format!("{}k:{queue}", self.base)
    }

    /// ZSET with the notes for one worker or one waiting client.
    pub(crate) fn inbox(&self, owner: &str) -> String {
        format!("{}i:{owner}", self.base)
    }

    /// HASH of the handler table: task type → description.
    pub(crate) fn handlers(&self) -> String {
        format!("{}h", self.base)
    }

    /// Never there: named by a write that changes nothing.
    pub(crate) fn probe(&self) -> String {
        format!("{}probe", self.base)
    }

    /// ZSET of the slices that hold live tasks.
    pub(crate) fn slices(&self) -> String {
        format!("{}T", self.base)
    }

    /// HASH of one slice: id → record of a live task.
    pub(crate) fn slice(&self, slice: [u8; 4]) -> Vec<u8> {
        [self.base.as_bytes(), b"t", &slice].concat()
    }

    /// ZSET of the buckets of finished tasks.
    pub(crate) fn buckets(&self) -> String {
        format!("{}B", self.base)
    }

    /// HASH of one bucket: id → finished value.
    pub(crate) fn bucket(&self, n: u64) -> String {
        format!("{}D{n}", self.base)
    }

    /// ZSET of the dead letters: id → milliseconds of the failure.
    pub(crate) fn dead(&self) -> String {
        format!("{}X", self.base)
    }

    /// ZSET of the runnable tasks of a queue.
    pub(crate) fn ready(&self, queue: &str) -> String {
        format!("{}r:{queue}", self.base)
    }

    /// ZSET of the shelf of a type.
    pub(crate) fn shelf(&self, task_type: &str) -> String {
        format!("{}u:{task_type}", self.base)
    }

    /// SET of the queues that are known.
    pub(crate) fn queues(&self) -> String {
        format!("{}q", self.base)
    }

    /// SET of the types with a shelf.
    pub(crate) fn shelves(&self) -> String {
        format!("{}U", self.base)
    }

    /// The key of this name.
    pub(crate) fn named(&self, name: &[u8]) -> Vec<u8> {
        [self.base.as_bytes(), name].concat()
    }

    /// There while one process sees to the forecast.
    pub(crate) fn forecast(&self) -> String {
        format!("{}f", self.base)
    }

    /// ZSET of the timers that watch: reminders, escalations, warnings and violations.
    pub(crate) fn watches(&self) -> String {
        format!("{}y", self.base)
    }

    /// STREAM of the audit.
    pub(crate) fn audit(&self) -> String {
        format!("{}audit", self.base)
    }

    /// HASH of one approval.
    pub(crate) fn approval(&self, id: &[u8]) -> Vec<u8> {
        [self.base.as_bytes(), b"a:", id].concat()
    }

    /// HASH of a task's journal.
    pub(crate) fn journal(&self, id: &[u8]) -> Vec<u8> {
        [self.base.as_bytes(), b"j:", id].concat()
    }

    /// HASH of what ended in one hour, for the reports.
    pub(crate) fn hour(&self, hour: u64) -> String {
        format!("{}R{hour}", self.base)
    }

    /// HASH of the generations of workers, of the queues that are paused, and of the aging.
    pub(crate) fn generations(&self) -> String {
        format!("{}g", self.base)
    }

    /// ZSET of the workers with a lease.
    pub(crate) fn workers(&self) -> String {
        format!("{}W", self.base)
    }

    /// HASH of the webhooks: id → webhook.
    #[cfg(feature = "gateway")]
    pub(crate) fn webhooks(&self) -> String {
        format!("{}M", self.base)
    }

    /// HASH of the API keys.
    #[cfg(feature = "gateway")]
    pub(crate) fn api_keys(&self) -> String {
        format!("{}K", self.base)
    }

    /// SET of what a worker holds: id ‖ epoch.
    pub(crate) fn held(&self, worker: &[u8]) -> Vec<u8> {
        [self.base.as_bytes(), b"w:", worker].concat()
    }

    /// STREAM of the dead letters of a consumer group.
    pub(crate) fn dead_events(&self, group: &str) -> String {
        format!("{}d:{group}", self.base)
    }

    /// The consumer that has a group's seat.
    pub(crate) fn seat(&self, group: &str) -> String {
        format!("{}G:{group}", self.base)
    }

    /// HASH of the schedules: name → definition.
    pub(crate) fn schedules(&self) -> String {
        format!("{}S", self.base)
    }

    /// HASH of the queues that are quiet, or have been of late: queue → `off`, or the milliseconds when that ended.
    pub(crate) fn quiet(&self) -> String {
        format!("{}quiet", self.base)
    }

    /// What was done once for an event, by group and event: `?` and a word when it is intended, `=` and its output.
    pub(crate) fn once(&self, key: &str) -> String {
        format!("{}o:{key}", self.base)
    }

    /// HASH with the test clock's `s` and `us`.
    #[cfg(feature = "test-clock")]
    pub(crate) fn test_clock(&self) -> String {
        format!("{}now", self.base)
    }
}
