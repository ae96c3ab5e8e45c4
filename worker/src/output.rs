//! What a handler has returned, with its type put away.

use std::fmt;

use orchestrator::RESULT_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::TaskError;

/// The output of a task: one value of at most 1 MiB, as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Output(Vec<u8>);

impl Output {
    /// Puts the type of a value away.
    ///
    /// # Errors
    /// A fatal one when it does not fit: no attempt will change that.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, TaskError> {
        orchestrator::encode_value("result", value, RESULT_BYTES_MAX).map(Self).map_err(TaskError::fatal)
    }

    /// Reads it as a `T`.
    ///
    /// # Errors
    /// When it is none.
    pub fn read<T: DeserializeOwned>(&self) -> orchestrator::Result<T> {
        orchestrator::decode_value(&self.0)
    }

    /// The value as MessagePack.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Output {
    /// What it holds belongs to the task, not into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({} bytes)", self.0.len())
    }
}
