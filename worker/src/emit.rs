//! What a handler puts out bit by bit, for whoever reads it live.

use orchestrator::{ChunkData, PackedChunk};
use serde::Serialize;

use crate::{TaskContext, TaskError, TaskResult};

impl TaskContext {
    /// Puts out a piece of text or bytes, for those who read the task's output while it runs: [`Orchestrator::chunks`],
    /// `GET /tasks/{id}/output`, `orchestrator task output`. The task's result stays what the handler returns.
    ///
    /// Small pieces are gathered for some 30 ms, so the words of a language model may be put out one by one. It waits when
    /// Redis is slower than the handler. What was put out is there before the attempt's end is told; what an earlier attempt has
    /// put out stays, and readers see where the next one begins. When Redis has no memory left, output is lost and the task
    /// goes on. The newest MiB and 10,000 pieces are kept, until an hour behind the task's end.
    ///
    /// A handler that waits is entered anew: put out within a [step](TaskContext::step) what is not to be put out again.
    ///
    /// ```
    /// # use orchestrator_worker::{TaskContext, TaskResult, task_handler};
    /// #[task_handler("summarize")]
    /// async fn summarize(text: String, ctx: TaskContext) -> TaskResult<usize> {
    ///     let mut words = 0;
    ///     for word in text.split_inclusive(' ').take(100) {
    ///         ctx.emit_chunk(word).await?;
    ///         words += 1;
    ///     }
    ///     Ok(words)
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// [`Orchestrator::chunks`]: orchestrator::Orchestrator::chunks
    ///
    /// # Errors
    /// A fatal one for a piece of more than [`CHUNK_BYTES_MAX`](orchestrator::CHUNK_BYTES_MAX) bytes. An empty one is none.
    pub async fn emit_chunk(&self, chunk: impl Into<ChunkData>) -> TaskResult<()> {
        if let Some(chunk) = PackedChunk::new(chunk.into()).map_err(TaskError::fatal)? {
            self.voice().put_out(chunk).await;
        }
        Ok(())
    }

    /// Puts out a value, for readers to take as one: see [`TaskContext::emit_chunk`].
    ///
    /// # Errors
    /// As [`TaskContext::emit_chunk`]; and for what cannot be written as MessagePack.
    pub async fn emit_value<T: Serialize + ?Sized>(&self, value: &T) -> TaskResult<()> {
        let chunk = PackedChunk::value(value).map_err(TaskError::fatal)?;
        self.voice().put_out(chunk).await;
        Ok(())
    }
}
