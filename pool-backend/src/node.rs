//! The engine as one thing: built, adopted, running, drained.

/// See the module.
pub struct Node {}
