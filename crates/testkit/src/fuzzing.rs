//! The bodies of the fuzz targets: one function for each parser that reads other people's bytes.
//!
//! A body panics only where a promise is broken. Besides "does not crash" each asserts what its
//! parser promises: what is accepted is read back from its own text, stays within the limits, and
//! what is said about a refusal is short and can be printed on a terminal.
//!
//! `fuzz/fuzz_targets` feeds the bodies with inputs that libFuzzer invents; the ordinary test
//! `tests/fuzz_corpus.rs` replays `fuzz/corpus` through the same bodies. `fuzz/README.md` says how
//! to run one and how to add one.

mod certs;
mod cross;
mod identity;
mod keys;
mod record;
mod store;
mod tls;
mod trust;
mod tunnel;

pub use certs::{anchor, authority, ca_file, chain, csr, description, metadata, root};
pub use cross::cross_path;
pub use identity::{hash_text, signature, time, words};
pub use keys::{key_file, pbes2_key, pkcs8_key, sealed_key};
pub use record::{bundle, charter, key_revocation, location, signer, succession, succession_chain};
pub use store::{
    audit_log, authority_state, invitations_file, known_peers_file, networks_file, pending_file,
};
pub use tls::{answer, exchange, frame, hello, live_step, network_frame};
pub use trust::{
    allow_rule, decision, invitation, invitation_body, known_peers, name, peer_argument, token,
};
pub use tunnel::tunnel_target;

/// What a target does with one input.
pub type Body = fn(&[u8]);

/// Name and body of every target. The name is that of the binary in `fuzz/fuzz_targets` and of the
/// folder in `fuzz/corpus`.
pub const TARGETS: &[(&str, Body)] = &[
    ("allow_rule", allow_rule),
    ("anchor", anchor),
    ("answer", answer),
    ("audit_log", audit_log),
    ("authority", authority),
    ("authority_state", authority_state),
    ("bundle", bundle),
    ("ca_file", ca_file),
    ("chain", chain),
    ("charter", charter),
    ("csr", csr),
    ("cross_path", cross_path),
    ("decision", decision),
    ("description", description),
    ("exchange", exchange),
    ("frame", frame),
    ("hash_text", hash_text),
    ("hello", hello),
    ("invitation", invitation),
    ("invitation_body", invitation_body),
    ("invitations_file", invitations_file),
    ("key_file", key_file),
    ("key_revocation", key_revocation),
    ("known_peers", known_peers),
    ("known_peers_file", known_peers_file),
    ("live_step", live_step),
    ("location", location),
    ("metadata", metadata),
    ("name", name),
    ("network_frame", network_frame),
    ("networks_file", networks_file),
    ("pbes2_key", pbes2_key),
    ("peer_argument", peer_argument),
    ("pending_file", pending_file),
    ("pkcs8_key", pkcs8_key),
    ("root", root),
    ("sealed_key", sealed_key),
    ("signature", signature),
    ("succession", succession),
    ("succession_chain", succession_chain),
    ("time", time),
    ("token", token),
    ("tunnel_target", tunnel_target),
    ("words", words),
];

/// Joins several inputs, such as the certificates of a chain, as the targets [`chain`],
/// [`decision`] and [`signature`] take them: each after its length in two bytes, big-endian.
pub fn join<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    let mut joined = Vec::new();
    for part in parts {
        let part = part.as_ref();
        let length = u16::try_from(part.len()).expect("a part below 64 kB");
        joined.extend_from_slice(&length.to_be_bytes());
        joined.extend_from_slice(part);
    }
    joined
}

/// The longest message about a refusal. Evidence is quoted, and quotes are bounded.
const MAX_MESSAGE: usize = 4096;

/// The most parts that are taken from one input: twice as many certificates as are ever accepted.
const MAX_PARTS: usize = 2 * comity_certs::limits::MAX_CERTIFICATES;

/// The reverse of [`join`]. A length that is too large takes what is left, so that every input
/// means something.
fn split(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        parts.push(part);
        data = rest;
        if parts.len() == MAX_PARTS {
            break;
        }
    }
    parts
}

/// The input as text: parsers of text never see anything else.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Messages quote what a stranger wrote: they must neither grow with it nor steer a terminal.
fn assert_printable(message: &dyn std::fmt::Display) {
    let message = message.to_string();
    assert!(message.len() <= MAX_MESSAGE, "{} bytes", message.len());
    let control = message.chars().find(|c| c.is_control());
    assert_eq!(control, None, "in {message:?}");
}
