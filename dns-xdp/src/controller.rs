//! The loop that joins probes, decisions, publication and the control socket.
