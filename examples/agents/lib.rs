//! Agents that do real work: they look after a machine, search source code, and repair it.

pub mod candidates;
pub mod figures;
pub mod git;
pub mod landing;
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
