//! Who reaches whom.

use std::net::{Ipv4Addr, TcpListener};

use crate::rig::{Rig, wait_for};
use crate::world::{PORT, World};

/// Prints which of its arguments (`name=address:port`) answer by TCP and by UDP.
const KNOCK: &str = r#"
cat > /tmp/knock.py <<'PY'
import concurrent.futures, socket, sys
def tcp(target):
    try:
        return len(socket.create_connection(target, 3).recv(1)) > 0
    except OSError:
        return False
def udp(target):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(3)
            s.sendto(b"x", target)
            return s.recv(1) == b"x"
    except OSError:
        return False
def knock(argument):
    name, target = argument.split("=")
    address, port = target.split(":")
    return name, tcp((address, int(port))), udp((address, int(port)))
with concurrent.futures.ThreadPoolExecutor(20) as pool:
    for name, by_tcp, by_udp in pool.map(knock, sys.argv[1:]):
        print(name, "tcp" if by_tcp else "-", "udp" if by_udp else "-")
PY
"#;

/// Answers every connection with a byte.
const GREETER: &str = r#"
cat > /tmp/greeter.py <<'PY'
import socket
server = socket.create_server(("0.0.0.0", 8098))
open("/workspace/listening", "w").close()
while True:
    connection, _ = server.accept()
    connection.sendall(b"x")
    connection.close()
PY
python /tmp/greeter.py & true
"#;

/// An address of the host that containers would find by themselves.
fn host_address(world: &World) -> Ipv4Addr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((world.public, PORT)).unwrap();
    match socket.local_addr().unwrap().ip() {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(_) => unreachable!(),
    }
}

pub async fn only_the_world_is_reachable(rig: Rig) {
    let world = World::new(&rig).await;
    let neighbour = rig.start("neighbour", GREETER).await;
    let listening = neighbour.volume.join("listening");
    wait_for("the neighbour to listen", || listening.exists()).await;
    let host = TcpListener::bind("0.0.0.0:0").unwrap();
    let host_port = host.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in host.incoming() {
            drop(connection.map(|mut stream| std::io::Write::write_all(&mut stream, b"x")));
        }
    });

    let mut targets = vec![
        format!("public={}:{PORT}", world.public),
        format!("neighbour={}:8098", neighbour.address),
        format!("host={}:{host_port}", host_address(&world)),
        format!("gateway={}:{host_port}", pool_backend::network::GATEWAY),
    ];
    for (name, address) in &world.forbidden {
        targets.push(format!("{}={address}:{PORT}", name.replace(' ', "-")));
    }
    let script = format!("{KNOCK}\npython /tmp/knock.py {}", targets.join(" "));
    let outcome = rig.run("knocker", &script).await;
    let mut lines = outcome.output.lines();
    assert_eq!(lines.next(), Some("public tcp udp"), "{}", outcome.output);
    let mut closed = 0;
    for line in lines {
        assert!(line.ends_with(" - -"), "{}", outcome.output);
        closed += 1;
    }
    assert_eq!(closed, targets.len() - 1);

    let mirror = package_mirror();
    let names = format!(
        "python -c 'import socket; socket.getaddrinfo(\"{mirror}\", 80)' && echo named\n\
         python -c 'import socket; socket.create_connection((\"2001:db8::1\", 80), 3)' \
         2>&1 | tail -1"
    );
    let outcome = rig.run("resolver", &names).await;
    assert!(outcome.output.starts_with("named\n"), "{}", outcome.output);
    assert!(outcome.output.contains("Error"), "{}", outcome.output);
    rig.close().await;
}

/// A name that this machine itself can resolve: where it gets its packages from.
fn package_mirror() -> String {
    let mut files = vec![std::path::PathBuf::from("/etc/apt/sources.list")];
    let parts = std::fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    files.extend(parts.flatten().map(|entry| entry.path()));
    let texts = files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok());
    let text: String = texts.collect();
    let host = text
        .lines()
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .filter_map(|line| line.split_once("://")?.1.split(['/', ' ']).next())
        .find(|host| std::net::ToSocketAddrs::to_socket_addrs(&(*host, 80)).is_ok());
    host.expect("apt knows a mirror that has an address")
        .to_owned()
}

pub async fn only_the_host_gets_in(rig: Rig) {
    let world = World::new(&rig).await;
    let sandbox = rig.start("server", GREETER).await;
    let listening = sandbox.volume.join("listening");
    wait_for("the server to listen", || listening.exists()).await;
    let connect = || std::net::TcpStream::connect((sandbox.address, 8098));
    assert!(connect().is_ok());
    assert!(!world.can_connect(sandbox.address, 8098));
    // A container that is held gets nothing, and comes back with its routes.
    rig.network.hold(sandbox.address).await.unwrap();
    let timeout = std::time::Duration::from_millis(300);
    let target = (sandbox.address, 8098).into();
    assert!(std::net::TcpStream::connect_timeout(&target, timeout).is_err());
    rig.network.let_go(sandbox.address).await.unwrap();
    wait_for("the way back in", || connect().is_ok()).await;
    rig.close().await;
}
