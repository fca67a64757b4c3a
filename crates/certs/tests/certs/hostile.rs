//! Whatever a stranger sends, the answer is a value (T25).

use std::sync::OnceLock;

use comity_certs::{Anchor, Metadata, PresentedChain, Purpose, verify_ca_path};
use comity_identity::Algorithm;
use proptest::prelude::*;
use rustls_pki_types::ServerName;

use crate::certificates::{Foreign, LeafOptions, Node, TODAY};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_never_a_chain(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(PresentedChain::parse(&[&bytes]).is_err());
        prop_assert!(Anchor::from_der(&bytes).is_err());
    }

    #[test]
    fn random_metadata_is_read_back_as_itself_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(metadata) = Metadata::from_der(&bytes) {
            prop_assert_eq!(metadata.to_der().expect("within limits"), bytes);
        }
    }

    #[test]
    fn a_changed_native_chain_is_refused(
        which in 0..2_usize,
        place in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        // Every byte is covered by a signature, or is a signature, or frames one.
        let mut chain = native().to_vec();
        let place = place.index(chain[which].len());
        chain[which][place] ^= flip;
        prop_assert!(PresentedChain::parse(&chain).is_err(), "certificate {} byte {}", which, place);
    }

    #[test]
    fn a_changed_foreign_chain_is_judged_without_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (mut chain, anchor) = foreign().clone();
        for (which, place, value) in changes {
            let certificate = which.index(chain.len());
            let place = place.index(chain[certificate].len());
            chain[certificate][place] = value;
        }
        if let Some(length) = length {
            let length = length.index(chain[0].len());
            chain[0].truncate(length);
        }
        if let Ok(chain) = PresentedChain::parse(&chain) {
            let name = ServerName::try_from("db1.example").expect("a name");
            chain.matches_name(&name);
            let path = verify_ca_path(&chain, [&anchor], Purpose::Serve, TODAY);
            // A path exists only if leaf and issuer are still what was signed.
            prop_assert!(path.is_err() || path.is_ok_and(|path| path.keys.len() == 3));
        }
    }
}

#[test]
fn a_chain_cut_off_anywhere_is_refused() {
    let chain = native();
    for which in 0..2 {
        for length in 0..chain[which].len() {
            let mut chain = chain.to_vec();
            chain[which].truncate(length);
            assert!(
                PresentedChain::parse(&chain).is_err(),
                "certificate {which} at {length}"
            );
        }
    }
}

#[test]
fn every_single_bit_of_a_native_chain_counts() {
    let chain = native();
    for which in 0..2 {
        for bit in 0..chain[which].len() * 8 {
            let mut chain = chain.to_vec();
            chain[which][bit / 8] ^= 1 << (bit % 8);
            assert!(
                PresentedChain::parse(&chain).is_err(),
                "certificate {which} bit {bit}"
            );
        }
    }
}

/// Ed25519: its signatures have no second form that would verify.
fn native() -> &'static [Vec<u8>] {
    static CHAIN: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let options = LeafOptions {
            dns: vec!["db1.example".into()],
            ..LeafOptions::default()
        };
        Node::with_options(Algorithm::Ed25519, &options).serve.chain
    })
}

fn foreign() -> &'static (Vec<Vec<u8>>, Anchor) {
    static CHAIN: OnceLock<(Vec<Vec<u8>>, Anchor)> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let root = Foreign::authority("root").root();
        let middle = Foreign::authority("middle").intermediate(&root);
        let leaf = Foreign::server("db1.example").issued_by(&middle);
        let chain = leaf.followed_by(&[&middle.der]).chain;
        (chain, Anchor::from_der(&root.der).expect("a CA"))
    })
}
