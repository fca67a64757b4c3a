//! The certificate profiles Comity mints and accepts, strict parsing of what peers present, and
//! the verification of CA paths.
//!
//! Everything here is a function of its arguments: no clock, no files, no entropy, no sockets.
//! Nothing here decides about trust; `comity-trust` does, from the evidence this crate prepares.
//!
//! - [`PresentedChain::parse`] takes apart what a peer presented, limits first.
//! - [`verify_ca_path`] verifies a chain below [`Anchor`]s, for those who trust a CA.
//! - [`authority_above`] says whether an authority that was revoked issued a chain.
//! - [`mint_authority_root`], [`mint_issuing`], [`mint_rollover`], [`mint_cross`] and
//!   [`mint_direct_leaf`] make what an authority signs; [`AuthorityCertificate`] reads its own.
//! - [`read_csr`] reads a request, [`describe`] says what any certificate is.
//! - [`mint_root`] and [`mint_leaf`] make a node's own certificates, in a profile that is checked
//!   byte by byte when a peer presents them.
//!
//! `docs/formats.md` describes the profile and the private extensions for other implementations.

mod anchor;
mod authority;
mod budget;
mod candidates;
mod chain;
mod cross;
mod csr;
mod describe;
pub mod federation;
mod keys;
pub mod limits;
mod lineage;
mod link;
mod metadata;
mod mint;
mod mint_authority;
mod mint_cross;
mod mint_direct;
mod names;
mod native;
pub mod oid;
mod parsed;
mod path;
mod renewal;
mod twin;
mod verify;

pub use anchor::{Anchor, AnchorError, CaFileError, certificates_in_pem};
pub use authority::{AuthorityCertificate, AuthorityFault, AuthorityKind, IssuerFault};
pub use chain::{ChainError, Form, Leaf, PresentedChain, Purpose, Usages};
pub use cross::{
    ConstraintFault, CrossCertificate, CrossError, CrossPath, Issued, MAX_CACHED_SIGNATURES,
    OwnPath, Rollover, SignatureCache, cross_paths, verify_cross_path, verify_own_path,
};
pub use csr::{Csr, CsrError, mint_csr, read_csr};
pub use describe::{CertificateKind, Constraints, Description, describe};
pub use keys::KeyFault;
pub use lineage::authority_above;
pub use link::{Link, link};
pub use metadata::{Metadata, MetadataError, is_label};
pub use mint::{LeafRequest, MintError, RootRequest, mint_leaf, mint_root};
pub use mint_authority::{
    AuthorityRootRequest, IssuingRequest, RolloverRequest, mint_authority_root, mint_issuing,
    mint_rollover,
};
pub use mint_cross::{CrossRequest, SubjectFault, mint_cross};
pub use mint_direct::{DirectLeafRequest, LeafSubject, mint_direct_leaf};
pub use names::{SanName, escape};
pub use native::{MAX_LEAF_VALIDITY, ProfileFault, read_root};
pub use parsed::CertificateFault;
pub use path::{CaError, CaPath, verify_ca_path};
pub use renewal::{CLOCK_TOLERANCE, LEAF_LIFETIME, LEAF_RENEW_AT, renewal_time};
