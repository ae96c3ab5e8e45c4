//! What the project promises, tried on a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod approvals;
mod cancelling;
mod chunks;
mod consumers;
mod consumers_attacked;
mod durable;
mod events;
mod faults;
mod holds;
mod listeners;
mod listing;
mod logs;
mod members;
mod metrics;
mod model;
mod progress;
mod races;
mod sla;
mod submitting;
mod telling;
mod telling_attacked;
mod tenants;
mod testkit;
mod transitions;
mod worker;
