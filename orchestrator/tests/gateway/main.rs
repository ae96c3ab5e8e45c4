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
mod outages;
mod public_keys;
mod rotation;
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
