//! A task's output as a stream has it, up to the task's end.

use std::fmt::Write;

use axum::body::Bytes;
use serde_json::json;
use tokio::time::timeout;

use super::feed::{KEEP_ALIVE, Source, Step};
use crate::{Chunk, Chunks, Error};

impl Source for Chunks {
    async fn next(&mut self) -> Result<Step, Error> {
        let Ok(read) = timeout(KEEP_ALIVE, self.next_some()).await else { return Ok(Step::Silence) };
        Ok(match read {
            Ok(Some(chunks)) => Step::Told(blocks(&chunks)),
            Ok(None) => {
                let status = json!({"status": self.status()});
                Step::End(Some(format!("{}event: end\ndata: {status}\n\n", Source::place(self)).into()))
            }
            Err(Error::NotFound { .. }) => Step::End(None),
            Err(error) => return Err(error),
        })
    }

    fn place(&self) -> String {
        match Self::place(self) {
            0 => String::new(),
            place => format!("id: {place}\n"),
        }
    }
}

fn blocks(chunks: &[Chunk]) -> Bytes {
    let mut text = String::new();
    for chunk in chunks {
        let data = serde_json::to_string(chunk).unwrap_or_default();
        let _ = write!(text, "id: {}\nevent: chunk\ndata: {data}\n\n", chunk.number);
    }
    text.into()
}
