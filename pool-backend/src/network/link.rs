//! Links by netlink: no forks, one veth pair per container.
//!
//! ```text
//! host                                      container
//! <instance>-<7 letters>  100.64.0.1/32 ─── eth0 <address>/32
//!   route <address>/32                        route 100.64.0.1, default via it
//!   neighbour <address>, permanent            neighbour 100.64.0.1, permanent
//! ```
//! ARP is off on both ends and the hardware addresses follow from the container's, so the link
//! looks the same after a wake, on any machine.
//!
//! Must never happen here: a decision, as of an address or a name.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteFlags, RouteScope};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::NetworkError;
use super::address::GATEWAY;

/// The container's interface.
const INSIDE: &str = "eth0";
/// Loopback's, in every namespace.
const LOOPBACK_INDEX: u32 = 1;

/// One container's link, as it will be or is.
#[derive(Debug)]
pub struct Link<'a> {
    /// The host's end.
    pub name: &'a str,
    /// Stored with the link: which container's it is.
    pub alias: &'a str,
    /// The container's address.
    pub address: Ipv4Addr,
    /// Largest packet.
    pub mtu: u32,
}

fn refused(action: &'static str) -> impl Fn(rtnetlink::Error) -> NetworkError {
    move |error| NetworkError::Refused {
        action,
        reason: error.to_string(),
    }
}

pub(super) fn io_refused(action: &'static str) -> impl Fn(io::Error) -> NetworkError {
    move |error| NetworkError::Refused {
        action,
        reason: error.to_string(),
    }
}

/// A netlink connection of this process's own namespace. Its task ends with the last handle.
///
/// # Errors
/// [`NetworkError::Refused`].
pub fn connect() -> Result<Handle, NetworkError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(io_refused("open netlink"))?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Hardware addresses of (host's end, container's end): locally administered, from the address.
fn hardware_addresses(address: Ipv4Addr) -> (Vec<u8>, Vec<u8>) {
    let with = |second| [&[0x0a, second], &address.octets()[..]].concat();
    (with(0xf0), with(0xf1))
}

/// Makes the link between `host` and the namespace of `inside`, and configures both ends.
///
/// # Errors
/// [`NetworkError::Refused`]; the caller removes what there is of the link.
pub async fn make_link(
    host: &Handle,
    inside: &Handle,
    namespace: &File,
    link: &Link<'_>,
) -> Result<(), NetworkError> {
    let (host_hardware, inside_hardware) = hardware_addresses(link.address);
    let peer = LinkUnspec::new_with_name(INSIDE)
        .address(inside_hardware.clone())
        .mtu(link.mtu)
        .arp(false)
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .name(link.name)
        .address(host_hardware.clone())
        .mtu(link.mtu)
        .arp(false)
        .build();
    host.link()
        .add(pair)
        .execute()
        .await
        .map_err(refused("make a veth pair"))?;
    configure_host_end(host, link, &inside_hardware).await?;
    configure_inside(inside, link.address, &host_hardware).await
}

async fn configure_host_end(
    host: &Handle,
    link: &Link<'_>,
    inside_hardware: &[u8],
) -> Result<(), NetworkError> {
    for (family, key, value) in [
        ("ipv6", "disable_ipv6", "1"),
        ("ipv4", "rp_filter", "1"),
        ("ipv4", "accept_redirects", "0"),
        ("ipv4", "send_redirects", "0"),
    ] {
        let file = format!("/proc/sys/net/{family}/conf/{}/{key}", link.name);
        match std::fs::write(file, value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_refused("configure a link")(error));
            }
            _ => {}
        }
    }
    let index = index_of(host, link.name).await?;
    host.link()
        .change(
            LinkUnspec::new_with_index(index)
                .alias(link.alias)
                .up()
                .build(),
        )
        .execute()
        .await
        .map_err(refused("set a link up"))?;
    host.address()
        .add(index, IpAddr::V4(GATEWAY), 32)
        .execute()
        .await
        .map_err(refused("give a link its address"))?;
    host.neighbours()
        .add(index, IpAddr::V4(link.address))
        .link_layer_address(inside_hardware)
        .replace()
        .execute()
        .await
        .map_err(refused("add a neighbour"))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(link.address, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .pref_source(GATEWAY)
        .build();
    host.route()
        .add(route)
        .replace()
        .execute()
        .await
        .map_err(refused("add a route"))
}

async fn configure_inside(
    inside: &Handle,
    address: Ipv4Addr,
    host_hardware: &[u8],
) -> Result<(), NetworkError> {
    let inside_index = index_of(inside, INSIDE).await?;
    for index in [LOOPBACK_INDEX, inside_index] {
        inside
            .link()
            .change(LinkUnspec::new_with_index(index).up().build())
            .execute()
            .await
            .map_err(refused("set the container's links up"))?;
    }
    inside
        .address()
        .add(inside_index, IpAddr::V4(address), 32)
        .execute()
        .await
        .map_err(refused("give the container its address"))?;
    inside
        .neighbours()
        .add(inside_index, IpAddr::V4(GATEWAY))
        .link_layer_address(host_hardware)
        .execute()
        .await
        .map_err(refused("add the gateway's neighbour"))?;
    let on_link = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(GATEWAY, 32)
        .output_interface(inside_index)
        .scope(RouteScope::Link)
        .build();
    let default = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(GATEWAY)
        .output_interface(inside_index)
        .build();
    for route in [on_link, default] {
        inside
            .route()
            .add(route)
            .execute()
            .await
            .map_err(refused("add the container's route"))?;
    }
    Ok(())
}

async fn index_of(host: &Handle, name: &str) -> Result<u32, NetworkError> {
    let found = host
        .link()
        .get()
        .match_name(name)
        .execute()
        .try_next()
        .await
        .map_err(refused("find a link"))?;
    found
        .map(|message| message.header.index)
        .ok_or_else(|| NetworkError::Refused {
            action: "find a link",
            reason: format!("{name} is gone"),
        })
}

/// Whether the host routes just this address somewhere.
///
/// # Errors
/// [`NetworkError::Refused`].
pub async fn has_own_route(host: &Handle, address: Ipv4Addr) -> Result<bool, NetworkError> {
    let mut question = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .build();
    question.header.flags = RouteFlags::FibMatch;
    match host.route().get(question).execute().try_next().await {
        Ok(Some(route)) => Ok(route.header.destination_prefix_length == 32),
        Ok(None) => Ok(false),
        // No route at all, not even a default one.
        Err(rtnetlink::Error::NetlinkError(_)) => Ok(false),
        Err(error) => Err(refused("look a route up")(error)),
    }
}

/// Removes the link of that name, both ends. Idempotent.
///
/// # Errors
/// [`NetworkError::Refused`].
pub async fn remove_link(host: &Handle, name: &str) -> Result<(), NetworkError> {
    let link = LinkUnspec::new_with_name(name).build();
    match host.link().del_with_message(link).execute().await {
        Err(error) if !is_absent(&error) => Err(refused("remove a link")(error)),
        _ => Ok(()),
    }
}

fn is_absent(error: &rtnetlink::Error) -> bool {
    let rtnetlink::Error::NetlinkError(message) = error else {
        return false;
    };
    let errno = message.to_io().raw_os_error();
    errno == Some(nix::errno::Errno::ENODEV as i32)
}

/// Names and aliases of all veths of the host whose name begins with `prefix`.
///
/// # Errors
/// [`NetworkError::Refused`].
pub async fn links(
    host: &Handle,
    prefix: &str,
) -> Result<Vec<(String, Option<String>)>, NetworkError> {
    let all: Vec<LinkMessage> = host
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(refused("list links"))?;
    Ok(all
        .into_iter()
        .filter(is_veth)
        .filter_map(|message| {
            let (mut name, mut alias) = (None, None);
            for attribute in message.attributes {
                match attribute {
                    LinkAttribute::IfName(text) => name = Some(text),
                    LinkAttribute::IfAlias(text) => alias = Some(text),
                    _ => {}
                }
            }
            Some((name.filter(|name| name.starts_with(prefix))?, alias))
        })
        .collect())
}

fn is_veth(message: &LinkMessage) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
        _ => false,
    })
}
