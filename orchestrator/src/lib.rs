#![doc = include_str!("../README.md")]

mod admission;
mod aging;
#[cfg(feature = "test-clock")]
mod alone;
#[cfg(feature = "gateway")]
mod api_key;
mod approval;
mod approvals;
mod asking;
mod audit;
mod bus;
mod chunks;
mod claim;
mod codec;
mod condition;
mod config;
mod consumer;
mod cron;
mod dead_event;
mod dead_filter;
mod dead_group;
mod dead_letters;
mod dead_sweep;
mod embedded;
mod error;
pub mod event;
mod expiry;
mod fingerprint;
mod firing;
mod forecast;
#[cfg(feature = "gateway")]
pub mod gateway;
mod gather;
#[cfg(feature = "gateway")]
mod gauges;
mod group;
mod handle;
mod hold;
mod holder;
mod hours;
mod id;
mod idempotency;
mod incarnation;
mod journal;
mod listing;
#[cfg(feature = "log")]
#[doc(hidden)]
pub mod log;
#[cfg(feature = "metrics")]
#[doc(hidden)]
pub mod meters;
mod new_event;
mod new_task;
mod newest;
mod orchestrator;
mod output;
mod parking;
mod pattern;
mod policy;
mod progress;
mod quiet;
mod record;
mod redis_tls;
mod relay;
mod reorder;
mod report;
mod reprioritise;
mod retry;
mod router;
mod schedule;
mod schedules;
#[cfg(feature = "test-clock")]
mod seen;
mod silence;
mod sla;
mod span;
mod stats;
mod status;
mod store;
mod submit;
mod task;
mod telling;
mod timekeeper;
mod unique;
mod untold;
mod waiters;
mod watch;
#[cfg(feature = "gateway")]
mod webhook;
#[cfg(feature = "gateway")]
mod webhooks;
mod window;

pub use admission::Admission;
pub use aging::Aging;
#[cfg(feature = "test-clock")]
#[doc(hidden)]
pub use alone::Alone;
#[cfg(feature = "gateway")]
pub use api_key::{API_KEY_LIFE_MAX, API_KEYS_MAX, ApiKey, ApiKeySecret};
pub use approval::{
    APPROVERS_MAX, Approval, ApprovalId, ApprovalKind, ApprovalStatus, Approver, NOTE_BYTES_MAX, QUORUM_MAX,
    SHOWN_BYTES_MAX, Vote, payload_hash,
};
pub use approvals::{APPROVALS_MAX, ApprovalPage, Ballot, Decided};
pub use audit::{AuditEntry, AuditVerdict};
pub use bus::{EVENTS_PUBLISHED_MAX, Event, EventCursor, Events, EventsFrom, Heard};
pub use chunks::Chunks;
pub use claim::{Assignment, Claim, ERROR_BYTES_MAX, Finish, Ticket};
#[doc(hidden)]
pub use codec::decode_value;
pub use codec::{DEPTH_MAX, PAYLOAD_BYTES_MAX, RESULT_BYTES_MAX, check as check_value, encode as encode_value};
pub use condition::{Condition, Facts};
pub use config::{COMMAND_ENVIRONMENT, Config, ENVIRONMENT, nearest};
pub use cron::Cron;
pub use dead_event::{DEAD_EVENTS_PAGE_MAX, DeadEvent, GroupStatus};
pub use dead_filter::{DEAD_TEXT_MAX, DeadFilter};
pub use dead_group::{DeadGroup, DeadGroups};
pub use dead_letters::{DEAD_LETTERS_PAGE_MAX, DeadLetter, DeadPage};
pub use dead_sweep::{DeadRefusal, DeadSweep, DeadSwept};
pub use embedded::Embedded;
pub use error::{Error, Result};
pub use fingerprint::{FINGERPRINT_LEN, alike, fingerprint};
pub use forecast::AtRisk;
pub use group::{Delivery, EVENT_RETRIES_DEFAULT, EVENTS_AT_ONCE_DEFAULT, EVENTS_AT_ONCE_MAX, Group, Unhandled};
pub use handle::{ResultWait, TaskHandle, WAIT_DEFAULT};
pub use hold::{HOLD_LEASE_MAX, HOLD_LEASE_MIN, HOLDS_MAX, Hold, HoldToken, Wanted};
pub use holder::{Answer, Holder, Renewed};
pub use hours::Hours;
pub use id::TaskId;
pub use idempotency::IDEMPOTENCY_KEY_MAX;
pub use incarnation::{
    BEAT, Beaten, CANCEL_GRACE_MAX, CLAIM_MAX, CRASHES_MAX, Doorbell, FINISH_MAX, Held, Incarnation, LEASE, LetGo,
    Offer, QUEUES_MAX, Stepped, TELLS_MAX, Wake,
};
pub use journal::{ENTRY_NAME_MAX, JOURNAL_BYTES_MAX, JOURNAL_ENTRIES_MAX, JournalEntry};
pub use listing::{LIST_MAX, TaskFilter, TaskPage};
pub use new_event::{EVENT_BYTES_MAX, EventPriority, NewEvent, trace_of};
pub use new_task::{METADATA_BYTES_MAX, NewTask};
pub use orchestrator::Orchestrator;
pub use output::{
    CHUNK_BYTES_MAX, Chunk, ChunkData, OUTPUT_BYTES_MAX, OUTPUT_CHUNKS_MAX, OUTPUT_KEPT, OUTPUT_KEPT_MAX,
};
pub use pattern::{EVENT_TYPE_MAX, EventPattern, PATTERNS_MAX, check_event_type, patterns};
pub use policy::{ApprovalPolicy, ApprovalRule, Gate, Terms};
pub use progress::PROGRESS_NOTE_MAX;
pub use redis_tls::RedisTls;
pub use reorder::Reordered;
pub use report::{Percentiles, SlaReport, SlaRow};
pub use retry::{Backoff, MAX_RETRIES_DEFAULT, SNOOZE_MIN};
pub use router::{BUILT_IN, QUEUE_DEFAULT, RULES_MAX, Router, Rule, built_in, check_name};
pub use schedule::{
    CATCH_UP_MAX, CATCH_UP_WITHIN_DEFAULT, CatchUp, Overlap, SCHEDULE_PAYLOAD_MAX, SCHEDULES_MAX, Schedule,
    ScheduleError, ScheduleStatus, ScheduledTask, TICKS_WAITING_MAX,
};
pub use schedules::{SCHEDULES_PAGE_MAX, ScheduleChange, SchedulePage, Schedules, Triggered};
#[cfg(feature = "test-clock")]
#[doc(hidden)]
pub use seen::SeenSchedule;
pub use sla::{OnViolation, Sla, SlaClock, SlaRule, SlaState, SlaTerms};
pub use span::{SPAN_MAX, Span};
pub use stats::{QueueStats, Stats};
pub use status::{BlockedOn, Cause, Status, TRANSITIONS, next};
pub use submit::{BATCH_MAX, Submitted};
pub use task::{Priority, Source, Task};
pub use unique::{UNIQUE_KEY_MAX, Unique, UniqueUntil};
pub use watch::TaskWatch;
#[cfg(feature = "gateway")]
pub use webhook::{
    Network, WEBHOOK_ID_MAX, WEBHOOK_TIMEOUT_DEFAULT, WEBHOOK_URL_MAX, WEBHOOKS_MAX, Webhook, WebhookPolicy,
    WebhookSecret,
};
#[doc(hidden)]
pub use {
    asking::Asking,
    journal::{Decision, Entry, Noted, check_entry_name, digest, hash_bytes},
    output::{CHUNKS_SENT_MAX, ChunkBatch, PackedChunk},
    parking::{Until, Wait},
    progress::Progress,
    telling::{TOLD_BYTES_MAX, Telling},
};

#[cfg(all(feature = "test-clock", not(debug_assertions)))]
compile_error!("the feature `test-clock` lets anybody with access to Redis move the time: never in a release build");
