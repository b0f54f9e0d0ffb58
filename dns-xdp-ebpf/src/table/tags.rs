//! The VLAN tags of a served address.

/// The VLAN tags in front of an IP packet: 16 bits for each of up to two tags, the outer tag in the lower bits. A tag's
/// 12 low bits are its VLAN id; of the next 2 bits, the lower marks 802.1Q, and the higher 802.1ad. A tag with the id 0
/// has only a priority (IEEE 802.1Q, 9.6). It does not count, wherever it stands: Linux takes it off, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Tags(pub u32);

impl Tags {
    /// No tag.
    pub const NONE: Tags = Tags(0);
    /// Octets of a tag.
    pub const LENGTH: usize = 4;
    /// Tags that are read.
    pub const MAX: usize = 2;
    const VLAN_ID: u16 = 0x0fff;
    const DOT1Q: u32 = 0x1000;
    const DOT1AD: u32 = 0x2000;

    /// Returns these tags with one more behind them. `control` is the tag's control information in the machine's order.
    #[inline(always)]
    pub const fn with(self, is_dot1ad: bool, control: u16) -> Tags {
        let vlan = control & Tags::VLAN_ID;
        if vlan == 0 {
            return self;
        }
        let kind = if is_dot1ad { Tags::DOT1AD } else { Tags::DOT1Q };
        let tag = kind | vlan as u32;
        Tags(if self.0 == 0 { tag } else { self.0 | tag << 16 })
    }
}
