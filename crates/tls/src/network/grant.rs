//! Memberships: who gives them, and what their holder checks before it believes one.

use std::fmt;

use comity_certs::{
    Anchor, ChainError, CrossError, CrossPath, Issued, PresentedChain, Purpose, Rollover,
};
use comity_identity::{Fingerprint, KeyHash, NodeId, UnixTime};
use comity_record::{Bundle, BundleError, KeyState, SuccessionChain};
use comity_trust::{Authority, Reason};
use thiserror::Error;

use crate::credentials::Credentials;
use crate::network::wire::Grant;

/// Whoever certifies members: an authority, as a connection sees it. Calls block.
pub trait Issuer: Send + Sync {
    /// Makes the node of `root`, a certificate in DER, a member. It is called once the invitation
    /// belongs to that node for good, and again if the node asks again: it then answers with the
    /// membership that the node has, or one that is as good.
    ///
    /// # Errors
    /// Why the peer gets none, such as [`Reason::WrongNetwork`] for a network that is not ours, or
    /// [`Reason::Revoked`] for a key that was withdrawn.
    fn admit(
        &self,
        network: &NodeId,
        root: &[u8],
        roles: &[String],
        label: Option<&str>,
        now: UnixTime,
    ) -> Result<Grant, Reason>;

    /// Renews the membership of the node of `root`, if it is a member and its membership wants
    /// renewal. A node with another key than before proves by `succession` whose place it takes.
    ///
    /// `presented` are the certificates that it has shown. A membership that is not among them was
    /// perhaps lost on its way, and is given again.
    ///
    /// # Errors
    /// Why the peer gets none. It is not told.
    fn renew(
        &self,
        network: &NodeId,
        root: &[u8],
        succession: Option<&SuccessionChain>,
        presented: &[Fingerprint],
        now: UnixTime,
    ) -> Result<Option<Grant>, Reason>;
}

/// An [`Issuer`] that an endpoint has, or has not.
#[derive(Clone, Default)]
pub(crate) struct Issuers(Option<std::sync::Arc<dyn Issuer>>);

impl Issuers {
    pub(crate) fn of(issuer: std::sync::Arc<dyn Issuer>) -> Self {
        Self(Some(issuer))
    }

    pub(crate) fn get(&self) -> Option<&dyn Issuer> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuers({})", self.0.is_some())
    }
}

/// A grant whose holder is a member by it.
#[derive(Clone, Debug)]
pub struct VerifiedGrant {
    grant: Grant,
    bundle: Bundle,
    path: CrossPath,
}

/// Why a grant makes nobody a member.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GrantError {
    /// It is of another network than was asked for.
    #[error("it is of network {}, and {} was asked for", found.short(), expected.short())]
    WrongNetwork {
        /// What was asked for.
        expected: NodeId,
        /// What came.
        found: NodeId,
    },
    /// Its bundle cannot be believed.
    #[error("its bundle does not hold: {0}")]
    Bundle(#[from] BundleError),
    /// Its bundle is too old to recognise a member by, or of the future.
    #[error("its bundle is good from {issued} to {expires}")]
    NotFresh {
        /// When it was made.
        issued: UnixTime,
        /// When it ends.
        expires: UnixTime,
    },
    /// It is larger than what peers accept from us.
    #[error("its certificates do not fit into a chain: {0}")]
    Chain(#[from] ChainError),
    /// Its certificates do not make us a member.
    #[error("its certificate does not hold for us: {0}")]
    Path(#[from] CrossError),
    /// Its certificate is for another key.
    #[error("its certificate is for another node")]
    WrongKey,
    /// It is withdrawn.
    #[error("it is withdrawn")]
    Withdrawn,
    /// It is older than the one that we have for the same key.
    #[error("it ends at {found}, and the one that we have ends at {held} and is newer")]
    Older {
        /// When the one that we have ends.
        held: UnixTime,
        /// When it ends itself.
        found: UnixTime,
    },
}

impl VerifiedGrant {
    /// Verifies that `grant` makes us a member of `network` now: as a peer will, with the chain that
    /// we would present.
    ///
    /// # Errors
    /// See [`GrantError`].
    pub fn verify(
        grant: Grant,
        network: &NodeId,
        credentials: &Credentials,
        now: UnixTime,
    ) -> Result<Self, GrantError> {
        let bundle = Bundle::parse(&grant.bundle)?;
        for found in [grant.network, bundle.network()] {
            if found != *network {
                let expected = *network;
                return Err(GrantError::WrongNetwork { expected, found });
            }
        }
        let path = path_below(&bundle, &grant.membership, credentials, now)?;
        Ok(Self {
            grant,
            bundle,
            path,
        })
    }

    /// Verifies that the membership holds by all that we know of its authority, and not only by the
    /// bundle that came with it, and is not older than `held`, which we have. A bundle stays true for
    /// a month and a certificate for longer: whoever kept an old grant could take a newer membership
    /// away with it, or bring back one that was withdrawn.
    ///
    /// # Errors
    /// See [`GrantError`].
    pub(crate) fn follows(
        &self,
        held: &[Vec<u8>],
        authority: &Authority,
        credentials: &Credentials,
        now: UnixTime,
    ) -> Result<(), GrantError> {
        let membership = |certificates| {
            let path = path_below(&authority.bundle, certificates, credentials, now)?;
            let withdrawn = |i: &Issued| {
                let withdrawn = &authority.withdrawn;
                withdrawn.contains(&i.issuer_key, &i.serial, &i.key)
            };
            if path.issued.iter().any(withdrawn) {
                return Err(GrantError::Withdrawn);
            }
            let issued = path.issued.iter().find(|i| i.key == path.cross.key);
            let state = issued.and_then(|i| authority.bundle.key_state(&i.issuer_key));
            // One by a key that retires counts until that one's end, whatever stands in it.
            let is_lasting = state == Some(KeyState::Active);
            Ok((is_lasting, path.cross.not_after, path.cross.not_before))
        };
        let offered = membership(&self.grant.membership)?;
        // One that does not hold any more is worth nothing, however long it was to last.
        match membership(held) {
            Ok(held) if held > offered => Err(GrantError::Older {
                held: held.1,
                found: offered.1,
            }),
            _ => Ok(()),
        }
    }

    /// The network's bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The path by which peers will recognise us.
    pub fn path(&self) -> &CrossPath {
        &self.path
    }

    /// The certificates as they came, for the store.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
}

/// The path by which `bundle` makes us a member with what we would present of `certificates`.
fn path_below(
    bundle: &Bundle,
    certificates: &[Vec<u8>],
    credentials: &Credentials,
    now: UnixTime,
) -> Result<CrossPath, GrantError> {
    if !bundle.standing(now).recognises() {
        return Err(GrantError::NotFresh {
            issued: bundle.issued(),
            expires: bundle.expires(),
        });
    }
    let key = credentials.node_id().key_hash();
    let presented = presented(certificates, key);
    let chain = PresentedChain::parse(&credentials.chain_with(&presented))?;
    let anchors = bundle.anchors(now);
    let purpose = Purpose::Serve;
    let path = comity_certs::verify_cross_path(&chain, anchors, purpose, Rollover::Refused, now)?;
    if path.cross.key != key {
        return Err(GrantError::WrongKey);
    }
    let withdrawn = |i: &Issued| bundle.is_withdrawn(&i.issuer_key, &i.serial, &i.key);
    match path.issued.iter().any(withdrawn) {
        true => Err(GrantError::Withdrawn),
        false => Ok(path),
    }
}

/// Without all cross-certificates for `key` but the one that counts: the one that ends last.
fn presented(certificates: &[Vec<u8>], key: KeyHash) -> Vec<Vec<u8>> {
    let ours = |der: &Vec<u8>| Anchor::from_der(der).ok().filter(|a| a.key() == key);
    let dates = |der: &Vec<u8>| ours(der).map(|a| (a.not_after(), a.not_before()));
    let newest = certificates.iter().filter_map(dates).max();
    let others = |der: &&Vec<u8>| dates(der).is_none_or(|found| Some(found) == newest);
    certificates.iter().filter(others).cloned().collect()
}
