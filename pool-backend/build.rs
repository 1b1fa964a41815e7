//! Rebuilds when a built-in template gets another file; those that are there are watched anyway.

fn main() {
    println!("cargo:rerun-if-changed=templates");
}
