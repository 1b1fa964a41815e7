//! What a container sees as `/`.
