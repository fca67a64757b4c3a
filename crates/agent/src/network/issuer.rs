//! Making peers members, for `comity serve`: the authorities of this home behind
//! [`comity_tls::network::Issuer`].

use std::sync::Arc;

use comity_authority::{Admission, Authority, AuthorityError, MEMBER, Selector};
use comity_certs::{Anchor, Metadata};
use comity_identity::{Fingerprint, KeyHash, NodeId, PeerId, UnixTime};
use comity_record::SuccessionChain;
use comity_store::{AuthorityFiles, Home, PeerStore, StoreError};
use comity_tls::network::{Grant, Issuer};
use comity_trust::Reason;

/// What admissions are logged under.
const COMMAND: &str = "comity serve";

/// The authorities of a home, which may come and go while it is used.
#[derive(Debug)]
pub struct HomeIssuer {
    home: Home,
    store: Arc<PeerStore>,
}

impl HomeIssuer {
    /// Issues for every authority in `home`. `store` says what joiners are called here.
    pub fn new(home: &Home, store: Arc<PeerStore>) -> Self {
        Self {
            home: home.clone(),
            store,
        }
    }

    fn open(&self, network: &NodeId) -> Result<Authority, Reason> {
        let all =
            AuthorityFiles::list(&self.home).map_err(|error| reason(network, &error.into()))?;
        if !all.contains(network) {
            return Err(Reason::WrongNetwork);
        }
        let opened = Authority::open(&self.home, *network, COMMAND);
        opened.map_err(|error| reason(network, &error))
    }

    /// What a joiner is called here, whom nobody gave a label: it was entered a moment ago.
    fn label_of(&self, key: KeyHash) -> Option<String> {
        let peer = PeerId::Node(NodeId::from_bytes(*key.as_bytes()));
        let snapshot = self.store.poll_changes();
        let mut entries = snapshot.known.pins_of(peer);
        entries.find_map(|(_, entry)| entry.names.label().map(ToString::to_string))
    }
}

impl Issuer for HomeIssuer {
    fn admit(
        &self,
        network: &NodeId,
        root: &[u8],
        roles: &[String],
        label: Option<&str>,
        now: UnixTime,
    ) -> Result<Grant, Reason> {
        let mut authority = self.open(network)?;
        let fault = |error: AuthorityError| reason(network, &error);
        // A joiner takes no bundle that is too old to recognise it by.
        authority.refresh(now).map_err(fault)?;
        let key = Anchor::from_der(root).map_err(|_| Reason::Malformed)?.key();
        let held = Held::of(&authority, key, now).map_err(fault)?;
        let mut admission = Admission {
            label: label
                .map(str::to_owned)
                .or(held.label)
                .or_else(|| self.label_of(key))
                // Ours may have capitals, and what stands in certificates has none.
                .map(|label| label.to_lowercase())
                .filter(|label| comity_certs::is_label(label)),
            roles: held.roles,
            ..Admission::default()
        };
        // A second invitation adds to the first.
        for role in roles {
            if !admission.roles.contains(role) {
                admission.roles.push(role.clone());
            }
        }
        let admitted = match authority.certify(root, &admission, now) {
            // The invitation is used up by now: a label is no reason to leave its holder outside.
            Err(AuthorityError::LabelTaken { label, .. }) => {
                admission.label = Some(beside(&label, key));
                authority.certify(root, &admission, now)
            }
            admitted => admitted,
        };
        let grant = admitted.map_err(fault)?;
        tracing::info!(
            network = authority.name(), member = %key.short(), roles = admission.roles.join(","),
            "admitted a member"
        );
        Ok(handed_out(network, grant))
    }

    fn renew(
        &self,
        network: &NodeId,
        root: &[u8],
        succession: Option<&SuccessionChain>,
        presented: &[Fingerprint],
        now: UnixTime,
    ) -> Result<Option<Grant>, Reason> {
        let mut authority = match self.open(network) {
            // Another member of a network that we only are in.
            Err(Reason::WrongNetwork) => return Ok(None),
            opened => opened?,
        };
        let renewed = authority.renew(root, succession, presented, now);
        let renewed = renewed.map_err(|error| reason(network, &error))?;
        Ok(renewed.map(|grant| handed_out(network, grant)))
    }
}

/// What a key was certified for before.
#[derive(Default)]
struct Held {
    label: Option<String>,
    roles: Vec<String>,
}

impl Held {
    fn of(authority: &Authority, key: KeyHash, now: UnixTime) -> Result<Self, AuthorityError> {
        let mut held = Self::default();
        for certificate in authority.find(&Selector::Key(key))? {
            let about = &certificate.about;
            if about.template != MEMBER || certificate.der.is_empty() || !certificate.counts(now) {
                continue;
            }
            held.label = Some(about.label.clone());
            let attested = Metadata::from_der(&about.attested).unwrap_or_default();
            for role in attested.roles() {
                if !held.roles.contains(role) {
                    held.roles.push(role.clone());
                }
            }
        }
        Ok(held)
    }
}

pub(crate) fn handed_out(network: &NodeId, grant: comity_authority::Grant) -> Grant {
    Grant {
        network: *network,
        membership: grant.membership,
        bundle: grant.bundle,
    }
}

/// A label that is another member's, with the beginning of the key behind it.
fn beside(label: &str, key: KeyHash) -> String {
    let room = comity_certs::limits::MAX_METADATA_LABEL.saturating_sub(9);
    let label: String = label.chars().take(room).collect();
    format!("{label}-{}", &key.to_hex()[..8])
}

/// What a peer is told, and what stands in the log.
fn reason(network: &NodeId, error: &AuthorityError) -> Reason {
    let reason = match error {
        AuthorityError::Withdrawn(_) | AuthorityError::Revoked { .. } => Reason::Revoked,
        AuthorityError::FromTheFuture { .. } => Reason::NotYetValid,
        AuthorityError::Replayed { .. } => Reason::Superseded,
        AuthorityError::TooOften { .. } => Reason::Busy,
        AuthorityError::NotARoot { .. } | AuthorityError::Metadata(_) => Reason::Malformed,
        AuthorityError::Forked { .. } => Reason::Forked,
        AuthorityError::NotFound(_) | AuthorityError::NoSuccessor(_) => Reason::NotAuthorised,
        AuthorityError::Mint(_) | AuthorityError::PastIssuer { .. } => Reason::OutOfScope,
        AuthorityError::NoIssuingKey | AuthorityError::Sealed(_) => Reason::WrongNetwork,
        AuthorityError::Store(StoreError::Missing { .. }) => Reason::WrongNetwork,
        _ => Reason::StoreError,
    };
    match reason {
        Reason::Revoked
        | Reason::NotAuthorised
        | Reason::Malformed
        | Reason::NotYetValid
        | Reason::Superseded
        | Reason::Busy => {
            tracing::debug!(network = %network.short(), %error, "no membership");
        }
        _ => tracing::error!(network = %network.short(), %error, "a member could not be admitted"),
    }
    reason
}
