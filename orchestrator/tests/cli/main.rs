//! The command line as a person or a script uses it: the built program, on a real Redis of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod approvals;
mod audit;
mod bench;
mod commands;
mod dead;
mod environment;
mod events;
mod failures;
mod following;
mod groups;
mod health;
#[cfg(feature = "gateway")]
mod keys;
mod output;
mod priorities;
mod rules;
mod schedules;
#[cfg(feature = "gateway")]
mod webhooks;
mod worker;
