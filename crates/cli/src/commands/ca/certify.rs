//! `comity ca certify`: a cross-certificate for another's root or node.
//!
//! Nothing is signed before a person who knows the other's key has said so: by its full id, or by a
//! pin that a person compared.

use std::path::Path;

use comity_agent::Package;
use comity_agent::armour::{CERTIFICATE, read_blocks};
use comity_authority::{Admission, Authority};
use comity_certs::{Anchor, CertificateKind, describe, read_root};
use comity_identity::{KeyHash, NodeId, PeerId, UnixTime};
use comity_record::Bundle;
use comity_store::Home;
use comity_trust::{Pin, Reason};
use serde_json::json;

use super::inspect::statements::hex;
use super::{authority_failure, must_be_new, open, write_out};
use crate::Outcome;
use crate::args::ca::CaCertify;
use crate::confirmation::{Question, confirm};
use crate::context::{Context, now};
use crate::remaining::until;
use crate::shell::Failure;

/// Bytes of the other's file.
const MAX_FILE: u64 = 256 << 10;

pub(crate) fn certify(context: &Context, args: &CaCertify) -> Outcome {
    let home = context.open_home()?;
    let mut authority = open(&home, &args.name, "comity ca certify")?;
    let other = Other::read(&args.certificate)?;
    if authority.charter().key(&other.key).is_some() {
        return Err(
            Failure::no(format!("that is one of {}'s own keys", authority.name()))
                .detail("nothing was signed"),
        );
    }
    args.out.as_deref().map_or(Ok(()), must_be_new)?;
    let now = now();
    let said = permission(&authority, &other, args, now);
    let confirmed = confirmed_pin(context, &home, &other)?;
    match (&args.confirm, confirmed) {
        (None, Some(how)) => {
            context.shell.tell(&said);
            context
                .shell
                .say(format_args!("its key is pinned here, and {how}"));
        }
        (given, _) => {
            let question = Question {
                whom: &args.certificate.display().to_string(),
                key: other.key,
                shown: &said,
            };
            if given.is_some() {
                context.shell.tell(&said);
            }
            confirm(&question, given.as_deref())
                .map_err(|failure| failure.detail("nothing was signed"))?;
        }
    }
    let admission = Admission {
        label: args.label.clone(),
        roles: args.roles.clone(),
        pairs: Vec::new(),
        lifetime: args.valid,
    };
    let grant = authority
        .certify(&other.der, &admission, now)
        .map_err(|error| authority_failure(&error))?;
    let package = Package {
        bundle: Bundle::parse(&grant.bundle).map_err(Failure::unable)?,
        certificates: grant.membership,
    };
    let value = json!({
        "network": authority.network().to_string(), "key": other.key.to_string(),
        "serial": hex(&grant.serial), "not_after": grant.not_after.to_string(),
        "roles": args.roles, "label": args.label,
    });
    let outcome = write_out(context, args.out.as_deref(), &package.encode(), value)?;
    context.shell.say(format_args!(
        "signed cross-certificate {}, valid until {}",
        hex(&grant.serial),
        until(grant.not_after, now)
    ));
    context.shell.say(match other.node {
        Some(_) => "on that node: `comity network import FILE`",
        None => "its programs present the certificates in it after their own; none of it is secret",
    });
    Ok(outcome)
}

/// Whose certificate it is.
struct Other {
    der: Vec<u8>,
    anchor: Anchor,
    key: KeyHash,
    /// Of a node.
    node: Option<NodeId>,
    /// Its name, escaped.
    subject: String,
    kind: CertificateKind,
}

impl Other {
    fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = super::read_bounded(path, MAX_FILE)?;
        let refused = |cause: String| {
            Failure::no(format!("{} cannot be certified: {cause}", path.display()))
                .detail("nothing was signed")
        };
        let der = one_certificate(bytes).map_err(refused)?;
        let description = describe(&der).map_err(|error| refused(error.to_string()))?;
        if !description.self_signed || !description.is_ca {
            return Err(refused("it is not a root that signed itself".to_owned())
                .hint("its owner gets the right one with `comity id --certificate`"));
        }
        let anchor = Anchor::from_der(&der).map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            key: anchor.key(),
            anchor,
            node: read_root(&der).ok().map(|(node, _)| node),
            subject: description.subject,
            kind: description.kind,
            der,
        })
    }

    /// As a person compares it, and as a peer behind the certificate is known: also an organisation is
    /// known by its root, whatever its leaves are.
    fn id(&self) -> PeerId {
        PeerId::Node(NodeId::from_bytes(*self.key.as_bytes()))
    }
}

fn one_certificate(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    if bytes.first() == Some(&0x30) {
        return Ok(bytes);
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is neither PEM nor DER".to_owned())?;
    let blocks = read_blocks(&text).map_err(|error| error.to_string())?;
    match <[_; 1]>::try_from(blocks) {
        Ok([block]) if block.label == CERTIFICATE => Ok(block.content),
        Ok([block]) => Err(format!("it is a {}", block.label)),
        Err(blocks) => Err(format!(
            "it has {} PEM blocks, and one root is certified",
            blocks.len()
        )),
    }
}

/// Both keys, and what follows from signing.
fn permission(authority: &Authority, other: &Other, args: &CaCertify, now: UnixTime) -> String {
    let name = authority.name();
    let network = authority.network();
    let roles = match args.roles.as_slice() {
        [] => format!("as a member of {name}, without a role"),
        [role] => format!("as a member of {name} in the role {role}"),
        roles => format!("as a member of {name} in the roles {}", roles.join(", ")),
    };
    format!(
        "ours    {name}, network id\n        {network}\n        {}\n\
         theirs  {}\n        {}\n        {}\n        {}\n\
         Whoever recognises {name} will recognise everything that their key issues under exactly this \
         name, {roles}, {}.",
        network.words(),
        other.kind,
        other.subject,
        other.id(),
        other.key.words(),
        match args.valid {
            Some(valid) => format!("until {}", now + valid),
            None => "for a year at most".to_owned(),
        },
    )
}

/// How a person confirmed the other's key here; nothing if nobody did.
fn confirmed_pin(context: &Context, home: &Home, other: &Other) -> Result<Option<String>, Failure> {
    let store = context.store(home, "comity ca certify")?;
    let known = &store.snapshot().known;
    if let Some(line) = known.revocation_of_anchor(&other.anchor) {
        return Err(Failure::no("its key is revoked here")
            .detail(format!("key      {}", other.id()))
            .detail(format!("revoked  known_peers:{line}"))
            .detail("nothing was signed")
            .because(Reason::Revoked));
    }
    let PeerId::Node(known_as) = other.id() else {
        return Ok(None);
    };
    let is_wanted = |pin: &Pin| match pin {
        Pin::Node(node) => *node == known_as,
        // A server that presents its own root is pinned by that key.
        Pin::Key(key) => other.node.is_none() && *key == other.key,
        _ => false,
    };
    let now = now();
    let entry = known.entries().find(|(_, entry)| {
        let attributes = &entry.attributes;
        let by_a_person = attributes
            .confirmed
            .as_ref()
            .is_some_and(|c| c.by_a_person());
        let in_force =
            attributes.forked.is_none() && attributes.successor.is_none() && !entry.is_over(now);
        entry.pin().is_some_and(is_wanted) && by_a_person && in_force
    });
    Ok(entry.and_then(|(line, entry)| {
        let confirmed = entry.attributes.confirmed.as_ref()?;
        Some(format!("was confirmed {confirmed} (known_peers:{line})"))
    }))
}
