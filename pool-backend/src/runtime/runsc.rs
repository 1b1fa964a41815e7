//! runsc (gVisor): a kernel of its own in front of the host's. The runtime for strangers' code.
