//! The commands that speak with a platform, each in a file of its own.
//!
//! Must never happen here: a call that the API does not have, or a wait without a bound that a
//! person cannot end with Ctrl-C.

pub mod exec;
pub mod files;
pub mod logs;
pub mod preview;
mod printer;
pub mod shell;
pub mod sleep;
mod stream;
pub mod workspaces;

use std::process::ExitCode;

use crate::session::Failure;

/// How a command ended.
pub type Outcome = Result<ExitCode, Failure>;
