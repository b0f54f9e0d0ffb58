//! What is known of drivers with native XDP beforehand.

/// What native XDP leaves of a page of 4096 octets for a packet: without 256 octets of headroom, 320 behind it, and the
/// Ethernet header.
const OF_A_PAGE: u32 = 4096 - 256 - 320 - 14;

/// The largest MTU with which a driver takes a program that is not for fragmented frames; `None`: it is not known here.
pub fn mtu_max(driver: &str) -> Option<u32> {
    match driver {
        // veth_xdp_set, virtnet_xdp_set
        "veth" | "virtio_net" => Some(OF_A_PAGE),
        // ENA_XDP_MAX_MTU: also without a frame check sequence and a VLAN tag.
        "ena" => Some(OF_A_PAGE - 4 - 4),
        _ => None,
    }
}

/// Whether a driver needs as many transmit queues for XDP as it receives on, so that half of its queues can receive.
pub fn needs_half_of_the_queues(driver: &str) -> bool {
    matches!(driver, "ena" | "gve")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_that_the_drivers_document() {
        assert_eq!(mtu_max("veth"), Some(3506));
        assert_eq!(mtu_max("ena"), Some(3498));
        assert_eq!(mtu_max("mlx5_core"), None);
    }
}
