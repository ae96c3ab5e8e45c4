//! How far a handler is.

use orchestrator::Progress;

use crate::{TaskContext, TaskError, TaskResult};

impl TaskContext {
    /// Reports how far the attempt is, from 0 to 1, and in words: the task shows it, and the event `task.progress` tells it.
    ///
    /// It costs next to nothing: the newest word is sent in the background, four a second at most, and none that says what the
    /// last one said. The last one before the end or a wait is told before that is, unless the attempt has failed. The words of
    /// a handler that is entered anew follow those of the attempt before.
    ///
    /// ```
    /// # use orchestrator_worker::{TaskContext, TaskResult, task_handler};
    /// #[task_handler("index")]
    /// async fn index(files: Vec<String>, ctx: TaskContext) -> TaskResult {
    ///     for (n, file) in files.iter().enumerate() {
    ///         ctx.progress(n as f64 / files.len() as f64, file)?;
    ///         // …
    ///     }
    ///     ctx.progress(1.0, "indexed")
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// A fatal one for what is no number from 0 to 1, and for a note of more than
    /// [`PROGRESS_NOTE_MAX`](orchestrator::PROGRESS_NOTE_MAX) bytes.
    pub fn progress(&self, fraction: f64, note: impl AsRef<str>) -> TaskResult<()> {
        let progress = Progress::new(fraction, note.as_ref()).map_err(TaskError::fatal)?;
        self.voice().report(progress);
        Ok(())
    }
}
