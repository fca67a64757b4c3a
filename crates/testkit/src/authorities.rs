//! A factory of networks: authorities with their keys, charters and bundles, their members, and
//! organisations whose leaves carry the name of their root. Minted for [`TODAY`].

use std::sync::Arc;
use std::time::Duration;

use comity_certs::{
    AuthorityRootRequest, CrossRequest, DirectLeafRequest, IssuingRequest, LeafSubject, Metadata,
    Purpose, mint_authority_root, mint_cross, mint_direct_leaf, mint_issuing,
};
use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime};
use comity_record::{
    Bundle, BundleRequest, Charter, CharterKey, CharterRequest, KeyState, Withdrawal, Withdrawn,
    WithdrawnWhat,
};
use comity_trust::{Authority, Standing};

use crate::certificates::{
    Credential, DAY, RawCertificate, TODAY, TestKey, content, random_serial,
};

/// A key of an authority, and its certificate.
pub struct Held {
    /// The key.
    pub key: TestKey,
    /// The certificate.
    pub der: Vec<u8>,
}

impl Held {
    /// The hash of the key.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of_spki(self.key.spki())
    }
}

/// The authority of a network: an organisation.
pub struct Organisation {
    /// What it calls its network.
    pub name: String,
    /// The founding root.
    pub root: Held,
    /// The issuing keys, below the founding root.
    pub issuing: Vec<Held>,
    /// The states of all keys, the root's first.
    states: Vec<KeyState>,
    charters: Vec<Charter>,
    withdrawn: Vec<Withdrawal>,
    /// When its next bundle is made.
    pub issued: UnixTime,
    /// How long that bundle lives.
    pub lifetime: Duration,
}

/// What a cross-certificate shall say.
#[derive(Clone)]
pub struct CrossOptions {
    /// The networks that it names.
    pub networks: Vec<String>,
    /// The roles that it attests.
    pub roles: Vec<String>,
    /// Last second of validity.
    pub not_after: UnixTime,
}

impl Default for CrossOptions {
    /// For a year, without networks and roles.
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            roles: Vec::new(),
            not_after: TODAY + 365 * DAY,
        }
    }
}

impl CrossOptions {
    /// These roles.
    pub fn roles(roles: &[&str]) -> Self {
        Self {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Self::default()
        }
    }
}

impl Organisation {
    /// An authority with one issuing key that may attest anything.
    pub fn new(name: &str) -> Self {
        Self::with_scope(name, &Metadata::default())
    }

    /// An authority with one issuing key that may attest what `scope` names.
    pub fn with_scope(name: &str, scope: &Metadata) -> Self {
        let key = TestKey::generate(Algorithm::EcdsaP256);
        let request = AuthorityRootRequest {
            serial: random_serial(),
            not_before: TODAY - DAY,
            not_after: TODAY + 20 * 365 * DAY,
        };
        let der = mint_authority_root(&key, &request).expect("a sound request");
        let mut organisation = Self {
            name: name.to_owned(),
            root: Held { key, der },
            issuing: Vec::new(),
            states: vec![KeyState::Active],
            charters: Vec::new(),
            withdrawn: Vec::new(),
            issued: TODAY - DAY,
            lifetime: 30 * DAY,
        };
        organisation.add_issuing(scope);
        organisation
    }

    /// The id of its network.
    pub fn id(&self) -> NodeId {
        NodeId::from_bytes(*self.root.hash().as_bytes())
    }

    /// One more issuing key, active, in a new charter. Returns its place.
    pub fn add_issuing(&mut self, scope: &Metadata) -> usize {
        self.add_issuing_as(scope, KeyState::Active)
    }

    /// One more issuing key in the given state, in a new charter. Returns its place.
    pub fn add_issuing_as(&mut self, scope: &Metadata, state: KeyState) -> usize {
        let key = TestKey::generate(Algorithm::EcdsaP256);
        let der = self.issuing_certificate(&key, scope);
        self.issuing.push(Held { key, der });
        self.states.push(state);
        self.publish_charter();
        self.issuing.len() - 1
    }

    /// An issuing certificate below the root that is in no charter.
    pub fn issuing_certificate(&self, key: &TestKey, scope: &Metadata) -> Vec<u8> {
        let request = IssuingRequest {
            spki: key.spki(),
            serial: random_serial(),
            not_before: TODAY - DAY,
            not_after: TODAY + 2 * 365 * DAY,
            path_length: 1,
            scope,
            dns: &[],
        };
        mint_issuing(&self.root.der, &self.root.key, &request).expect("a sound request")
    }

    /// Another state for an issuing key, in a new charter.
    pub fn set_state(&mut self, issuing: usize, state: KeyState) {
        self.states[issuing + 1] = state;
        self.publish_charter();
    }

    /// Lists the certificates of others as its own issuing keys: what a hostile authority might do.
    pub fn claim(&mut self, key: &TestKey) {
        let der = self.issuing_certificate(key, &Metadata::default());
        let key = TestKey::of_pkcs8(&key.pkcs8());
        self.issuing.push(Held { key, der });
        self.states.push(KeyState::Active);
        self.publish_charter();
    }

    fn publish_charter(&mut self) {
        let held = std::iter::once(&self.root).chain(&self.issuing);
        let keys = held.zip(&self.states).map(|(held, state)| CharterKey {
            state: *state,
            certificate: held.der.clone(),
            proof: CharterKey::proof(&held.key, &self.id()).expect("a software key"),
        });
        let request = CharterRequest {
            network: self.id(),
            sequence: self.charters.last().map_or(1, |last| last.sequence() + 1),
            issued: TODAY - DAY,
            keys: keys.collect(),
        };
        let charter = request.sign(&[&self.root.key]).expect("a sound charter");
        self.charters = Charter::append(&self.charters, charter).expect("a sound history");
    }

    /// A cross-certificate by the first issuing key for the root of somebody else.
    pub fn certify(&self, root: &[u8], options: &CrossOptions) -> Vec<u8> {
        Self::certify_by(&self.issuing[0], root, options)
    }

    /// A cross-certificate by a given key.
    pub fn certify_by(issuer: &Held, root: &[u8], options: &CrossOptions) -> Vec<u8> {
        let (networks, roles) = (options.networks.clone(), options.roles.clone());
        let request = CrossRequest {
            root,
            serial: random_serial(),
            not_before: TODAY - DAY,
            not_after: options.not_after,
            metadata: &Metadata::new(networks, roles, Vec::new()).expect("sound metadata"),
        };
        mint_cross(&issuer.der, &issuer.key, &request).expect("a sound request")
    }

    /// Withdraws a certificate, whoever issued it.
    pub fn withdraw(&mut self, issuer: KeyHash, certificate: &[u8]) {
        let serial = serial_of(certificate);
        self.withdrawn.push(Withdrawal {
            what: WithdrawnWhat::Certificate { issuer, serial },
            at: TODAY,
        });
    }

    /// Withdraws every certificate for a key.
    pub fn withdraw_key(&mut self, key: KeyHash) {
        self.withdrawn.push(Withdrawal {
            what: WithdrawnWhat::Key(key),
            at: TODAY,
        });
    }

    /// What it publishes now, signed by the root.
    pub fn bundle(&self) -> Bundle {
        let request = BundleRequest {
            name: self.name.clone(),
            sequence: 1,
            issued: self.issued,
            expires: self.issued + self.lifetime,
            refresh: DAY,
            locations: Vec::new(),
            charters: self.charters.clone(),
            withdrawn: self.withdrawn.clone(),
        };
        request.sign(&self.root.key).expect("a sound bundle")
    }

    /// What a node knows of it that calls it as it calls itself.
    pub fn authority(&self, standing: Standing) -> Authority {
        let mut withdrawn = Withdrawn::new();
        withdrawn
            .extend(self.root.hash(), &self.withdrawn)
            .expect("few");
        Authority {
            label: self.name.clone(),
            standing,
            bundle: Arc::new(self.bundle()),
            withdrawn: Arc::new(withdrawn),
            forked: None,
        }
    }

    /// A leaf that its root issued in its own name: for both directions.
    pub fn leaf(&self) -> Credential {
        self.leaf_naming(&[], &[])
    }

    /// The same with names of hosts and URIs.
    pub fn leaf_naming(&self, dns: &[&str], uris: &[&str]) -> Credential {
        self.leaf_of(LeafSubject::AsIssuer, dns, uris)
    }

    /// A leaf that its root issued in another name, which nobody permitted it.
    pub fn leaf_in_the_name_of(&self, common_name: &str) -> Credential {
        self.leaf_of(LeafSubject::CommonName(common_name), &[], &[])
    }

    fn leaf_of(&self, subject: LeafSubject<'_>, dns: &[&str], uris: &[&str]) -> Credential {
        let owned =
            |list: &[&str]| -> Vec<String> { list.iter().map(|item| (*item).to_owned()).collect() };
        let key = TestKey::generate(Algorithm::EcdsaP256);
        let request = DirectLeafRequest {
            subject,
            spki: key.spki(),
            purposes: &[Purpose::Serve, Purpose::Dial],
            serial: random_serial(),
            not_before: TODAY - DAY,
            not_after: TODAY + 30 * DAY,
            dns: &owned(dns),
            ips: &[],
            uris: &owned(uris),
            metadata: &Metadata::default(),
        };
        let leaf = mint_direct_leaf(&self.root.der, &self.root.key, &request);
        Credential {
            chain: vec![leaf.expect("a sound request")],
            key: key.pkcs8(),
        }
    }
}

/// The content of a certificate's serial number.
pub fn serial_of(certificate: &[u8]) -> Vec<u8> {
    content(&RawCertificate::of(certificate).serial).to_vec()
}

impl Credential {
    /// As a member presents it: behind the leaf what authorities gave it, its own root last.
    pub fn with_memberships(&self, certificates: &[&[u8]]) -> Vec<Vec<u8>> {
        let (leaf, root) = self.chain.split_first().expect("a leaf");
        let given = certificates.iter().map(|der| der.to_vec());
        std::iter::once(leaf.clone())
            .chain(given)
            .chain(root.iter().cloned())
            .collect()
    }
}
