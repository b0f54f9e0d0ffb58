//! Waits for changes of links and addresses (the multicast groups of rtnetlink).
use std::io;
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

const GROUPS: [u32; 3] = [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR];

/// The shortest time between two reports. On a machine where containers come and go, the network is then not read again
/// for each message.
const PAUSE: Duration = Duration::from_millis(50);

/// The pause after an error, which may otherwise repeat at once.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// The most messages that are read for one report. The rest belong to the next report.
const DRAIN_MAX: usize = 4096;

/// Octets of the buffer. It may be small, because messages are not parsed; the network is read instead.
const BUFFER: usize = 1024;

/// Receives the changes of this network namespace since the monitor was made.
#[derive(Debug)]
pub struct Monitor {
    socket: AsyncFd<Socket>,
    /// The earliest time of the next report.
    next: Instant,
}

impl Monitor {
    /// Joins the groups for links and addresses. Needs no capability.
    ///
    /// # Errors
    /// The errors of a netlink socket, and of registering it with the runtime. Call this within the runtime.
    pub fn new() -> io::Result<Monitor> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        #[expect(unsafe_code, reason = "tokio has no safe way to register a socket of another crate")]
        // SAFETY: the socket owns its descriptor and is never cloned. The descriptor is closed after the `AsyncFd`,
        // which owns the socket, has removed it from the reactor.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Monitor { socket: socket.map_err(io::Error::from)?, next: Instant::now() })
    }

    /// Completes when a link or an address may have changed since the last call, once for a burst of changes. Cancel
    /// safe.
    pub async fn changed(&mut self) {
        loop {
            // The socket is only read after the last await, so nothing is lost on cancellation.
            let ready = self.socket.readable().await.map(|mut ready| ready.retain_ready());
            sleep_until(self.next).await;
            let heard = ready.and_then(|()| self.drain());
            self.next = Instant::now() + PAUSE;
            match heard {
                Ok(false) => {}
                Ok(true) => return,
                // Changes may have been missed, so report one: the network has to be read.
                Err(error) => {
                    tracing::warn!(%error, "listening for changes of the network failed");
                    self.next += ERROR_PAUSE;
                    return;
                }
            }
        }
    }

    /// Takes the messages that wait in the socket. Returns whether there were any.
    fn drain(&self) -> io::Result<bool> {
        let mut heard = false;
        let mut buffer = [0; BUFFER];
        for _message in 0..DRAIN_MAX {
            let received =
                self.socket.try_io(Interest::READABLE, |socket| socket.recv(&mut &mut buffer[..], 0));
            match received {
                Ok(_) => heard = true,
                Err(error) => match error.raw_os_error() {
                    // Messages were lost.
                    Some(libc::ENOBUFS) => heard = true,
                    Some(libc::EINTR) => {}
                    _ if error.kind() == io::ErrorKind::WouldBlock => break,
                    _ => return Err(error),
                },
            }
        }
        Ok(heard)
    }
}
