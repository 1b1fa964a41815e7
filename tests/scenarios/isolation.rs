//! What a sandbox can reach and see, and what it cannot.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use fleeks_tests::curl::Version;
use fleeks_tests::{Curl, Workspace, World, apps, process, wait};

/// A documentation address on the host's loopback interface, which only this host has.
struct HostAddress(String);

impl HostAddress {
    fn add() -> Result<Self> {
        let address = format!("198.51.100.{}", rand::random_range(1..255));
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
        Ok(Self(address))
    }
}

impl Drop for HostAddress {
    fn drop(&mut self) {
        let _ = ip(&["address", "delete", &format!("{}/32", self.0), "dev", "lo"]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments);
    process::run(command, Duration::from_secs(10))?.success()?;
    Ok(())
}

/// Neighbours, the host, metadata and private networks do not answer, while a preview and the
/// names of the world do.
pub fn no_way_to_neighbours_host_or_metadata(world: &World) -> Result<()> {
    let (inside, neighbour) = (world.workspace("python")?, world.workspace("python")?);
    apps::serve_python(&neighbour, "0.0.0.0", 5000)?;
    let answer = Curl::new(world, Version::H2, &neighbour.preview_url()?)?.send()?;
    ensure!(
        answer.status == 200,
        "the neighbour itself does not answer: {answer:?}"
    );

    let host = HostAddress::add()?;
    let listener = TcpListener::bind((host.0.as_str(), 0))?;
    let open = listener.local_addr()?;
    TcpStream::connect_timeout(&open, Duration::from_secs(2))?;
    let ready = world.ready()?;
    let own_address = "import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((\"192.0.2.9\", 9)); print(s.getsockname()[0])";
    let address = |workspace: &Workspace| workspace.sh(&format!("python -c '{own_address}'"));
    let gateway = "python -c 'import socket\nfor l in open(\"/proc/net/route\").readlines()[1:]:\n  f=l.split()\n  if f[1]==\"00000000\": print(socket.inet_ntoa(bytes.fromhex(f[2])[::-1])); break'";
    let gateway = inside.sh(gateway)?;
    let mut targets = vec![
        format!("{} 5000", address(&neighbour)?),
        format!("{} 64999", address(&neighbour)?),
        format!("{} {}", open.ip(), open.port()),
        format!("{} {}", open.ip(), ready.http.port()),
        "169.254.169.254 80".to_owned(),
        "10.0.0.1 80".to_owned(),
        "192.168.0.1 80".to_owned(),
        "172.17.0.1 80".to_owned(),
        "fd00:ec2::254 80".to_owned(),
        "fe80::1 80".to_owned(),
    ];
    if !gateway.is_empty() {
        targets.push(format!("{gateway} {}", ready.http.port()));
        targets.push(format!("{gateway} 22"));
    }
    // That it finds what can be reached shows that the rest cannot.
    apps::serve_python(&inside, "127.0.0.1", 7000)?;
    targets.push("127.0.0.1 7000".to_owned());
    inside.write("reach.py", include_str!("../apps/reach.py"))?;
    let reached = inside.sh(&format!("python reach.py {}", targets.join(" ")))?;
    ensure!(
        reached == "127.0.0.1 7000",
        "reached from inside: {reached}"
    );
    Ok(())
}

/// The root is read-only and made up; the host's files, users and secrets are not there, and the
/// sandbox has no power over the kernel.
pub fn nothing_of_the_host_is_seen(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let fails = |command: &str| -> Result<()> {
        let job = workspace.job(command)?;
        ensure!(job.exit_code != Some(0), "{command:?} worked: {job:?}");
        Ok(())
    };
    fails("touch /usr/bin/new")?;
    fails("touch /etc/new")?;
    fails("cat /etc/shadow | grep -q ':\\$'")?;
    fails("mount -t tmpfs none /mnt")?;
    fails("echo 1 > /proc/sys/kernel/sysrq")?;
    fails("mknod /workspace/sda b 8 0")?;
    fails("ip link add x type dummy")?;
    let data = world.data_dir();
    fails(&format!("ls {}", data.display()))?;
    let environment = workspace
        .sh("env; cat /proc/1/environ | tr '\\0' '\\n'; cat /proc/1/cmdline | tr '\\0' ' '")?;
    ensure!(
        !environment.contains("fleeks_sk_") && !environment.to_lowercase().contains("token"),
        "{environment}"
    );
    let processes = workspace.sh("ls /proc | grep -c '^[0-9]'")?;
    ensure!(
        processes.parse::<u32>()? < 20,
        "{processes} processes are seen"
    );
    ensure!(
        workspace
            .sh("python -c 'print(\"grüße\")'; locale charmap 2>/dev/null || echo UTF-8")?
            .contains("grüße")
    );
    Ok(())
}

/// The README's `pip install flask`, and the app answers.
pub fn pip_install_flask(world: &World) -> Result<()> {
    if offline() {
        return Ok(());
    }
    let workspace = world.workspace("python")?;
    finish(&workspace, "pip install flask")?;
    workspace.write("app.py", "from flask import Flask\napp = Flask(__name__)\n\n@app.get('/')\ndef home():\n    return {'app': 'flask'}\n\napp.run(host='127.0.0.1', port=5000)\n")?;
    workspace.background("python app.py")?;
    workspace.wait_for_port(5000)?;
    let seen = Curl::new(world, Version::H2, &workspace.preview_url()?)?
        .send()?
        .json()?;
    ensure!(seen["app"] == "flask", "{seen}");
    Ok(())
}

/// The README's `npm install express`, and the app answers.
pub fn npm_install_express(world: &World) -> Result<()> {
    if offline() {
        return Ok(());
    }
    let workspace = world.workspace("node")?;
    finish(&workspace, "npm install express")?;
    workspace.write("app.js", "const app = require('express')();\napp.get('/', (_, answer) => answer.json({ app: 'express' }));\napp.listen(3000);\n")?;
    workspace.background("node app.js")?;
    workspace.wait_for_port(3000)?;
    let seen = Curl::new(world, Version::H2, &workspace.preview_url()?)?
        .send()?
        .json()?;
    ensure!(seen["app"] == "express", "{seen}");
    Ok(())
}

/// `FLEEKS_OFFLINE=1` on machines without the internet.
fn offline() -> bool {
    std::env::var_os("FLEEKS_OFFLINE").is_some()
}

/// Runs a long command to its success as a job: it may take longer than one API call.
fn finish(workspace: &Workspace, command: &str) -> Result<()> {
    let job = workspace.background(command)?;
    let end = wait::until(command, Duration::from_secs(120), || {
        let state = workspace.job_state(&job)?;
        Ok((state.status != "running").then_some(state))
    })?;
    ensure!(end.exit_code == Some(0), "{command}: {end:?}");
    Ok(())
}
