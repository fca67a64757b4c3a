//! Authorities and members in homes of their own, on a fixed day.

use std::sync::Arc;
use std::time::Duration;

use comity_authority::{Admission, Authority, KeyOrder, NewAuthority, Selector};
use comity_certs::{RootRequest, mint_root};
use comity_identity::{Algorithm, Fingerprint, KeyHash, NodeId, UnixTime};
use comity_keys::SoftwareKey;
use comity_record::{Bundle, KeyState};
use comity_store::{Home, NetworkError, NetworkRecord, NetworkStore, Updated};
use comity_tls::network::{Grant, GrantError, Issuer, VerifiedGrant};
use comity_tls::{Clock, Credentials, Endpoint, LeafProfile};
use comity_trust::{Reason, Standing};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    Entered, Entry, HomeIssuer, OwnMembership, concerns, enter_bundle, enter_membership,
    keep_authorities,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// 2026-03-01.
const TODAY: UnixTime = UnixTime::from_secs(1_772_323_200);

/// A node on a day of the test's choice.
struct Node {
    _folder: TempDir,
    home: Home,
    endpoint: Endpoint,
    root: Vec<u8>,
}

impl Node {
    fn new() -> Self {
        Self::with_clock(Clock::new(|| TODAY))
    }

    fn with_clock(clock: Clock) -> Self {
        let folder = TempDir::new().expect("a folder");
        let home = Home::create(&folder.path().join("home")).expect("a home");
        let key = SoftwareKey::generate(Algorithm::EcdsaP256).expect("a key");
        let request = RootRequest {
            next: None,
            serial: [7; 16],
            not_before: TODAY,
        };
        let root = mint_root(&key, &request).expect("a root");
        let profile = LeafProfile::default();
        let credentials =
            Credentials::new(Arc::new(key), root.clone(), profile, TODAY).expect("credentials");
        let endpoint = Endpoint::open(&home, credentials, "test").expect("an endpoint");
        Self {
            _folder: folder,
            home,
            endpoint: endpoint.with_clock(clock),
            root,
        }
    }

    fn id(&self) -> NodeId {
        self.endpoint.credentials().node_id()
    }

    /// Founds a network here.
    fn found(&self, name: &str) -> Authority {
        let root = SoftwareKey::generate(Algorithm::EcdsaP256).expect("a key");
        let new = NewAuthority::named(name);
        Authority::create(&self.home, &new, &root, TODAY, "test").expect("an authority")
    }

    fn issuer(&self) -> HomeIssuer {
        HomeIssuer::new(&self.home, Arc::clone(self.endpoint.store()))
    }

    fn networks(&self) -> &NetworkStore {
        self.endpoint.networks()
    }

    fn record(&self, network: &NodeId) -> NetworkRecord {
        let found = self.networks().find(network).expect("readable");
        found.expect("a known network")
    }

    fn verify(&self, network: &NodeId, grant: Grant) -> Result<VerifiedGrant, GrantError> {
        let credentials = self.endpoint.credentials();
        VerifiedGrant::verify(grant, network, credentials, TODAY)
    }
}

/// What an authority has published.
fn bundle(authority: &Authority) -> Bundle {
    authority.bundle().expect("a bundle").clone()
}

fn enter(node: &Node, bundle: &Bundle, entry: &Entry<'_>) -> Result<Entered, NetworkError> {
    enter_bundle(node.networks(), bundle, entry, TODAY)
}

/// A root of somebody who is nowhere.
fn stranger() -> (Vec<u8>, KeyHash) {
    let node = Node::new();
    (node.root.clone(), node.id().key_hash())
}

#[test]
fn a_network_whose_name_is_taken_gets_a_number_and_keeps_it() {
    let (hub, other, node) = (Node::new(), Node::new(), Node::new());
    let (first, second) = (bundle(&hub.found("acme")), bundle(&other.found("acme")));
    let plain = Entry::default();
    let entered = enter(&node, &first, &plain).expect("entered");
    assert_eq!((entered.label.as_str(), entered.is_new), ("acme", true));
    let entered = enter(&node, &second, &plain).expect("entered");
    assert_eq!((entered.label.as_str(), entered.is_new), ("acme-2", true));
    let again = enter(&node, &second, &plain).expect("known");
    assert_eq!((again.label.as_str(), again.is_new), ("acme-2", false));
    assert_eq!(again.updated, Some(Updated::Same));
    // Whoever asks for a label gets that one or none.
    let wanted = Entry {
        label: Some("acme"),
        ..Entry::default()
    };
    let refused = enter(&node, &second, &wanted);
    assert!(
        matches!(refused, Err(NetworkError::LabelTaken { .. })),
        "{refused:?}"
    );
    assert_eq!(node.record(&second.network()).label, "acme-2");
}

#[test]
fn a_network_that_names_itself_as_a_word_in_use_gets_another_label() {
    let (hub, node) = (Node::new(), Node::new());
    let bundle = bundle(&hub.found("staff"));
    let entry = Entry {
        recognise: true,
        taken: vec!["staff".to_owned(), "staff-3".to_owned()],
        ..Entry::default()
    };
    let entered = enter(&node, &bundle, &entry).expect("entered");
    assert_eq!((entered.label.as_str(), entered.is_new), ("staff-2", true));
}

#[test]
fn who_is_only_followed_is_recognised_when_somebody_says_so_and_stays_it() {
    let (hub, node) = (Node::new(), Node::new());
    let bundle = bundle(&hub.found("acme"));
    let standing = |entry: &Entry<'_>| enter(&node, &bundle, entry).expect("entered").standing;
    assert_eq!(standing(&Entry::default()), Standing::Followed);
    let recognise = Entry {
        recognise: true,
        ..Entry::default()
    };
    assert_eq!(standing(&recognise), Standing::Recognised);
    assert_eq!(standing(&Entry::default()), Standing::Recognised);
}

#[test]
fn an_older_bundle_takes_nothing_away() {
    let (hub, node) = (Node::new(), Node::new());
    let mut authority = hub.found("acme");
    let old = bundle(&authority);
    authority.refresh(TODAY + DAY).expect("refreshed");
    let new = bundle(&authority);
    enter(&node, &new, &Entry::default()).expect("entered");
    let entered = enter(&node, &old, &Entry::default()).expect("not an error");
    assert_eq!(entered.updated, None);
    assert_eq!(node.record(&old.network()).bundle, new.bytes());
}

#[test]
fn a_membership_is_kept_and_presented() {
    let (hub, node) = (Node::new(), Node::new());
    let network = hub.found("acme").network();
    let roles = ["web".to_owned()];
    let grant = hub
        .issuer()
        .admit(&network, &node.root, &roles, Some("web1"), TODAY);
    let grant = grant.expect("admitted");
    // Nobody else can use it.
    let stolen = hub.verify(&network, grant.clone());
    assert!(stolen.is_err(), "{stolen:?}");
    let verified = node.verify(&network, grant).expect("ours");
    enter_membership(&node.endpoint, &verified, &Entry::default()).expect("kept");
    assert_eq!(node.endpoint.credentials().memberships(), [network]);
    let ours = OwnMembership::of(&node.record(&network), &node.id()).expect("a membership");
    assert_eq!(ours.roles, ["web"]);
    assert!(OwnMembership::of(&node.record(&network), &hub.id()).is_none());
}

#[test]
fn a_second_admission_adds_roles_and_a_taken_label_is_no_reason_to_refuse() {
    let hub = Node::new();
    let mut authority = hub.found("acme");
    let (network, issuer) = (authority.network(), hub.issuer());
    let (root, key) = stranger();
    for (role, label) in [("web", Some("web1")), ("db", None), ("db", Some("web1"))] {
        let roles = [role.to_owned()];
        issuer
            .admit(&network, &root, &roles, label, TODAY)
            .expect("admitted");
    }
    let (other, other_key) = stranger();
    issuer
        .admit(&network, &other, &[], Some("web1"), TODAY)
        .expect("admitted");
    let members = authority.members(TODAY).expect("members");
    let member = |key: KeyHash| members.iter().find(|m| m.key == key).expect("a member");
    let mut roles = member(key).roles.clone();
    roles.sort();
    assert_eq!(
        (member(key).label.as_str(), roles.as_slice()),
        ("web1", &["db".to_owned(), "web".to_owned()][..])
    );
    let expected = format!("web1-{}", &other_key.to_hex()[..8]);
    assert_eq!(member(other_key).label, expected);
}

#[test]
fn nobody_is_admitted_to_a_network_of_others_or_with_a_key_that_was_withdrawn() {
    let (hub, other) = (Node::new(), Node::new());
    let mut authority = hub.found("acme");
    let (network, elsewhere) = (authority.network(), other.found("acme").network());
    let issuer = hub.issuer();
    let (root, key) = stranger();
    let refused =
        |network: &NodeId, root: &[u8]| issuer.admit(network, root, &[], None, TODAY).err();
    assert_eq!(refused(&elsewhere, &root), Some(Reason::WrongNetwork));
    assert_eq!(
        refused(&network, b"no certificate"),
        Some(Reason::Malformed)
    );
    authority
        .withdraw_key(&key, "stolen", TODAY)
        .expect("withdrawn");
    assert_eq!(refused(&network, &root), Some(Reason::Revoked));
    // Another authority may be asked for its networks, too, and simply has nothing to say.
    assert_eq!(issuer.renew(&elsewhere, &root, None, &[], TODAY), Ok(None));
    let (unknown, _) = stranger();
    let renewed = issuer.renew(&network, &unknown, None, &[], TODAY);
    assert_eq!(renewed, Err(Reason::NotAuthorised));
}

#[test]
fn what_runs_out_is_said_in_time_and_not_before() {
    let (hub, node) = (Node::new(), Node::new());
    let mut authority = hub.found("acme");
    let network = authority.network();
    let admission = Admission {
        lifetime: Some(100 * DAY),
        ..Admission::default()
    };
    let granted = authority
        .certify(&node.root, &admission, TODAY)
        .expect("certified");
    let grant = super::issuer::handed_out(&network, granted);
    let verified = node.verify(&network, grant).expect("ours");
    enter_membership(&node.endpoint, &verified, &Entry::default()).expect("kept");
    let record = node.record(&network);
    let said = |record: &NetworkRecord, now| concerns(record, &node.id(), now).join("; ");
    let check = |days: u32, seconds: u64, parts: &[&str]| {
        let now = TODAY + days * DAY + Duration::from_secs(seconds);
        let said = said(&record, now);
        assert_eq!(
            said.split("; ").filter(|s| !s.is_empty()).count(),
            parts.len(),
            "{said}"
        );
        assert!(
            parts.iter().all(|part| said.contains(part)),
            "{days}: {said}"
        );
    };
    check(0, 0, &[]);
    check(16, 0, &["its bundle is old"]);
    check(31, 0, &["its bundle ended"]);
    check(86, 0, &["its bundle ended"]);
    check(86, 1, &["its bundle ended", "our membership ends"]);
    check(100, 1, &["its bundle ended", "our membership ended"]);
    let forked = NetworkRecord {
        forked: Some(TODAY),
        ..record.clone()
    };
    assert!(said(&forked, TODAY).contains("until you decide"));
    // After a roll, the membership is for a key that is no more.
    let concerns = concerns(&record, &hub.id(), TODAY);
    assert_eq!(concerns, ["our membership is for a key that we had before"]);
}

#[test]
fn a_membership_wants_renewal_when_two_thirds_are_over() {
    let ours = OwnMembership {
        serial: String::new(),
        roles: Vec::new(),
        not_before: TODAY,
        not_after: TODAY + 3 * DAY,
        issuer: Some(KeyState::Active),
    };
    let second = Duration::from_secs(1);
    assert!(!ours.wants_renewal(TODAY + 2 * DAY - second));
    assert!(ours.wants_renewal(TODAY + 2 * DAY));
}

#[test]
fn a_membership_by_a_key_that_retires_wants_renewal_and_is_said() {
    let (hub, node) = (Node::new(), Node::new());
    let root = SoftwareKey::generate(Algorithm::EcdsaP256).expect("a key");
    let new = NewAuthority::named("acme");
    let authority = Authority::create(&hub.home, &new, &root, TODAY, "test");
    let mut authority = authority.expect("an authority");
    let network = authority.network();
    let issuer = hub.issuer();
    let admitted = issuer.admit(&network, &node.root, &[], None, TODAY);
    let verified = node.verify(&network, admitted.expect("admitted"));
    let verified = verified.expect("ours");
    enter_membership(&node.endpoint, &verified, &Entry::default()).expect("kept");
    let ours = |at: UnixTime| {
        let record = node.record(&network);
        let ours = OwnMembership::of(&record, &node.id()).expect("a membership");
        (
            ours.wants_renewal(at),
            concerns(&record, &node.id(), at).join("; "),
        )
    };
    assert_eq!(ours(TODAY), (false, String::new()));
    let held = verified.grant().membership[0].clone();
    let presented = [Fingerprint::of_certificate(&held)];
    let overlap = Duration::from_secs(60);
    let order = KeyOrder::default();
    let rolled = authority.roll_issuing(&root, &order, overlap, TODAY);
    rolled.expect("rolled");
    enter(&node, &bundle(&authority), &Entry::default()).expect("newer");
    let end = TODAY + overlap;
    let (wants, said) = ours(TODAY);
    assert!(wants);
    assert!(
        said.contains(&format!("issuing key ends at {end}")),
        "{said}"
    );
    let (wants, said) = ours(end + Duration::from_secs(1));
    assert!(wants);
    assert!(
        said.contains(&format!("issuing key ended at {end}")),
        "{said}"
    );
    // The one that comes takes its place, also where it ends sooner.
    let renewed = issuer.renew(&network, &node.root, None, &presented, TODAY);
    let renewed = renewed.expect("a member").expect("a new one");
    let verified = node.verify(&network, renewed).expect("ours");
    node.endpoint.take_grant(&verified).expect("taken");
    assert_eq!(ours(TODAY), (false, String::new()));
}

#[tokio::test(start_paused = true)]
async fn an_authority_is_kept_alive_while_the_node_runs() {
    let began = Instant::now();
    let node = Node::with_clock(Clock::new(move || TODAY + began.elapsed()));
    let mut authority = node.found("acme");
    let network = authority.network();
    let admission = Admission {
        lifetime: Some(2 * DAY),
        ..Admission::default()
    };
    let granted = authority
        .certify(&node.root, &admission, TODAY)
        .expect("certified");
    let end = granted.not_after;
    let grant = super::issuer::handed_out(&network, granted);
    let verified = node.verify(&network, grant).expect("ours");
    enter_membership(&node.endpoint, &verified, &Entry::default()).expect("kept");
    let (member, key) = stranger();
    authority
        .certify(&member, &Admission::default(), TODAY)
        .expect("certified");
    let before = bundle(&authority).sequence();
    let tasks = keep_authorities(&node.home, &node.endpoint);
    tokio::time::sleep(2 * DAY).await;
    let snapshot = node.endpoint.store().snapshot();
    let held = &snapshot.networks.get(&network).expect("the network").bundle;
    assert!(held.sequence() > before);
    assert!(held.issued() + DAY + Duration::from_secs(600) >= TODAY + began.elapsed());
    let ours = OwnMembership::of(&node.record(&network), &node.id()).expect("a membership");
    assert!(ours.not_after > end, "it was renewed");
    drop(tasks);
    // Whoever was not asked about keeps what it has.
    let issued = authority.find(&Selector::Key(key)).expect("readable");
    assert_eq!(issued.len(), 1);
}
