//! A stand-in for the database where there is no Redis, as in emulated machines. It accepts TCP connections and sends
//! PONG.
use std::io::Write;
use std::net::{Ipv6Addr, TcpListener};

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let port = std::env::args().nth(1).context("usage: database PORT")?;
    let port: u16 = port.parse().with_context(|| format!("{port} is not a port"))?;
    // Linux accepts IPv4 connections on the unspecified IPv6 address too.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .with_context(|| format!("cannot listen on port {port}"))?;
    for connection in listener.incoming() {
        // A probe closes its connection without reading.
        connection.and_then(|mut stream| stream.write_all(b"+PONG\r\n")).ok();
    }
    Ok(())
}
