//! Whether a node is healthy: probes, which are effects, and the verdict, which is pure.
