//! What `fleeks up` says when it is ready: to people as a block, to scripts as JSON.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use fleet::id::InstanceId;
use pool_backend::runtime::RuntimeKind;
use serde::Serialize;

/// Where everything is.
#[derive(Debug, Serialize)]
pub struct Ready<'a> {
    /// TLS listener.
    pub https: SocketAddr,
    /// Plain loopback listener.
    pub http: SocketAddr,
    /// For operators, unless it is off.
    pub admin: Option<SocketAddr>,
    /// Port in returned https URLs.
    pub public_port: u16,
    /// Suffix of every host.
    pub domain: &'a str,
    /// The first key, mode 0600.
    pub api_key_file: &'a Path,
    /// What clients have to trust.
    pub ca_file: &'a Path,
    /// What runs the sandboxes.
    pub runtime: RuntimeKind,
    /// Whether other machines reach the previews.
    pub public: bool,
    /// Prefix of all that this data dir has in the kernel.
    pub instance: &'a InstanceId,
    /// This process.
    pub pid: u32,
}

impl fmt::Display for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { http, domain, .. } = self;
        let port = match self.public_port {
            443 => String::new(),
            port => format!(":{port}"),
        };
        let (key, ca) = (self.api_key_file.display(), self.ca_file.display());
        writeln!(f, "fleeks is up.\n")?;
        writeln!(f, "  API        http://{http}   https://api.{domain}{port}")?;
        writeln!(f, "  key        {key}")?;
        writeln!(
            f,
            "  console    http://{http}/console/   https://console.{domain}{port}"
        )?;
        writeln!(f, "  previews   https://workspace-….{domain}{port}")?;
        writeln!(
            f,
            "             http://workspace-….{domain}:{}  (no certificate needed)",
            http.port()
        )?;
        writeln!(f, "  CA         {ca}   (`fleeks trust` installs it)")?;
        writeln!(
            f,
            "  try        curl --cacert {ca} https://api.{domain}{port}/health"
        )?;
        if let Some(admin) = self.admin {
            writeln!(
                f,
                "  operators  http://{admin}/metrics   http://{admin}/health"
            )?;
        }
        writeln!(f, "  sandboxes  {}", runtime_text(self.runtime))?;
        if std::env::var_os("SSH_CONNECTION").is_some() {
            let (https, http) = (self.https.port(), http.port());
            writeln!(
                f,
                "  from home  ssh -L {https}:127.0.0.1:{https} -L {http}:127.0.0.1:{http} HOST"
            )?;
        }
        write!(f, "{}", snippet(*http, self.api_key_file))
    }
}

fn runtime_text(kind: RuntimeKind) -> &'static str {
    match kind {
        RuntimeKind::Runsc => "gVisor (runsc): fit for anybody's code",
        RuntimeKind::Runc => "runc: shares the host's kernel and uid 0, for code that you trust",
    }
}

fn snippet(http: SocketAddr, key: &Path) -> String {
    format!(
        r#"
  # pip install fleeks-sdk
  import asyncio
  from fleeks_sdk import create_client

  async def main():
      key = open("{key}").read().strip()
      async with create_client(api_key=key, base_url="http://{http}") as client:
          ws = await client.workspaces.create("demo", "python")
          await ws.files.create("index.html", "<h1>Hello from a sandbox</h1>")
          await ws.terminal.execute("python -m http.server 8000 &")
          print("Live:", (await ws.get_preview_url()).preview_url)

  asyncio.run(main())
"#,
        key = key.display(),
    )
}
