//! The control socket: HTTP and JSON over a unix socket, server and client.
