//! A container's network: a namespace, one routed point-to-point veth, and what may leave it.
//!
//! No bridge (it ends at 1,023 ports): the host routes one address to each link. Links and
//! namespaces carry the instance's id, so each node finds exactly its own again.
//!
//! Must never happen here: a rule, link or namespace of another instance touched.

mod address;
mod held;
mod link;
mod netns;
mod peers;
mod resolvers;
mod rules;

use std::net::Ipv4Addr;
use std::path::Path;

use fleet::id::InstanceId;
use fleet::timing;
use parking_lot::Mutex;
use rtnetlink::Handle;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

pub use address::GATEWAY;
pub use netns::Netns;

use crate::runtime::{OciId, Traffic};
use address::AddressPool;
use link::Link;

/// Forwarding between the host's interfaces: without it no container reaches anything.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// Addresses tried before giving up on a host that routes the whole range elsewhere.
const MINT_TRIES: usize = 64;
/// Where the host has no default route.
const DEFAULT_MTU: u32 = 1500;

/// Why a network could not be made or taken away.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Every address of the range is in use.
    #[error("no free container address")]
    Exhausted,
    /// The kernel refused.
    #[error("{action}: {reason}")]
    Refused {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        reason: String,
    },
}

/// All networks of one instance.
pub struct Network {
    instance: InstanceId,
    host: Handle,
    resolvers: Vec<Ipv4Addr>,
    mtu: u32,
    addresses: Mutex<AddressPool>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

impl Network {
    /// Installs the instance's rules; `used` are the addresses that records name.
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn open(
        instance: InstanceId,
        data_dir: &Path,
        used: Vec<Ipv4Addr>,
    ) -> Result<Self, NetworkError> {
        let resolvers = resolvers::of_host();
        if resolvers.is_empty() {
            tracing::warn!("no name server outside loopback: names will not resolve in containers");
        }
        netns::make_netns_dir()?;
        rules::install(&instance, &resolvers).await?;
        enable_forwarding(data_dir)?;
        Ok(Self {
            addresses: Mutex::new(AddressPool::new(&instance, used)),
            instance,
            host: link::connect()?,
            resolvers,
            mtu: default_route_mtu().unwrap_or(DEFAULT_MTU),
        })
    }

    /// The name servers that containers may ask.
    pub fn resolvers(&self) -> &[Ipv4Addr] {
        &self.resolvers
    }

    /// An address for a new container; write it into its record. Taken until given back.
    ///
    /// # Errors
    /// [`NetworkError::Exhausted`].
    pub async fn mint_address(&self) -> Result<Ipv4Addr, NetworkError> {
        for _ in 0..MINT_TRIES {
            let address = self.addresses.lock().take();
            let address = address.ok_or(NetworkError::Exhausted)?;
            // Another instance on this machine, or a tunnel of the host, may have it.
            if !link::has_own_route(&self.host, address).await? {
                return Ok(address);
            }
        }
        Err(NetworkError::Exhausted)
    }

    /// Gives an address back, when neither container nor snapshot has it any more.
    pub fn free_address(&self, address: Ipv4Addr) {
        self.addresses.lock().give_back(address);
    }

    /// A new network namespace for one generation of a container. Costs some milliseconds.
    ///
    /// # Errors
    /// [`NetworkError::Refused`]; nothing is left then.
    pub async fn prepare(&self, id: &OciId, address: Ipv4Addr) -> Result<Netns, NetworkError> {
        // What a start of this generation left that was cut in the middle.
        if netns::netns_path(id.as_str()).exists() {
            self.release(id).await?;
        }
        let (netns, namespace, inside) = netns::make_netns(id.as_str()).await?;
        let name = self.link_name(id);
        let link = Link {
            name: &name,
            alias: id.as_str(),
            address,
            mtu: self.mtu,
        };
        match link::make_link(&self.host, &inside, &namespace, &link).await {
            Ok(()) => Ok(netns),
            Err(error) => {
                link::remove_link(&self.host, &name).await?;
                Err(error)
            }
        }
    }

    /// Takes link and namespace away. Idempotent.
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn release(&self, id: &OciId) -> Result<(), NetworkError> {
        link::remove_link(&self.host, &self.link_name(id)).await?;
        netns::remove_netns(&netns::netns_path(id.as_str())).map_err(|error| {
            NetworkError::Refused {
                action: "remove a network namespace",
                reason: error.to_string(),
            }
        })
    }

    /// Whose namespaces or links exist: to compare with what runs.
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn list(&self) -> Result<Vec<OciId>, NetworkError> {
        let mut ids: Vec<OciId> = Vec::new();
        let names = std::fs::read_dir(netns::NETNS_DIR).map_err(|error| NetworkError::Refused {
            action: "list network namespaces",
            reason: error.to_string(),
        })?;
        let names = names
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        ids.extend(names.filter_map(|name| OciId::of(&self.instance, &name)));
        let links = link::links(&self.host, self.link_prefix().as_str()).await?;
        ids.extend(
            links
                .iter()
                .filter_map(|(_, alias)| OciId::of(&self.instance, alias.as_deref()?)),
        );
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Lets nothing in or out of a container any more, until [`Network::let_go`]. Connections
    /// stay: what is sent meanwhile is lost and sent again. (A link that is set down would lose
    /// its routes, and its packets would go wherever else the host sends them.)
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn hold(&self, address: Ipv4Addr) -> Result<(), NetworkError> {
        rules::set_held(&self.instance, address, true).await
    }

    /// Undoes [`Network::hold`]. Idempotent.
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn let_go(&self, address: Ipv4Addr) -> Result<(), NetworkError> {
        rules::set_held(&self.instance, address, false).await
    }

    /// Ends every connection from this machine to a container, but those to its init, at both ends.
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn part(&self, address: Ipv4Addr) -> Result<(), NetworkError> {
        peers::end(address).await
    }

    /// What went through a container's link since it started; zeros where there is none.
    pub fn traffic(&self, id: &OciId) -> Traffic {
        let directory = Path::new("/sys/class/net").join(self.link_name(id));
        let bytes = |file: &str| -> u64 {
            let text = std::fs::read_to_string(directory.join("statistics").join(file));
            text.ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0)
        };
        // The host's end receives what the container sends.
        Traffic {
            received: bytes("tx_bytes"),
            sent: bytes("rx_bytes"),
        }
    }

    /// Takes away every namespace, link and rule of this instance.
    ///
    /// # Errors
    /// [`NetworkError::Refused`].
    pub async fn close(&self) -> Result<(), NetworkError> {
        // The kernel takes many namespaces and their links away at once, much faster than link
        // after link.
        for id in self.list().await? {
            let path = netns::netns_path(id.as_str());
            netns::remove_netns(&path).map_err(|error| NetworkError::Refused {
                action: "remove a network namespace",
                reason: error.to_string(),
            })?;
        }
        let (mut patience, mut before) = (Instant::now() + timing::LINKS_GONE, usize::MAX);
        loop {
            let left = link::links(&self.host, self.link_prefix().as_str()).await?;
            if left.is_empty() {
                break;
            }
            if left.len() < before {
                // Of a thousand the last go late.
                patience = Instant::now() + timing::LINKS_GONE;
                before = left.len();
            }
            if Instant::now() < patience {
                tokio::time::sleep(timing::LINKS_POLL).await;
                continue;
            }
            // Somebody still holds their namespaces.
            for (name, _) in left {
                link::remove_link(&self.host, &name).await?;
            }
        }
        rules::remove(&self.instance).await
    }

    fn link_prefix(&self) -> String {
        format!("{}-", self.instance)
    }

    /// 15 bytes, all that an interface name may have: the instance, and 35 bits of the id's hash.
    fn link_name(&self, id: &OciId) -> String {
        let hash = Sha256::digest(id.as_str());
        let letters = data_encoding::BASE32_NOPAD.encode(&hash[..5]);
        format!("{}{}", self.link_prefix(), letters[..7].to_lowercase())
    }
}

/// Turns forwarding on, and remembers in the data dir if it was off. It is never turned off again
/// by us: others may have come to rely on it.
fn enable_forwarding(data_dir: &Path) -> Result<(), NetworkError> {
    let enable = || {
        if std::fs::read_to_string(IP_FORWARD)?.trim() == "1" {
            return Ok(());
        }
        let runtime_dir = data_dir.join("runtime");
        std::fs::create_dir_all(&runtime_dir)?;
        std::fs::write(runtime_dir.join("ip-forward-was-off"), "")?;
        tracing::info!("turning net.ipv4.ip_forward on, so that containers reach the network");
        std::fs::write(IP_FORWARD, "1")
    };
    enable().map_err(|error: std::io::Error| NetworkError::Refused {
        action: "turn net.ipv4.ip_forward on",
        reason: error.to_string(),
    })
}

/// The largest packet of the interface that leads outside.
fn default_route_mtu() -> Option<u32> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let interface = routes.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let interface = words.next()?;
        (words.next()? == "00000000").then_some(interface)
    })?;
    let mtu = std::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?;
    mtu.trim().parse().ok()
}
