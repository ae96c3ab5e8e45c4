//! Agents that do real work: they look after a machine, search source code, and repair it.
//!
//! Three modules are task handlers and nothing else: [`monitor`], [`investigate`] and [`bugfix`].
//! The others are what they do, as plain Rust that knows of no task.

pub mod bugfix;
pub mod candidates;
pub mod evidence;
pub mod figures;
pub mod git;
pub mod hunt;
pub mod investigate;
pub mod landing;
pub mod monitor;
pub mod mutate;
pub mod plants;
pub mod process;
pub mod repair;
pub mod scratch;
pub mod search;
pub mod suite;
pub mod suspects;
pub mod tempdir;
pub mod tokens;
