//! `kb_update`: stores a document in the knowledge base.

use std::path::PathBuf;

use orchestrator_worker::{TaskError, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::knowledge::{Document, Knowledge, KnowledgeError};

/// What to store, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KbUpdate {
    /// The folder of the knowledge base; it is made when there is none.
    pub kb: PathBuf,
    /// What is known now. It replaces a document of the same id, so that a second attempt changes nothing.
    pub document: Document,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The document.
    pub id: String,
    /// How many passages it has.
    pub passages: u64,
    /// How many documents there are now.
    pub documents: usize,
}

/// Stores a document so that questions find it, in place of an earlier one of its id.
#[task_handler("kb_update", queue = "faq_agent", retries = 3, backoff = "exp(1s, 30s)", timeout = "1m")]
pub async fn kb_update(args: KbUpdate) -> TaskResult<Stored> {
    // Blocks for some milliseconds; it is one step, so that there is nothing to be called off half-way.
    let stored = tokio::task::spawn_blocking(move || {
        let knowledge = Knowledge::create(&args.kb)?;
        let passages = knowledge.put(&args.document)?;
        Ok(Stored { id: args.document.id, passages, documents: knowledge.documents()? })
    });
    stored.await?.map_err(task_error)
}

/// Whether another attempt may follow is known to the error.
pub(crate) fn task_error(error: KnowledgeError) -> TaskError {
    if error.is_final() { TaskError::fatal(error) } else { TaskError::from(error) }
}
