//! A network and its authority, in memory: whom it certifies and what it withdraws, a test says.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_certs::{
    AuthorityRootRequest, CrossRequest, IssuingRequest, Metadata, mint_authority_root, mint_cross,
    mint_issuing,
};
use comity_identity::{Algorithm, Fingerprint, NodeId, Signer, UnixTime};
use comity_record::{
    Bundle, BundleRequest, Charter, CharterKey, CharterRequest, KeyState, SuccessionChain,
    Withdrawal, Withdrawn, WithdrawnWhat,
};
use comity_store::NetworkRecord;
use comity_tls::network::{Grant, Issuer};
use comity_trust::{Reason, Standing};

use crate::certificates::{DAY, TODAY, TestKey, random_serial};
use crate::world::Machine;

/// How long a root of a network is good for in these tests, and everything below it.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// An authority with a founding root and one issuing key.
pub struct Network {
    /// The founding root's key.
    pub root_key: TestKey,
    /// The founding root.
    pub root: Vec<u8>,
    /// The issuing key.
    pub issuing_key: TestKey,
    /// Its certificate.
    pub issuing: Vec<u8>,
    state: Mutex<State>,
}

struct State {
    request: BundleRequest,
    /// Signed once: two signatures under one sequence would be a fork.
    bundle: Bundle,
    /// Whom [`Issuer::admit`] refuses, and how often it was asked.
    refused: Vec<NodeId>,
    admitted: usize,
    /// Whether [`Issuer::renew`] gives a new membership.
    renews: bool,
    /// The memberships that it gave, which want no renewal.
    renewed: Vec<Fingerprint>,
    /// How often [`Issuer::renew`] was asked.
    asked: usize,
}

impl Network {
    /// A network of this name, founded on the day of the tests.
    pub fn new(name: &str) -> Self {
        let (root_key, issuing_key) = (key(), key());
        let request = AuthorityRootRequest {
            serial: random_serial(),
            not_before: TODAY,
            not_after: TODAY + 2 * LIFETIME,
        };
        let root = mint_authority_root(&root_key, &request).expect("a sound request");
        let issuing = delegate(&root, &root_key, &issuing_key);
        let charter = CharterRequest {
            network: NodeId::of_spki(root_key.spki()),
            sequence: 1,
            issued: TODAY,
            keys: [(&root, &root_key), (&issuing, &issuing_key)]
                .map(|(certificate, key)| CharterKey {
                    state: KeyState::Active,
                    certificate: certificate.clone(),
                    proof: CharterKey::proof(key, &NodeId::of_spki(root_key.spki()))
                        .expect("a software key"),
                })
                .to_vec(),
        };
        let request = BundleRequest {
            name: name.to_owned(),
            sequence: 1,
            issued: TODAY,
            expires: TODAY + 30 * DAY,
            refresh: DAY,
            locations: Vec::new(),
            charters: vec![charter.sign(&[&root_key]).expect("a sound request")],
            withdrawn: Vec::new(),
        };
        let bundle = request.sign(&issuing_key).expect("a sound request");
        Self {
            root_key,
            root,
            issuing_key,
            issuing,
            state: Mutex::new(State {
                request,
                bundle,
                refused: Vec::new(),
                admitted: 0,
                renews: false,
                renewed: Vec::new(),
                asked: 0,
            }),
        }
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        NodeId::of_spki(self.root_key.spki())
    }

    /// Its newest bundle.
    pub fn bundle(&self) -> Bundle {
        self.state().bundle.clone()
    }

    /// A bundle as the newest one, but for these changes. It is not remembered.
    pub fn published(&self, change: impl FnOnce(&mut BundleRequest)) -> Bundle {
        let mut request = self.state().request.clone();
        change(&mut request);
        request.sign(&self.issuing_key).expect("a sound request")
    }

    /// The next bundle, with these changes.
    pub fn publish(&self, change: impl FnOnce(&mut BundleRequest)) -> Bundle {
        let mut state = self.state();
        state.request.sequence += 1;
        change(&mut state.request);
        state
            .request
            .sign(&self.issuing_key)
            .expect("a sound request")
    }

    /// The next bundle, which withdraws everything for this node.
    pub fn withdraw(&self, node: &NodeId) -> Bundle {
        let withdrawal = Withdrawal {
            what: WithdrawnWhat::Key(node.key_hash()),
            at: TODAY,
        };
        self.publish(|request| request.withdrawn.push(withdrawal))
    }

    /// A membership for whoever has this root: the cross-certificate and what is above it.
    pub fn certify(&self, root: &[u8], roles: &[&str]) -> Vec<Vec<u8>> {
        self.certify_until(root, roles, TODAY + LIFETIME / 2)
    }

    /// The same, until then.
    pub fn certify_until(&self, root: &[u8], roles: &[&str], end: UnixTime) -> Vec<Vec<u8>> {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let name = self.state().request.name.clone();
        let metadata = Metadata::new(vec![name], roles, vec![]).expect("within limits");
        let request = CrossRequest {
            root,
            serial: random_serial(),
            not_before: TODAY,
            not_after: end,
            metadata: &metadata,
        };
        let cross = mint_cross(&self.issuing, &self.issuing_key, &request);
        vec![cross.expect("a sound request"), self.issuing.clone()]
    }

    /// Whom the issuer refuses from now on.
    pub fn refuse(&self, node: NodeId) {
        self.state().refused.push(node);
    }

    /// Lets the issuer renew memberships.
    pub fn renew_all(&self) {
        self.state().renews = true;
    }

    /// How often somebody was admitted.
    pub fn admitted(&self) -> usize {
        self.state().admitted
    }

    /// How often somebody asked for a renewal.
    pub fn asked(&self) -> usize {
        self.state().asked
    }

    /// The next bundle, with a new charter that changes nothing.
    pub fn amend_charter(&self) -> Bundle {
        self.publish(|request| {
            let last = request.charters.last().expect("the founding one");
            let charter = CharterRequest {
                network: self.id(),
                sequence: last.sequence() + 1,
                issued: TODAY,
                keys: last
                    .keys()
                    .iter()
                    .map(|key| CharterKey {
                        state: key.state,
                        certificate: key.details().der().to_vec(),
                        proof: key.proof().to_vec(),
                    })
                    .collect(),
            };
            let charter = charter.sign(&[&self.root_key]).expect("a sound request");
            let history = Charter::append(&request.charters, charter);
            request.charters = history.expect("a sound history");
        })
    }

    fn grant(&self, root: &[u8], roles: &[String]) -> Grant {
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        Grant {
            network: self.id(),
            membership: self.certify(root, &roles),
            bundle: self.bundle().bytes().to_vec(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Issuer for Network {
    fn admit(
        &self,
        network: &NodeId,
        root: &[u8],
        roles: &[String],
        _label: Option<&str>,
        _now: UnixTime,
    ) -> Result<Grant, Reason> {
        if *network != self.id() {
            return Err(Reason::WrongNetwork);
        }
        let anchor = comity_certs::Anchor::from_der(root).map_err(|_| Reason::Malformed)?;
        let is_refused = |node: &NodeId| node.key_hash() == anchor.key();
        if self.state().refused.iter().any(is_refused) {
            return Err(Reason::Revoked);
        }
        self.state().admitted += 1;
        Ok(self.grant(root, roles))
    }

    fn renew(
        &self,
        network: &NodeId,
        root: &[u8],
        _succession: Option<&SuccessionChain>,
        presented: &[Fingerprint],
        _now: UnixTime,
    ) -> Result<Option<Grant>, Reason> {
        self.state().asked += 1;
        let is_new = |known: &Fingerprint| presented.contains(known);
        let renews = self.state().renews && *network == self.id();
        if !renews || self.state().renewed.iter().any(is_new) {
            return Ok(None);
        }
        let grant = self.grant(root, &[]);
        let renewed = Fingerprint::of_certificate(&grant.membership[0]);
        self.state().renewed.push(renewed);
        Ok(Some(grant))
    }
}

/// The record by which a home knows this network.
pub fn record_of(network: &Network, label: &str, membership: Vec<Vec<u8>>) -> NetworkRecord {
    NetworkRecord {
        network: network.id(),
        label: label.to_owned(),
        standing: Standing::Recognised,
        bundle: network.bundle().bytes().to_vec(),
        membership,
        withdrawn: Withdrawn::new(),
        forked: None,
        rival: None,
        added: TODAY,
        refreshed: TODAY,
        source: None,
    }
}

impl Machine {
    /// Recognises the members of a network from now on, and is called a member of it by them if
    /// it has a membership.
    pub fn enters(&self, network: &Network, label: &str, membership: Vec<Vec<u8>>) {
        let added = self
            .endpoint
            .networks()
            .add(record_of(network, label, membership));
        added.expect("a sound record");
        self.endpoint.store().poll_changes();
        self.endpoint.present_memberships().expect("readable");
    }

    /// The same machine, where this network makes peers its members.
    #[must_use]
    pub fn with_issuer(mut self, network: Arc<Network>) -> Self {
        self.endpoint = self.endpoint.clone().with_issuer(network);
        self
    }

    /// Becomes a member of a network with these roles.
    pub fn becomes_member(&self, network: &Network, label: &str, roles: &[&str]) {
        self.enters(network, label, network.certify(&self.node.root, roles));
    }
}

fn key() -> TestKey {
    TestKey::generate(Algorithm::EcdsaP256)
}

fn delegate(root: &[u8], root_key: &TestKey, issuing_key: &TestKey) -> Vec<u8> {
    let request = IssuingRequest {
        spki: issuing_key.spki(),
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + LIFETIME,
        path_length: 1,
        scope: &Metadata::default(),
        dns: &[],
    };
    mint_issuing(root, root_key, &request).expect("a sound request")
}
