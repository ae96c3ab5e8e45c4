#![doc = include_str!("../README.md")]

mod approve;
mod attempt;
mod blocking;
mod cancelling;
mod context;
mod counted;
mod durable;
mod emit;
mod error;
mod event;
#[cfg(feature = "exec")]
#[doc(hidden)]
pub mod exec;
mod extract;
mod handler;
mod heart;
mod layers;
mod listener;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/off.rs"]
mod metrics;
mod middleware;
mod output;
mod park;
mod progress;
mod registry;
mod run;
mod runtime;
mod schedules;
mod shutdown;
mod steps;
#[cfg(feature = "testing")]
pub mod testing;
mod voice;
mod wait_event;
mod worker;

pub use approve::{Approve, Approved, Rejected};
pub use async_trait::async_trait;
pub use context::TaskContext;
pub use error::{NoRetry, TaskError, TaskResult};
pub use event::{EventContext, FromEvent};
pub use extract::{Data, FromContext, Needs};
pub use handler::{HandlerSpec, Payload, TIMEOUT_DEFAULT, TaskHandler, TypedHandler};
pub use layers::{HandlerError, HandlerService, TaskLayer};
pub use listener::{EVENT_TIMEOUT_DEFAULT, EventHandler, EventSpec};
pub use middleware::{Middleware, Next};
pub use orchestrator::{
    Approval, ApprovalId, ApprovalPolicy, ApprovalStatus, Approver, Backoff, Ballot, CatchUp, Chunk, ChunkData, Chunks,
    Config, Embedded, Error, Event, EventCursor, EventPattern, EventPriority, Events, EventsFrom, Heard, NewEvent,
    NewTask, Orchestrator, Overlap, Priority, Result, Rule, Schedule, ScheduleStatus, SlaClock, SlaReport, SlaState,
    SlaTerms, Source, Span, Stats, Status, Task, TaskHandle, TaskId, Unique, UniqueUntil, patterns,
};
#[cfg(feature = "testing")]
pub use orchestrator_macros::test;
pub use orchestrator_macros::{event_handler, main, payload, task_handler};
pub use output::Output;
pub use shutdown::Stop;
pub use steps::{Once, Step};
/// The runtime, for `spawn`, `select!` and `time` without a dependency of one's own.
pub use tokio;
pub use wait_event::{EVENT_WAIT_DEFAULT, NotTold, WaitEvent};
pub use worker::{DRAIN_GRACE_DEFAULT, Running, SLOTS_DEFAULT, SLOTS_MAX, Worker, WorkerBuilder};

/// What the attributes' code names. Not public API.
#[doc(hidden)]
pub mod __private {
    pub use crate::blocking::blocking;
    pub use crate::event::{Decision, EventContext, FromEvent, event, start};
    pub use crate::handler::{HandlerSpec, TaskHandler, TypedHandler, new_task, output, payload};
    pub use crate::listener::{EventHandler, EventRegistration, EventSpec};
    pub use crate::registry::Registration;
    pub use crate::runtime::run_main;
    pub use crate::schedules::Comes;
    #[cfg(feature = "testing")]
    pub use crate::testing::{run_test, run_test_alone};
    pub use crate::{FromContext, NoRetry, Output, TaskContext, TaskError};
    pub use async_trait::async_trait;
    pub use inventory;
    pub use orchestrator::{
        Backoff, CatchUp, EventsFrom, Gate, NewTask, OnViolation, Overlap, Priority, SlaTerms, Unique, UniqueUntil,
    };
    pub use serde;
    pub use std::time::Duration;
}

/// The project's README, so that its example is built with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
