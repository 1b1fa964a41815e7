//! The directory of one machine: in process. The real thing for `fleeks up`, not a stand-in.
