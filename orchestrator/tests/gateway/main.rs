//! The gateway over real HTTP, before a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod approvals;
#[cfg(feature = "cli")]
mod binary;
mod bodies;
mod cloud_events;
mod deciders;
mod events;
mod follower;
mod following;
mod links;
#[cfg(feature = "cli")]
mod logs;
mod metrics;
mod outages;
mod shapes;
mod stopping;
mod streams;
mod support;
mod timelines;
mod timers;
mod tokens;
mod webhooks;
