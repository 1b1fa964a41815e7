//! A websocket visitor, over TLS or plain.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result};
use rustls::{ClientConnection, StreamOwned};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Error, HandshakeError, WebSocket};

use crate::raw;
use crate::world::World;

/// A connection of either kind.
pub enum Line {
    /// `wss`.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// `ws`.
    Plain(TcpStream),
}

/// Opens `wss://host:port/path` or `ws://…` at `world`.
pub fn open(world: &World, url: &str) -> Result<WebSocket<Line>> {
    let opened = open_with(world, url, &[])?;
    opened.map_err(|status| anyhow::anyhow!("websocket {url}: {status}"))
}

/// The same with header fields; the status if it was refused.
pub fn open_with(
    world: &World,
    url: &str,
    fields: &[(&'static str, &str)],
) -> Result<std::result::Result<WebSocket<Line>, u16>> {
    let mut request = url.into_client_request()?;
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse()?);
    }
    let host = request.uri().host().context("no host")?.to_owned();
    let line = match request.uri().scheme_str() {
        Some("wss") => Line::Tls(Box::new(raw::connect_tls(world, &host)?)),
        _ => Line::Plain(raw::connect(world.ready()?.http)?),
    };
    match tungstenite::client(request, line) {
        Ok((socket, _)) => Ok(Ok(socket)),
        Err(HandshakeError::Failure(Error::Http(answer))) => Ok(Err(answer.status().as_u16())),
        Err(error) => anyhow::bail!("websocket {url}: {error}"),
    }
}

/// Opens `ws://host:port/path` at this address, also where the world is elsewhere.
pub fn plain(address: SocketAddr, url: &str) -> Result<WebSocket<Line>> {
    match tungstenite::client(url, Line::Plain(raw::connect(address)?)) {
        Ok((socket, _)) => Ok(socket),
        Err(error) => anyhow::bail!("websocket {url}: {error}"),
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tls(stream) => stream.read(buffer),
            Self::Plain(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tls(stream) => stream.write(buffer),
            Self::Plain(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Tls(stream) => stream.flush(),
            Self::Plain(stream) => stream.flush(),
        }
    }
}
