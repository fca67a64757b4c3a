//! What a stranger's certificates may cost us. Everything is checked before it is looked at
//! closely, in the order certificates, bytes, names.

/// Certificates in one presented chain.
///
/// A native chain has two, and one more for each cross-certificate; public CAs send at most four.
/// Eight leaves room for a rollover. It does not bound path building: eight certificates that name
/// one another can be put in thousands of orders, which [`MAX_SAME_SUBJECT`] prevents.
pub const MAX_CERTIFICATES: usize = 8;

/// Presented certificates with one and the same subject that are tried on a path to a trusted CA.
///
/// An authority that changes its key or is cross-certified has two. Of more, those count whose key
/// identifiers fit; a chain that has no path among the first of these is too complex. With two of each name there are
/// at most 39 orders to try (three names with two certificates each, and one more), a few hundred
/// microseconds without signatures.
pub const MAX_SAME_SUBJECT: usize = 2;

/// Signatures verified in one search for a trusted CA, and in asking whether one revoked authority
/// issued a chain.
///
/// The longest path has seven, and every authority of the same name and every second certificate of
/// one name costs one more. Sixteen take one millisecond with P-256 and four with P-384.
pub const MAX_PATH_SIGNATURES: usize = 16;

/// Bytes of all certificates of one presented chain.
///
/// The TLS library stops at 64 kB. Eight certificates of 2 kB each, larger than any
/// found in practice with RSA-4096 keys, fit into 16 kB.
pub const MAX_CHAIN_BYTES: usize = 16 * 1024;

/// Names in the SubjectAltName extension of one certificate, of whatever kind.
///
/// Every name may have to be compared with every name constraint and with every known peer.
pub const MAX_SANS: usize = 64;

/// Attributes of one distinguished name where names are compared part by part: below
/// cross-certificates. Names in practice have at most ten.
pub const MAX_NAME_ATTRIBUTES: usize = 32;

/// Extensions in one certificate. Public certificates have about ten.
///
/// Looking for duplicates compares each extension with all others.
pub const MAX_EXTENSIONS: usize = 32;

/// Characters of a name from a certificate that we show, after escaping.
///
/// X.520 gives a common name 64; longer ones end in `…`.
pub const MAX_SHOWN_NAME: usize = 64;

/// Bytes of a DNS name (RFC 1035 section 2.3.4), written with dots and without the root's.
pub const MAX_DNS_NAME: usize = 253;

/// Bytes of a URI in a SubjectAltName: the limit of a SPIFFE id.
pub const MAX_URI: usize = 2048;

/// Bytes of a whole metadata extension: every peer receives it in every handshake.
pub const MAX_METADATA_BYTES: usize = 2048;

/// Networks in one metadata extension.
pub const MAX_METADATA_NETWORKS: usize = 8;

/// Roles in one metadata extension.
pub const MAX_METADATA_ROLES: usize = 16;

/// Pairs of key and value in one metadata extension.
pub const MAX_METADATA_PAIRS: usize = 16;

/// Bytes of a network name, a role or a key: one DNS label and a bit, short enough for a table.
pub const MAX_METADATA_LABEL: usize = 64;

/// Bytes of the value of one pair.
pub const MAX_METADATA_VALUE: usize = 256;

/// Certificates in one CA file. The Mozilla set has about 150.
pub const MAX_CA_FILE_CERTIFICATES: usize = 1024;

/// Bytes of one CA file. The Mozilla set has about 250 kB.
pub const MAX_CA_FILE_BYTES: usize = 4 * 1024 * 1024;

/// Signatures verified in one search below cross-certificates.
///
/// A member of five networks presents five cross-certificates, one issuing certificate and its own
/// root: seven signatures, each checked once. Twice that leaves room for authorities that share a
/// name; with P-384, the slowest that is accepted, sixteen take four milliseconds.
pub const MAX_CROSS_SIGNATURES: usize = 16;

/// Partial paths looked at in one search below cross-certificates.
///
/// Seven certificates that all name one another can be put in 13,700 orders. An honest chain has
/// fewer than fifty, and this many cost a fifth of a millisecond.
pub const MAX_CROSS_STEPS: usize = 512;

/// Subtrees in each list of a NameConstraints extension: each is compared with each name below.
pub const MAX_SUBTREES: usize = 64;

/// Bytes of the succession statements in a native leaf: sixteen changes of key (at most 508 bytes
/// each, with the sum of their heads) for a peer that was away, in half of what a chain may have.
pub const MAX_SUCCESSION_BYTES: usize = 8 * 1024;

/// Bytes of one authority certificate. With P-256 keys they have about 600; the scope of an issuing
/// key may add metadata and DNS names.
pub const MAX_AUTHORITY_BYTES: usize = 4 * 1024;

/// DNS names to which an issuing key may be limited: every DNS name of a leaf is compared with each.
pub const MAX_DNS_CONSTRAINTS: usize = 16;

/// Bytes of a certificate signing request. One with an RSA-4096 key has 1.7 kB; 64 names fit.
pub const MAX_CSR_BYTES: usize = 16 * 1024;

/// Attributes of a certificate signing request. Tools write one or two.
pub const MAX_CSR_ATTRIBUTES: usize = 8;
