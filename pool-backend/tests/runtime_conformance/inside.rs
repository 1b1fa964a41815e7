//! What it looks like inside.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::rig::{PATIENCE, Rig};

pub async fn only_the_volume_can_be_written(rig: Rig) {
    let script = r#"
        set -e
        for place in / /usr /usr/bin /etc /etc/ssl /opt/fleeks/bin /root /var/lib /proc/sys/kernel; do
            if ( echo x > $place/written ) 2>/dev/null; then echo "wrote into $place"; fi
        done
        if ( echo x > /proc/sys/kernel/hostname ) 2>/dev/null; then echo "wrote a sysctl"; fi
        if ( echo x > /run/fleeks/init ) 2>/dev/null; then echo "wrote init"; fi
        if ( rm -f /etc/passwd ) 2>/dev/null; then echo "removed accounts"; fi
        for place in /workspace /workspace/.home /tmp /var/tmp /run /dev/shm /run/fleeks/jobs; do
            echo x > $place/written
        done
        echo done"#;
    let sandbox = rig.start("a", script).await;
    let outcome = sandbox.outcome().await;
    assert_eq!((outcome.code, outcome.output.as_str()), (0, "done\n"));
    // And it is seen outside.
    assert_eq!(
        std::fs::read(sandbox.volume.join("written")).unwrap(),
        b"x\n"
    );
    rig.close().await;
}

pub async fn nothing_else_of_the_host_is_seen(rig: Rig) {
    let script = r#"
        ls -A /home /root /media /mnt /srv /var/lib /var/cache /var/log
        ls /opt
        ls / | tr '\n' ' '; echo
        for secret in /etc/shadow /etc/ssh /etc/ssl/private /etc/sudoers /boot /sys/firmware/efi; do
            [ -e $secret ] && echo "sees $secret"
        done
        cat /etc/machine-id; cut -d: -f1 /etc/passwd; hostname; cat /etc/hostname
        getent hosts $(hostname) | wc -l"#;
    let outcome = rig.run("a", script).await;
    let text = outcome.output;
    for line in text.lines() {
        assert!(!line.starts_with("sees"), "{text}");
    }
    assert!(text.contains("\nfleeks\n"), "{text}");
    assert!(
        text.ends_with("root\nnobody\nworkspace-a\nworkspace-a\n1\n"),
        "{text}"
    );
    for name in ["boot", "lost+found", "work", "farm", "snap", "data"] {
        assert!(!text.contains(&format!("{name} ")), "{text}");
    }
    rig.close().await;
}

pub async fn there_is_no_privilege(rig: Rig) {
    let script = r#"
        grep -E '^Cap(Prm|Eff|Bnd|Inh)' /proc/self/status | grep -v 0000000000000000
        attempt() { "$@" >/dev/null 2>&1 && echo "did: $*"; }
        attempt mount -t tmpfs none /mnt
        attempt unshare -m true
        attempt chown 1000 /tmp
        attempt chroot / true
        attempt date -s 2020-01-01
        attempt hostname other
        # gVisor's own users, devices and log: none of them is the host's.
        uname -v | grep -q 2016 || {
            attempt unshare -Ur true
            attempt mknod /tmp/null c 1 3
            attempt dmesg
        }
        grep NoNewPrivs: /proc/self/status | grep -v 1
        cp /usr/bin/id /tmp/id; chmod 6755 /tmp/id; /tmp/id -u
        ulimit -n; ulimit -c"#;
    let outcome = rig.run("a", script).await;
    assert_eq!(outcome.output, "0\n4096\n0\n");
    rig.close().await;
}

pub async fn low_ports_and_names_work(rig: Rig) {
    let script = r#"
        cat > /tmp/server.py <<'PY'
import socket
server = socket.create_server(("0.0.0.0", 80))
while True:
    connection, peer = server.accept()
    connection.sendall(peer[0].encode())
    connection.close()
PY
        python /tmp/server.py &
        python -c 'import locale; print(locale.getpreferredencoding(), "\u00fc")'
        python -c 'import socket; socket.gethostbyname(socket.gethostname())'
        node -e 'console.log(1 + 1)'
        which pip npm > /dev/null && echo both
        date +%Z"#;
    let sandbox = rig.start("a", script).await;
    let outcome = sandbox.outcome().await;
    assert_eq!(outcome.output, "UTF-8 \u{fc}\n2\nboth\nUTC\n");
    let connected = async {
        loop {
            if let Ok(mut stream) = TcpStream::connect((sandbox.address, 80)).await {
                let mut peer = String::new();
                stream.read_to_string(&mut peer).await.unwrap();
                return peer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let peer = tokio::time::timeout(PATIENCE, connected).await.unwrap();
    assert_eq!(peer, pool_backend::network::GATEWAY.to_string());
    rig.close().await;
}

pub async fn packages_install(rig: Rig) {
    let script = r#"
        set -e
        pip install flask
        python -c 'import flask; print("has", "flask")'
        flask --version
        npm install express
        node -e 'require("express"); console.log("has express")'
        npm install -g cowsay
        cowsay works
        python -m venv /workspace/env
        /workspace/env/bin/pip install itsdangerous
        tar -C /tmp -cf /tmp/a.tar --owner=1000 --group=1000 server 2>/dev/null || true
        ls -a /workspace"#;
    let outcome = rig.run("a", script).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    for expected in ["has flask", "has express", "node_modules"] {
        assert!(outcome.output.contains(expected), "{}", outcome.output);
    }
    rig.close().await;
}
