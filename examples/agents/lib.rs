//! Agents that do real work: they look after a machine, search source code, repair, extend and deploy it, and answer
//! questions about it.
//!
//! Nine modules are task handlers and nothing else, one for each built-in type: [`monitor`], [`alert`], [`investigate`],
//! [`bugfix`], [`refactor`], [`feature`], [`deploy`], [`kb_update`] and [`faq`]. [`chain`] says which of them follows from
//! which event, [`children`] how one hands work on to another. The others are what they do, as plain Rust that knows of no
//! task.

pub mod alert;
pub mod branch;
pub mod bugfix;
pub mod candidates;
pub mod chain;
pub mod children;
pub mod deploy;
pub mod evidence;
pub mod faq;
pub mod feature;
pub mod figures;
pub mod git;
pub mod http;
pub mod hunt;
pub mod investigate;
pub mod kb_update;
pub mod knowledge;
pub mod landing;
pub mod monitor;
pub mod mutate;
pub mod plants;
pub mod process;
pub mod refactor;
pub mod releases;
pub mod rename;
pub mod repair;
pub mod rollout;
pub mod scratch;
pub mod search;
pub mod server;
pub mod service;
pub mod site;
pub mod suite;
pub mod suspects;
pub mod synthesis;
pub mod tempdir;
pub mod tokens;
