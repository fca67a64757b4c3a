//! Which certificates of which networks a node presents between its leaf and its own root.

use comity_certs::Anchor;
use comity_certs::limits::{MAX_CERTIFICATES, MAX_CHAIN_BYTES};
use comity_identity::{NodeId, UnixTime};
use comity_trust::Standing;

/// Networks in one chain: with a cross-certificate and an issuing certificate for each, the leaf
/// and our own root, that is [`MAX_CERTIFICATES`].
pub const MAX_PRESENTED: usize = (MAX_CERTIFICATES - 2) / 2;

/// Names of authorities in a handshake that are looked at: what a peer trusts that trusts as many as
/// browsers do. Whoever sends more is shown what everybody is shown.
const MAX_HINTS: usize = 256;

/// Our membership of one network, as it is presented.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// Which network.
    pub network: NodeId,
    /// The cross-certificate for our own root.
    pub cross: Vec<u8>,
    /// The certificates of the network above it, without its root. Comity peers have them in the
    /// network's bundle; others need to see them.
    pub issuing: Vec<Vec<u8>>,
    /// The names of whoever issued these, in DER: the root's among them.
    pub issuers: Vec<Vec<u8>>,
    /// Whether its authority recognises nobody here: it is another organisation's, which certified
    /// us for the sake of its own programs. They may take the first certificate that fits and
    /// look no further, as OpenSSL does, so theirs stand before those of our own networks, whose
    /// members look at all.
    pub for_partners: bool,
}

/// What a chain has room for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Selection<'a> {
    /// What stands between the leaf and our own root.
    pub(crate) certificates: Vec<&'a [u8]>,
    /// Whether something was left out.
    pub(crate) incomplete: bool,
}

impl Membership {
    /// What of the certificates of a grant is worth presenting by `node` at the time `now`: of the
    /// cross-certificates for its key, the one that is good for longest, and what is above it. `None`
    /// if there is none, or it is over: one for a key that we had before would only take room.
    pub fn of(
        network: NodeId,
        standing: Standing,
        certificates: &[Vec<u8>],
        node: &NodeId,
        now: UnixTime,
    ) -> Option<Self> {
        let parsed = certificates
            .iter()
            .map(|der| (der, Anchor::from_der(der).ok()));
        let (ours, others): (Vec<_>, Vec<_>) = parsed
            .filter_map(|(der, anchor)| Some((der, anchor?)))
            .partition(|(_, anchor)| anchor.key() == node.key_hash());
        let (cross, certified) = ours
            .into_iter()
            .filter(|(_, anchor)| now <= anchor.not_after())
            .max_by_key(|(_, anchor)| (anchor.not_after(), anchor.not_before()))?;
        let above = others.iter().map(|(_, anchor)| anchor);
        let issuers = std::iter::once(&certified).chain(above);
        Some(Self {
            network,
            cross: cross.clone(),
            issuers: issuers.map(|a| a.issuer_der().to_vec()).collect(),
            issuing: others.into_iter().map(|(der, _)| der.clone()).collect(),
            for_partners: standing == Standing::Followed,
        })
    }
}

/// The network of which a peer knows an authority, by the names that its handshake shows.
pub(crate) fn known_to_peer<'h>(
    memberships: &[Membership],
    hints: impl Iterator<Item = &'h [u8]>,
) -> Option<NodeId> {
    let hints: Vec<&[u8]> = hints.take(MAX_HINTS).collect();
    let is_hinted = |name: &Vec<u8>| hints.contains(&name.as_slice());
    let known = memberships.iter().find(|m| m.issuers.iter().any(is_hinted));
    known.map(|membership| membership.network)
}

/// Chooses what is presented beside `leaf` and `root`: `preferred` first, then those for partners,
/// then the others in their order. Of too many networks the last are left out; where certificates
/// have no room, those that Comity peers do not need go first, then whole networks, from the end.
pub(crate) fn select<'a>(
    memberships: &'a [Membership],
    preferred: Option<NodeId>,
    leaf: &[u8],
    root: &[u8],
) -> Selection<'a> {
    let wanted = |m: &&Membership| Some(m.network) == preferred;
    let mut chosen: Vec<(&Membership, bool)> = memberships
        .iter()
        .filter(wanted)
        .chain(memberships.iter().filter(|m| !wanted(m)))
        .map(|membership| (membership, true))
        .collect();
    let all = chosen.len();
    chosen.truncate(MAX_PRESENTED);
    chosen.sort_by_key(|(m, _)| (!wanted(m), !m.for_partners));
    let mut incomplete = chosen.len() < all;
    loop {
        let certificates = in_order(&chosen);
        let bytes: usize = certificates.iter().map(|der| der.len()).sum();
        if certificates.len() + 2 <= MAX_CERTIFICATES
            && bytes + leaf.len() + root.len() <= MAX_CHAIN_BYTES
        {
            return Selection {
                certificates,
                incomplete,
            };
        }
        incomplete = true;
        // The first network keeps its issuing certificates until it is alone.
        match chosen
            .iter()
            .rposition(|(m, full)| *full && !m.issuing.is_empty())
        {
            Some(last) if last > 0 || chosen.len() == 1 => chosen[last].1 = false,
            _ => drop(chosen.pop()),
        }
    }
}

/// Cross-certificates first. Issuing certificates that two networks share stand once.
fn in_order<'a>(chosen: &[(&'a Membership, bool)]) -> Vec<&'a [u8]> {
    let mut certificates: Vec<&[u8]> = chosen.iter().map(|(m, _)| m.cross.as_slice()).collect();
    let issuing = chosen.iter().filter(|(_, full)| *full);
    for der in issuing.flat_map(|(m, _)| &m.issuing) {
        if !certificates.contains(&der.as_slice()) {
            certificates.push(der);
        }
    }
    certificates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    /// A membership whose certificates are `length` bytes long and tell where they belong.
    fn membership(of: u8, issuing: u8, length: usize) -> Membership {
        Membership {
            network: network(of),
            cross: vec![of; length],
            issuing: (0..issuing)
                .map(|nr| vec![100 + 10 * of + nr; length])
                .collect(),
            issuers: vec![vec![of, 0], vec![of, 1]],
            for_partners: false,
        }
    }

    fn selected(memberships: &[Membership], preferred: Option<u8>) -> (Vec<u8>, bool) {
        let (leaf, root) = (vec![0; 500], vec![0; 500]);
        let selection = select(memberships, preferred.map(network), &leaf, &root);
        let first = |der: &&[u8]| der[0];
        let shown = selection.certificates.iter().map(first).collect();
        (shown, selection.incomplete)
    }

    #[test]
    fn three_networks_fit_with_their_issuing_certificates() {
        let three: Vec<_> = (1..=3).map(|of| membership(of, 1, 700)).collect();
        assert_eq!(
            selected(&three, None),
            (vec![1, 2, 3, 110, 120, 130], false)
        );
        assert_eq!(selected(&[], None), (vec![], false));
    }

    #[test]
    fn the_network_that_is_asked_for_comes_first_and_stays() {
        let four: Vec<_> = (1..=4).map(|of| membership(of, 1, 700)).collect();
        assert_eq!(
            selected(&four, Some(4)),
            (vec![4, 1, 2, 140, 110, 120], true)
        );
        assert_eq!(selected(&four, None), (vec![1, 2, 3, 110, 120, 130], true));
        // One that we are not in changes nothing.
        assert_eq!(selected(&four[..1], Some(9)), (vec![1, 110], false));
    }

    #[test]
    fn networks_for_partners_come_before_our_own_and_take_no_room_from_them() {
        let mut four: Vec<_> = (1..=4).map(|of| membership(of, 1, 700)).collect();
        (four[1].for_partners, four[3].for_partners) = (true, true);
        assert_eq!(
            selected(&four[..3], None),
            (vec![2, 1, 3, 120, 110, 130], false)
        );
        assert_eq!(
            selected(&four[..3], Some(3)),
            (vec![3, 2, 1, 130, 120, 110], false)
        );
        assert_eq!(selected(&four, None), (vec![2, 1, 3, 120, 110, 130], true));
    }

    #[test]
    fn a_peer_that_names_its_authorities_is_shown_the_first_network_of_theirs() {
        let three: Vec<_> = (1..=3).map(|of| membership(of, 1, 700)).collect();
        let known = |hints: &[&[u8]]| known_to_peer(&three, hints.iter().copied());
        assert_eq!(known(&[&[9], &[3, 1], &[2, 0]]), Some(network(2)));
        assert_eq!(known(&[&[9], &[3]]), None);
        assert_eq!(known(&[]), None);
        let mut many: Vec<&[u8]> = vec![&[9]; MAX_HINTS - 1];
        many.push(&[1, 0]);
        assert_eq!(known(&many), Some(network(1)));
        many.insert(0, &[9]);
        assert_eq!(known(&many), None);
    }

    #[test]
    fn issuing_certificates_of_further_networks_go_first() {
        let two = [membership(1, 2, 700), membership(2, 3, 700)];
        assert_eq!(selected(&two, None), (vec![1, 2, 110, 111], true));
        let three = [
            membership(1, 2, 700),
            membership(2, 1, 700),
            membership(3, 1, 700),
        ];
        assert_eq!(selected(&three, None), (vec![1, 2, 3, 110, 111, 120], true));
    }

    #[test]
    fn sixteen_kilobytes_are_filled_and_not_passed() {
        let fits = (MAX_CHAIN_BYTES - 1000) / 2;
        assert_eq!(
            selected(&[membership(1, 1, fits)], None),
            (vec![1, 110], false)
        );
        assert_eq!(
            selected(&[membership(1, 1, fits + 1)], None),
            (vec![1], true)
        );
        // Of two networks, the second goes before the first loses anything.
        let two = [membership(1, 1, 7000), membership(2, 1, 7000)];
        assert_eq!(selected(&two, None), (vec![1, 110], true));
        let too_large = membership(1, 0, MAX_CHAIN_BYTES);
        assert_eq!(selected(&[too_large], None), (vec![], true));
    }

    #[test]
    fn a_certificate_that_two_networks_share_stands_once() {
        let mut two = [membership(1, 1, 700), membership(2, 0, 700)];
        two[1].issuing = two[0].issuing.clone();
        assert_eq!(selected(&two, None), (vec![1, 2, 110], false));
    }
}
