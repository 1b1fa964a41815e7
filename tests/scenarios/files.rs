//! Files through the API, when the sandbox has laid traps for it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleeks_tests::workspace::encoded;
use fleeks_tests::{Workspace, World};
use serde_json::json;

/// `..`, absolute paths, symlinks and `/proc` lead nowhere but into the workspace, for reading,
/// writing and removing.
pub fn nothing_escapes(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    let marker = format!("/tmp/fleeks-escaped-{:08x}", rand::random::<u32>());
    workspace.sh("ln -s /etc/passwd passwd; ln -s / root; ln -s ../../../../../../etc up; ln -s /proc/self/root proc; ln -s loop loop; mkdir dir; ln -s /etc/hostname dir/name; ln -s /workspace/inner ok; echo inside > inner")?;
    let traps = [
        "passwd",
        "root/etc/passwd",
        "up/passwd",
        "proc/etc/passwd",
        "loop",
        "dir/name",
        "../../../etc/passwd",
        "/../../etc/passwd",
        "/etc/passwd",
        "/proc/self/environ",
        "/workspace/../etc/passwd",
        "dir/../../etc/passwd",
        "....//etc/passwd",
        "root/proc/1/environ",
    ];
    for path in traps {
        let reply = workspace.try_read(path)?;
        reply
            .refused(&[400, 403, 404, 422])
            .with_context(|| format!("read {path}"))?;
    }
    for path in [
        format!("root{marker}"),
        format!("../../..{marker}"),
        format!("proc{marker}"),
        "up/fleeks-new".to_owned(),
    ] {
        let body = json!({"path": path, "content": "escaped", "encoding": "utf-8"});
        let reply = workspace.api().post(&workspace.files(""), &body)?;
        // Through init a link leads to the container's own /tmp; that is not the host's.
        ensure!(reply.status < 500, "write {path}: {}", reply.text());
        ensure!(!Path::new(&marker).exists(), "{path} wrote to the host");
        let made = workspace.api().post(
            &workspace.files("/directories"),
            &json!({"path": path, "parents": true}),
        )?;
        ensure!(made.status < 500, "mkdir {path}: {}", made.text());
        ensure!(
            !Path::new(&marker).exists(),
            "{path} made a directory on the host"
        );
    }
    ensure!(!Path::new("/etc/fleeks-new").exists());
    for path in ["../../etc", "root/etc/hostname", ""] {
        let reply = workspace
            .api()
            .delete(&workspace.files(&format!("/content?path={}", encoded(path))))?;
        reply
            .refused(&[400, 403, 404, 422])
            .with_context(|| format!("delete {path:?}"))?;
    }
    // Removing a link removes the link.
    workspace
        .api()
        .delete(&workspace.files("/content?path=root"))?
        .ok()?;
    ensure!(Path::new("/etc/passwd").exists() && workspace.read("inner")?.trim() == "inside");
    let listed = workspace
        .api()
        .get(&workspace.files("?path=/&recursive=true"))?
        .ok()?;
    ensure!(
        !listed.to_string().contains("shadow"),
        "a listing followed a link: {listed}"
    );
    Ok(())
}

/// FIFOs, sockets, devices' names, sparse giants: an answer in little time, and no memory for it.
pub fn strange_files_do_not_hang(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    workspace.sh("mkfifo fifo; python -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'; truncate -s 1T giant; mkdir dir; printf 'a\\377b' > latin; touch \"$(printf 'bad\\377name')\"; ln -s fifo to-fifo")?;
    for path in ["fifo", "sock", "to-fifo", "dir", "giant"] {
        let reply = workspace.try_read(path)?;
        reply
            .refused(&[400, 403, 404, 409, 413, 415, 422])
            .with_context(|| format!("read {path}"))?;
        ensure!(
            reply.took < Duration::from_secs(5),
            "{path} took {:?}",
            reply.took
        );
    }
    // Over a FIFO a write either refuses or replaces; it must not block on a reader.
    let body = json!({"path": "fifo", "content": "x", "encoding": "utf-8"});
    let reply = workspace.api().post(&workspace.files(""), &body)?;
    ensure!(
        reply.status < 500 && reply.took < Duration::from_secs(5),
        "{} in {:?}",
        reply.text(),
        reply.took
    );
    let reply = workspace.try_read("latin")?;
    ensure!(reply.status < 500, "{}", reply.text());
    let listed = workspace
        .api()
        .get(&workspace.files("?path=/&recursive=true&include_hidden=true"))?
        .ok()?;
    ensure!(
        listed["total_count"]
            .as_u64()
            .is_some_and(|count| count >= 6),
        "{listed}"
    );
    Ok(())
}

/// All 256 bytes, up and down; names with spaces, umlauts and percent signs.
pub fn bytes_are_exact(world: &World) -> Result<()> {
    let workspace = world.workspace("python")?;
    workspace.sh("python -c 'open(\"all.bin\",\"wb\").write(bytes(range(256))*300)'")?;
    let reply = workspace
        .api()
        .get(&workspace.files("/content?path=all.bin&binary=true"))?
        .ok()?;
    let content = reply["content"].as_str().context("no content")?;
    let bytes: Vec<u32> = content.chars().map(u32::from).collect();
    ensure!(
        bytes.len() == 256 * 300
            && bytes
                .iter()
                .enumerate()
                .all(|(n, byte)| *byte == n as u32 % 256)
    );
    for name in [
        "mit leer.txt",
        "grüße/ünïcode ✓.txt",
        "100%.txt",
        "a+b&c=d?.txt",
        "-rf",
        "quote'\".txt",
    ] {
        exact(&workspace, name).with_context(|| name.to_owned())?;
    }
    Ok(())
}

fn exact(workspace: &Workspace, name: &str) -> Result<()> {
    let content = "Zeile\r\n\tTab \u{0} null ✓\n";
    let info = workspace.write(name, content)?;
    ensure!(
        info["path"] == name && info["size_bytes"] == content.len(),
        "{info}"
    );
    ensure!(workspace.read(name)? == content);
    ensure!(workspace.read(&format!("/workspace/{name}"))? == content);
    workspace
        .api()
        .delete(&workspace.files(&format!("/content?path={}", encoded(name))))?
        .ok()?;
    workspace.try_read(name)?.refused(&[404])?;
    Ok(())
}
