//! The apps that stories deploy: small servers on nothing but the standard libraries.

use anyhow::Result;

use crate::workspace::Workspace;

/// Echoes requests, speaks SSE and websocket, takes and gives large bodies. Usage:
/// `python app.py HOST PORT`.
pub const PYTHON: &str = include_str!("../apps/app.py");
/// Echoes requests. Usage: `node app.js HOST PORT`.
pub const NODE: &str = include_str!("../apps/app.js");

/// Writes the Python app into a workspace, starts it and waits until it listens. Its job's id.
pub fn serve_python(workspace: &Workspace, host: &str, port: u16) -> Result<String> {
    workspace.write("app.py", PYTHON)?;
    serve(workspace, &format!("python app.py {host} {port}"), port)
}

/// The same in Node.
pub fn serve_node(workspace: &Workspace, host: &str, port: u16) -> Result<String> {
    workspace.write("app.js", NODE)?;
    serve(workspace, &format!("node app.js {host} {port}"), port)
}

fn serve(workspace: &Workspace, command: &str, port: u16) -> Result<String> {
    let job = workspace.background(command)?;
    workspace.wait_for_port(port)?;
    Ok(job)
}
