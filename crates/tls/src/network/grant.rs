//! Memberships: who gives them, and what their holder checks before it believes one.

use std::fmt;

use comity_certs::{ChainError, CrossError, CrossPath, PresentedChain, Purpose, Rollover};
use comity_identity::{Fingerprint, NodeId, UnixTime};
use comity_record::{Bundle, BundleError, SuccessionChain};
use comity_trust::Reason;
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
    /// Its bundle withdraws it.
    #[error("its own bundle withdraws it")]
    Withdrawn,
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
        if !bundle.standing(now).recognises() {
            return Err(GrantError::NotFresh {
                issued: bundle.issued(),
                expires: bundle.expires(),
            });
        }
        let chain = PresentedChain::parse(&credentials.chain_with(&grant.membership))?;
        let anchors = bundle.anchors(now);
        let path = comity_certs::verify_cross_path(
            &chain,
            anchors,
            Purpose::Serve,
            Rollover::Refused,
            now,
        )?;
        if path.cross.key != credentials.node_id().key_hash() {
            return Err(GrantError::WrongKey);
        }
        let is_withdrawn = path
            .issued
            .iter()
            .any(|issued| bundle.is_withdrawn(&issued.issuer_key, &issued.serial, &issued.key));
        match is_withdrawn {
            true => Err(GrantError::Withdrawn),
            false => Ok(Self {
                grant,
                bundle,
                path,
            }),
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
