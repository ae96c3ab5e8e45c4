//! What the project promises, tried on a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod transitions;
mod worker;
