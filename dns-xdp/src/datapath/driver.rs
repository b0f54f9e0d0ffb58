//! Facts about drivers with native XDP that the kernel does not report.

/// The largest packet in a page of 4096 octets with native XDP: without 256 octets of headroom, 320 at the end, and the
/// Ethernet header.
const OF_A_PAGE: u32 = 4096 - 256 - 320 - 14;

/// Drivers with native XDP on every kernel.
const NATIVE: [&str; 24] = [
    "atlantic",
    "bnxt_en",
    "dpaa2-eth",
    "ena",
    "fsl_dpaa2_eth",
    "gve",
    "hv_netvsc",
    "i40e",
    "iavf",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "nfp",
    "qede",
    "tun",
    "veth",
    "virtio_net",
];

/// Whether a driver is known to have native XDP, for kernels that do not report it (before 6.3).
pub fn has_native(driver: &str) -> bool {
    NATIVE.contains(&driver)
}

/// Returns a driver's largest MTU for a program without fragments; `None`: unknown.
pub fn mtu_max(driver: &str) -> Option<u32> {
    match driver {
        // veth_xdp_set, virtnet_xdp_set
        "veth" | "virtio_net" => Some(OF_A_PAGE),
        // ENA_XDP_MAX_MTU, which also subtracts a frame check sequence and a VLAN tag.
        "ena" => Some(OF_A_PAGE - 4 - 4),
        _ => None,
    }
}

/// Whether a driver needs a transmit queue for XDP for each receive queue, so that only half of its queues can receive.
pub fn needs_half_of_the_queues(driver: &str) -> bool {
    matches!(driver, "ena" | "gve")
}

/// Whether a driver takes programs for fragmented frames, for kernels that do not report it (5.18 to 6.2).
pub fn takes_fragments(driver: &str) -> bool {
    matches!(driver, "veth" | "mvneta" | "mlx5_core" | "bnxt_en")
}

/// Whether a driver can shorten its receive ring (`ethtool -G`), on every kernel and with every device.
pub fn sets_ring(driver: &str) -> bool {
    let drivers = [
        "atlantic",
        "bnxt_en",
        "ena",
        "hv_netvsc",
        "i40e",
        "iavf",
        "ice",
        "igb",
        "igc",
        "ixgbe",
        "ixgbevf",
        "mlx4_en",
        "mlx5_core",
        "mvneta",
        "mvpp2",
        "nfp",
        "qede",
    ];
    drivers.contains(&driver)
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
