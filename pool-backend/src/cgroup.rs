//! Control groups: the limits of a container, and what it uses.
