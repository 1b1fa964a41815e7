//! A websocket visitor, over TLS or plain.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result};
use rustls::{ClientConnection, StreamOwned};
use tungstenite::WebSocket;
use tungstenite::client::IntoClientRequest as _;

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
    let request = url.into_client_request()?;
    let host = request.uri().host().context("no host")?.to_owned();
    let line = match request.uri().scheme_str() {
        Some("wss") => Line::Tls(Box::new(raw::connect_tls(world, &host)?)),
        _ => Line::Plain(raw::connect(world.ready()?.http)?),
    };
    shake_hands(url, line)
}

/// Opens `ws://host:port/path` at this address, also where the world is elsewhere.
pub fn plain(address: SocketAddr, url: &str) -> Result<WebSocket<Line>> {
    shake_hands(url, Line::Plain(raw::connect(address)?))
}

fn shake_hands(url: &str, line: Line) -> Result<WebSocket<Line>> {
    match tungstenite::client(url, line) {
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
