//! Stories of the real static init, called by the real client: it runs as PID 1 of a PID
//! namespace of its own, on a loopback address of its own. Needs root, and `make init` before.

mod bounds;
mod files;
mod hostile;
mod jobs;
mod measure;
mod network;
mod world;
