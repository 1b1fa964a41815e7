//! A world of our own to reach or not to reach: a namespace behind the host that answers on
//! addresses of every kind. Each one is its rig's, so that cases do not meet.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use crate::rig::{Rig, wait_for};

pub const PORT: u16 = 8099;

pub struct World {
    name: String,
    server: Child,
    /// Like an address of the internet.
    pub public: Ipv4Addr,
    /// Private, metadata, carrier, …: (what it is, address).
    pub forbidden: Vec<(&'static str, Ipv4Addr)>,
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}

const SERVER: &str = "
import socket, sys, threading
tcp = socket.create_server(('0.0.0.0', int(sys.argv[1])))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IP, 8, 1)
udp.bind(('0.0.0.0', int(sys.argv[1])))
def echo():
    while True:
        data, control, flags, peer = udp.recvmsg(100, 1000)
        # Answer from the address that was asked.
        udp.sendmsg([data], control, 0, peer)
threading.Thread(target=echo, daemon=True).start()
while True:
    connection, peer = tcp.accept()
    connection.sendall(b'world')
    connection.close()
";

impl World {
    pub async fn new(rig: &Rig) -> Self {
        let name = format!("w{}", rig.instance);
        // Two bytes that no other rig is likely to have now.
        let [a, b] = rand::random::<[u8; 2]>();
        let b = b.max(2) & 0xfe;
        let public = Ipv4Addr::new(198, 51, 100, b);
        let forbidden = vec![
            ("metadata", Ipv4Addr::new(169, 254, a, b)),
            ("10/8", Ipv4Addr::new(10, 99, a, b)),
            ("172.16/12", Ipv4Addr::new(172, 31, a, b)),
            ("192.168/16", Ipv4Addr::new(192, 168, a, b)),
            ("carrier", Ipv4Addr::new(100, 127, a, b)),
            ("benchmark", Ipv4Addr::new(198, 19, a, b)),
            ("protocol assignments", Ipv4Addr::new(192, 0, 0, b)),
        ];
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add {name} type veth peer name eth0 netns {name}"
        ));
        ip(&format!("link set {name} up"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} route add default dev eth0"));
        for address in forbidden
            .iter()
            .map(|(_, address)| *address)
            .chain([public])
        {
            ip(&format!("-n {name} addr add {address}/32 dev eth0"));
            ip(&format!("route add {address}/32 dev {name}"));
        }
        let server = Command::new("ip")
            .args([
                "netns",
                "exec",
                &name,
                "/usr/bin/python3",
                "-c",
                SERVER,
                &PORT.to_string(),
            ])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let world = Self {
            name,
            server,
            public,
            forbidden,
        };
        // All of it really answers, from the host: what fails inside fails because of the rules.
        let all = world.forbidden.iter().map(|(_, address)| *address);
        for address in all.chain([public]) {
            wait_for("the world", || {
                let timeout = std::time::Duration::from_millis(200);
                std::net::TcpStream::connect_timeout(&(address, PORT).into(), timeout).is_ok()
            })
            .await;
        }
        world
    }

    /// Whether somebody out there can connect.
    pub fn can_connect(&self, address: Ipv4Addr, port: u16) -> bool {
        let script =
            format!("import socket; socket.create_connection(('{address}', {port}), 2).recv(1)");
        Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.name,
                "/usr/bin/python3",
                "-c",
                &script,
            ])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
        ip(&format!("link del {}", self.name));
        ip(&format!("netns del {}", self.name));
    }
}
