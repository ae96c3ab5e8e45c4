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

    /// HASH with the test clock's `s` and `us`.
    #[cfg(feature = "test-clock")]
    pub(crate) fn test_clock(&self) -> String {
        format!("{}now", self.base)
    }
}
