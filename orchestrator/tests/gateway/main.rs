//! The gateway over real HTTP, before a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod agents;
mod approvals;
mod authority;
#[cfg(feature = "cli")]
mod binary;
mod bodies;
mod cloud_events;
mod cors;
mod dead_letters;
mod deciders;
#[cfg(feature = "cli")]
mod documented;
mod events;
mod follower;
mod following;
#[cfg(feature = "cli")]
mod hostile;
mod https;
mod limits;
mod links;
#[cfg(feature = "cli")]
mod logs;
mod matrix;
mod metrics;
mod outages;
mod output;
mod public_keys;
mod redis_tls;
mod repeats;
mod rotation;
mod rules;
mod schedules;
mod shapes;
mod stopping;
mod stored_keys;
mod streams;
mod support;
mod tenants;
mod timelines;
mod timers;
mod tokens;
mod webhooks;
