//! Who a valid path is about, in the profile of seed 004. The cases of others are judged in
//! `xtask/tests/judge.rs`; these are of our own making.

use comity_certs::federation::{
    FederationError, Kind, NameFault, NodeName, Peer, check_registered, read_root, verify_peer,
    verify_server,
};
use comity_certs::{Anchor, CrossError, PresentedChain, Purpose, Rollover};
use comity_identity::{Algorithm, KeyHash, Signer};

use crate::certificates::{TODAY, TestKey, tlv};
use crate::cross::{Party, Presented, name};

const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const REGISTRY: &str = "Swaptacular Nodes Registry";

fn node(unit: &str, id: &str) -> Vec<u8> {
    name(&[(10, UTF8, REGISTRY), (11, UTF8, unit), (5, PRINTABLE, id)])
}

fn authority() -> Party {
    Party::new(node("Accounting Authorities", "1234abcd"))
}

/// An agent whose id belongs to its key.
fn agent(unit: &str) -> Party {
    agent_with(unit, Algorithm::EcdsaP256)
}

fn agent_with(unit: &str, algorithm: Algorithm) -> Party {
    let key = TestKey::generate(algorithm);
    let id: String = KeyHash::of_spki(key.spki())
        .to_hex()
        .chars()
        .take(32)
        .collect();
    Party {
        name: node(unit, &id),
        key,
    }
}

fn verify(presented: &Presented) -> Result<Peer, FederationError> {
    let anchor = presented.anchor();
    let (purpose, rollover) = (presented.purpose, presented.rollover);
    verify_peer(&presented.chain(), [&anchor], purpose, rollover, TODAY)
}

#[test]
fn an_agent_is_known_by_its_name_and_its_first_root_key() {
    for (unit, kind) in [
        ("Creditors Agents", Kind::CreditorsAgent),
        ("Debtors Agents", Kind::DebtorsAgent),
    ] {
        let presented = Presented::new(authority(), agent(unit));
        let peer = verify(&presented).expect("a good chain");
        assert_eq!(peer.name.kind(), kind);
        assert_eq!(peer.root, KeyHash::of_spki(presented.node.spki()));
        assert_eq!(peer.root.to_hex()[..32], *peer.name.id());
    }
    let presented = Presented::new(agent("Creditors Agents"), authority());
    let peer = verify(&presented).expect("a good chain");
    assert_eq!(
        (peer.name.kind(), peer.name.id()),
        (Kind::AccountingAuthority, "1234abcd")
    );
}

/// The original scripts make RSA keys only.
#[test]
fn keys_of_other_kinds_than_the_scripts_make_are_accepted_without_an_id_of_the_leafs_key() {
    for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        let agent = agent_with("Creditors Agents", algorithm);
        let mut presented = Presented::new(authority(), agent);
        let subject_key_identifier = [0x55, 0x1d, 14];
        let extensions = &mut presented.leaf.extensions;
        extensions.retain(|(oid, ..)| *oid != subject_key_identifier);
        let peer = verify(&presented).expect("a good chain");
        assert_eq!(peer.root, KeyHash::of_spki(presented.node.spki()));
    }
}

#[test]
fn a_server_is_known_by_its_own_root() {
    let server = agent("Creditors Agents");
    let chain = PresentedChain::parse(&[server.leaf().sign(&server.key)]).expect("readable");
    let anchor = Anchor::from_der(&server.root().sign(&server.key)).expect("a CA");
    let (serve, refused) = (Purpose::Serve, Rollover::Refused);
    let found = verify_server(&chain, [&anchor], serve, refused, TODAY).expect("a good chain");
    assert_eq!(found.root, KeyHash::of_spki(server.spki()));
    let other = Anchor::from_der(&agent("Creditors Agents").root().sign(&server.key));
    let other = verify_server(&chain, [&other.expect("a CA")], serve, refused, TODAY);
    assert!(matches!(
        other,
        Err(FederationError::Path(CrossError::UnknownIssuer { .. }))
    ));
}

#[test]
fn a_name_is_that_of_a_node_only_in_exactly_one_form() {
    let id = "0123456789abcdef0123456789abcdef";
    let unit = "Creditors Agents";
    let registry = (10, UTF8, REGISTRY);
    type Attributes<'a> = &'a [(u8, u8, &'a str)];
    let table: &[(Attributes<'_>, NameFault)] = &[
        (&[], NameFault::Shape),
        (&[registry, (11, UTF8, unit)], NameFault::Shape),
        (
            &[
                registry,
                (11, UTF8, unit),
                (5, PRINTABLE, id),
                (5, PRINTABLE, id),
            ],
            NameFault::Shape,
        ),
        (
            &[
                registry,
                (11, UTF8, unit),
                (5, PRINTABLE, id),
                (3, UTF8, "x"),
            ],
            NameFault::Shape,
        ),
        (
            &[(11, UTF8, unit), registry, (5, PRINTABLE, id)],
            NameFault::Organization,
        ),
        (
            &[
                (10, PRINTABLE, REGISTRY),
                (11, UTF8, unit),
                (5, PRINTABLE, id),
            ],
            NameFault::Organization,
        ),
        (
            &[
                (10, UTF8, "Swaptacular nodes registry"),
                (11, UTF8, unit),
                (5, PRINTABLE, id),
            ],
            NameFault::Organization,
        ),
        (
            &[registry, (11, UTF8, "Creditors agents"), (5, PRINTABLE, id)],
            NameFault::Unit,
        ),
        (
            &[registry, (11, PRINTABLE, unit), (5, PRINTABLE, id)],
            NameFault::Unit,
        ),
        (
            &[registry, (11, UTF8, "Currency Holders"), (5, PRINTABLE, id)],
            NameFault::Unit,
        ),
        (
            &[registry, (10, UTF8, unit), (5, PRINTABLE, id)],
            NameFault::Unit,
        ),
        (&[registry, (11, UTF8, unit), (5, UTF8, id)], NameFault::Id),
        (
            &[registry, (11, UTF8, unit), (3, PRINTABLE, id)],
            NameFault::Id,
        ),
        (
            &[
                registry,
                (11, UTF8, unit),
                (5, PRINTABLE, "0123456789ABCDEF0123456789ABCDEF"),
            ],
            NameFault::Id,
        ),
        (
            &[registry, (11, UTF8, unit), (5, PRINTABLE, &id[1..])],
            NameFault::Id,
        ),
        (
            &[registry, (11, UTF8, unit), (5, PRINTABLE, "1234abcd")],
            NameFault::Id,
        ),
        (
            &[
                registry,
                (11, UTF8, "Accounting Authorities"),
                (5, PRINTABLE, id),
            ],
            NameFault::Id,
        ),
        (
            &[
                registry,
                (11, UTF8, "Accounting Authorities"),
                (5, PRINTABLE, "../evil0"),
            ],
            NameFault::Id,
        ),
        (
            &[
                registry,
                (11, UTF8, "Accounting Authorities"),
                (5, PRINTABLE, "1234abcg"),
            ],
            NameFault::Id,
        ),
        (
            &[
                registry,
                (11, UTF8, "Accounting Authorities"),
                (5, PRINTABLE, " 234abcd"),
            ],
            NameFault::Id,
        ),
    ];
    assert!(NodeName::from_der(&node(unit, id)).is_ok());
    for (attributes, fault) in table {
        assert_eq!(
            NodeName::from_der(&name(attributes)),
            Err(*fault),
            "{attributes:?}"
        );
    }
    assert_eq!(NodeName::from_der(b"\x30\x01"), Err(NameFault::Malformed));
    assert_eq!(
        NodeName::from_der(&tlv(0x30, &[&tlv(0x31, &[])])),
        Err(NameFault::Malformed)
    );
    // A valid path changes nothing about that.
    let wrong = Party::new(node("Accounting Authorities", "../evil0"));
    let verdict = verify(&Presented::new(agent("Creditors Agents"), wrong));
    assert_eq!(verdict, Err(FederationError::Name(NameFault::Id)));
    let wrong = Party::new(name(&[(10, UTF8, REGISTRY)]));
    let verdict = verify(&Presented::new(wrong, agent("Creditors Agents")));
    assert_eq!(verdict, Err(FederationError::IssuerName(NameFault::Shape)));
}

#[test]
fn an_id_of_32_digits_belongs_to_one_key() {
    let id = "0123456789abcdef0123456789abcdef";
    let thief = Party::new(node("Creditors Agents", id));
    let verdict = verify(&Presented::new(authority(), thief));
    assert_eq!(
        verdict,
        Err(FederationError::OtherKey { id: id.to_owned() })
    );
}

#[test]
fn alternative_names_are_refused_although_they_claim_nothing_else() {
    let mut presented = Presented::new(authority(), agent("Debtors Agents"));
    let names = tlv(0x30, &[&tlv(0x82, &[b"node.example"])]);
    presented
        .leaf
        .extensions
        .push((vec![0x55, 0x1d, 17], false, names));
    assert_eq!(verify(&presented), Err(FederationError::AlternativeNames));
}

#[test]
fn agents_deal_with_accounting_authorities_only() {
    let between = |issuer, peer| verify(&Presented::new(issuer, peer));
    for (issuer, peer) in [
        ("Creditors Agents", "Debtors Agents"),
        ("Creditors Agents", "Creditors Agents"),
        ("Debtors Agents", "Creditors Agents"),
    ] {
        let verdict = between(agent(issuer), agent(peer));
        assert!(
            matches!(verdict, Err(FederationError::NoDealings { .. })),
            "{verdict:?}"
        );
    }
    let other = Party::new(node("Accounting Authorities", "00000001"));
    let verdict = between(authority(), other);
    assert!(matches!(verdict, Err(FederationError::NoDealings { .. })));
}

#[test]
fn a_second_key_under_a_registered_name_is_refused() {
    let node = authority();
    let (name, key) = read_root(&node.root().sign(&node.key)).expect("a root");
    let second = authority();
    let presented = Presented::new(agent("Creditors Agents"), second);
    // Nothing in the certificates says that it is another node.
    let peer = verify(&presented).expect("a good chain");
    assert_eq!(peer.name, name);
    let verdict = check_registered(&peer.name, peer.root, [(&name, key)]);
    assert!(matches!(verdict, Err(FederationError::SecondKey { .. })));
    assert_eq!(check_registered(&peer.name, key, [(&name, key)]), Ok(()));
    assert_eq!(check_registered(&peer.name, peer.root, []), Ok(()));
    let other = NodeName::from_der(&self::node("Accounting Authorities", "00000001"));
    let other = other.expect("a name");
    assert_eq!(
        check_registered(&peer.name, peer.root, [(&other, key)]),
        Ok(())
    );
}
