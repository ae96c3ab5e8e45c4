//! `faq`: answers a question from the knowledge base and names its source, or says that nothing there fits.

use std::path::PathBuf;

use orchestrator_worker::{TaskContext, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::kb_update::task_error;
use crate::knowledge::{Knowledge, Passage};

/// What is asked, and whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Faq {
    /// The folder of the knowledge base.
    pub kb: PathBuf,
    /// The question, in plain English.
    pub question: String,
}

/// What is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The answer in words, with its source.
    pub words: String,
    /// The passage that it is; none when nothing fits.
    pub passage: Option<Passage>,
    /// How many documents were asked.
    pub documents: usize,
}

/// Finds the passage that answers a question. It answers with what is written there and makes nothing up; the words come one by
/// one, for a window in which somebody waits (`orchestrator task output ID --follow`).
#[task_handler("faq", queue = "faq_agent", retries = 2, backoff = "exp(1s, 30s)", timeout = "30s")]
pub async fn faq(args: Faq, ctx: TaskContext) -> TaskResult<Reply> {
    let asked = tokio::task::spawn_blocking(move || {
        let knowledge = Knowledge::open(&args.kb)?;
        Ok((knowledge.ask(&args.question)?, knowledge.documents()?))
    });
    let (passage, documents) = asked.await?.map_err(task_error)?;
    let words = match &passage {
        Some(Passage { source, text, .. }) => {
            format!("{text}\n(from \"{}\", document {}, passage {})", source.title, source.id, source.passage)
        }
        None => format!("Nothing in the knowledge base answers this. Documents searched: {documents}."),
    };
    for word in words.split_inclusive(' ') {
        ctx.emit_chunk(word).await?;
    }
    Ok(Reply { words, passage, documents })
}
