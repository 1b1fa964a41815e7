//! The OCI configuration of a container, as a pure function of its spec.

/// What every container has in its environment, sorted by name.
pub fn environment() -> Vec<(String, String)> {
    Vec::new()
}
