//! runc: Linux namespaces and seccomp. Fast and small; not for strangers' code.
