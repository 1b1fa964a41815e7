//! Says which `make` target builds a part of the binary that is missing; builds none.

use std::path::PathBuf;

fn main() {
    for (variable, target) in [("FLEEKS_INIT", "init"), ("FLEEKS_CONSOLE", "console")] {
        println!("cargo::rerun-if-env-changed={variable}");
        let path = std::env::var_os(variable).map(PathBuf::from);
        match path.filter(|path| path.is_file()) {
            Some(path) => println!("cargo::rerun-if-changed={}", path.display()),
            None => println!("cargo::error=a part of fleeks is missing: run `make {target}` first"),
        }
    }
}
