//! What signed objects may cost us. Sizes are checked before anything is read, signatures are
//! verified last.

use std::time::Duration;

/// Bytes of one succession statement or key revocation.
///
/// With two P-256 keys and every field a succession statement has 496. Sixteen of 508 and their heads
/// fit into [`MAX_SUCCESSION_BYTES`].
pub const MAX_STATEMENT_BYTES: usize = 508;

/// Statements in one chain: a peer that was away for sixteen changes of key catches up.
pub const MAX_STATEMENTS: usize = 16;

/// Bytes of one chain, because it travels in the certificate of every handshake.
pub const MAX_SUCCESSION_BYTES: usize = comity_certs::limits::MAX_SUCCESSION_BYTES;

/// Bytes of a reason: one word, such as `routine` or `compromise`.
pub const MAX_REASON: usize = 16;

/// The longest time for which an old identity key may go on beside the new one. A peer that is away
/// for longer still catches up by the statement; only the old key's holder cannot.
pub const MAX_OVERLAP: Duration = Duration::from_secs(90 * 24 * 3600);

/// Bytes of one bundle: sixteen charters of 32 keys, 10 000 withdrawals of 66 bytes, and room.
pub const MAX_BUNDLE_BYTES: usize = 1024 * 1024;

/// Charters in one bundle: the founding one, the present one, and one for each change of the roots
/// between them. With three for each change of root every twenty years that is a century.
pub const MAX_CHARTERS: usize = 16;

/// Keys in one charter, revoked ones included, which stay in it for ever. The worst bundle makes us
/// verify [`MAX_CHARTERS`] times as many signatures, and those under the charters: about 60 ms. A
/// stranger cannot ask for it, because a reader knows which network it wants
/// ([`Bundle::parse_of`](crate::Bundle::parse_of)) and begins at the key that the id names.
pub const MAX_CHARTER_KEYS: usize = 32;

/// Bytes of one charter: 32 certificates of 2 kB each, three times what they have.
pub const MAX_CHARTER_BYTES: usize = 64 * 1024;

/// Signatures under one charter: a root that may, and every root that is new in it.
pub const MAX_CHARTER_SIGNATURES: usize = 8;

/// Withdrawals in one bundle. An authority of 100 000 members that withdraws a tenth of them.
pub const MAX_WITHDRAWALS: usize = 10_000;

/// Withdrawals that are remembered of one key of an authority, over all bundles that it signed: a
/// stolen one could otherwise fill the disk with them. A key that has signed so many is replaced.
pub const MAX_REMEMBERED_WITHDRAWALS: usize = 100_000;

/// Bytes of a serial number (RFC 5280 section 4.1.2.2).
pub const MAX_SERIAL: usize = 20;

/// How far the sequence of a bundle or charter may be ahead of the seconds in its own time of issue.
/// Without it one bundle by a stolen key uses all sequences up; with it a thief who dates a bundle
/// into the far future gains one that recognises nobody.
pub const MAX_SEQUENCE_LEAD: u64 = 1 << 32;

/// Places from which a bundle can be fetched. Each may be tried in turn at every refresh.
pub const MAX_LOCATIONS: usize = 8;

/// Bytes of the text of one location.
pub const MAX_LOCATION: usize = 512;

/// The longest life of a bundle. A withdrawal that is kept from a reader is unknown to it for no
/// longer.
pub const MAX_BUNDLE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// The least time between two fetches that a bundle may ask for: what SPIFFE suggests.
pub const MIN_REFRESH: Duration = Duration::from_secs(300);
