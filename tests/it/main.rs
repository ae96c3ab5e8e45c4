//! What the project promises, tried on a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod approvals;
mod faults;
mod listing;
mod model;
mod transitions;
mod worker;
