//! Embeds: a runnable example that anyone can open in an iframe.
//!
//! Empty on purpose until the issue that fills it. Here will live: embed definitions (records,
//! allowed origins, limits), rooms (one live copy of an embed, with its workspace), sessions
//! (one visitor in a room), their websockets (editor, preview control, terminal), and `ui/`,
//! the page inside the iframe. Sandboxes are reached only through `pool_backend::Workspaces`.
//!
//! Must never happen here: a cookie that authenticates anything, a container touched directly,
//! knowledge of the agent API.
