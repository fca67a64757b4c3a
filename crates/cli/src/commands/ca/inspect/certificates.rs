//! Certificates and chains in words: what each says, what it permits, and who signed it.

use std::borrow::Cow;

use comity_certs::{
    AuthorityKind, CertificateKind, Description, Form, Link, PresentedChain, describe, link,
};
use comity_identity::UnixTime;
use serde_json::{Value, json};

use super::Finding;
use crate::remaining::{days_left, until};

/// Explains certificates of one file, in their order, and what a peer that presented them would be.
/// `bundled` are the keys of a bundle beside them, which may have signed some.
pub(super) fn explain(certificates: &[&[u8]], bundled: &[Vec<u8>], now: UnixTime) -> Vec<Finding> {
    let mut findings: Vec<Finding> = (0..certificates.len())
        .map(|index| certificate(certificates, bundled, index, now))
        .collect();
    let begins_with_a_leaf = certificates
        .first()
        .is_some_and(|first| describe(first).is_ok_and(|first| !first.is_ca));
    if certificates.len() > 1 && begins_with_a_leaf {
        findings.push(presented(certificates));
    }
    findings
}

fn certificate(all: &[&[u8]], bundled: &[Vec<u8>], index: usize, now: UnixTime) -> Finding {
    let description = match describe(all[index]) {
        Ok(description) => description,
        Err(error) => return Finding::refused("certificate", &error),
    };
    let number = match all.len() {
        1 => String::new(),
        count => format!("certificate {} of {count}: ", index + 1),
    };
    let mut finding = Finding::new(format!("{number}{}", description.kind));
    for (name, what) in description.lines() {
        match name {
            "kind" | "self-signed" => {}
            "not after" => finding.fact("valid until", until(description.not_after, now)),
            "key hash" => {
                finding.fact("", &what);
                finding.fact("", description.key.words());
            }
            _ => finding.fact(name, what),
        }
    }
    finding.fact("permits", permits(&description));
    let signer = signer(all, bundled, index, &description);
    finding.fact("signed by", signer.words());
    finding.holds = signer.holds();
    finding.value = value(&description, &signer, now);
    finding
}

/// Who signed a certificate, among those beside it.
enum Signer {
    /// These, by their places from 1.
    Others(Vec<usize>),
    Itself,
    /// A key of the bundle beside it.
    Bundled,
    /// Its issuer is not here.
    Absent,
    /// Its issuer is named here, and did not sign it.
    Nobody,
}

fn signer(all: &[&[u8]], bundled: &[Vec<u8>], index: usize, description: &Description) -> Signer {
    if description.self_signed {
        return Signer::Itself;
    }
    let below = |other: &[u8]| match link(all[index], other) {
        // One of the same name, but with another key than the one that is named.
        Ok(Link::NotSigned) if names_another_key(description, other) => Link::Elsewhere,
        link => link.unwrap_or(Link::Elsewhere),
    };
    let links: Vec<Link> = all.iter().map(|other| below(other)).collect();
    let holds: Vec<usize> = (1..)
        .zip(&links)
        .filter(|(_, link)| **link == Link::Holds)
        .map(|(number, _)| number)
        .collect();
    match holds.is_empty() {
        false => Signer::Others(holds),
        true if bundled.iter().any(|key| below(key) == Link::Holds) => Signer::Bundled,
        true if links.contains(&Link::NotSigned) => Signer::Nobody,
        true => Signer::Absent,
    }
}

/// Two keys of one name are told apart by their identifiers (RFC 5280 section 4.2.1.1).
fn names_another_key(description: &Description, issuer: &[u8]) -> bool {
    let named = description.authority_key_identifier.as_ref();
    let own = describe(issuer)
        .ok()
        .and_then(|issuer| issuer.subject_key_identifier);
    named
        .zip(own.as_ref())
        .is_some_and(|(named, own)| named != own)
}

impl Signer {
    fn holds(&self) -> bool {
        !matches!(self, Self::Nobody)
    }

    fn words(&self) -> Cow<'static, str> {
        match self {
            Self::Itself => "itself; it holds".into(),
            Self::Others(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                format!("certificate {}; it holds", numbers.join(" and ")).into()
            }
            Self::Bundled => "a key of the bundle below; it holds".into(),
            Self::Absent => "an issuer that is not in this file: not checked".into(),
            Self::Nobody => "NOT by the issuer that it names: it is a forgery, or damaged".into(),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Itself => json!("itself"),
            Self::Others(numbers) => json!(numbers),
            Self::Bundled => json!("bundle"),
            Self::Absent => Value::Null,
            Self::Nobody => json!(false),
        }
    }
}

/// What follows from a certificate for whoever relies on it.
fn permits(description: &Description) -> String {
    match &description.kind {
        CertificateKind::NodeRoot(_) => {
            "its node signs its own leaves with it, and nothing else".to_owned()
        }
        CertificateKind::NodeLeaf => {
            "nothing below it; names, networks and roles in it are the node's own claims".to_owned()
        }
        CertificateKind::Authority(AuthorityKind::Root) => {
            "whoever recognises this network recognises what this key certifies".to_owned()
        }
        CertificateKind::Authority(AuthorityKind::Rollover) => {
            "whoever still starts from the older root comes to this one".to_owned()
        }
        CertificateKind::Authority(AuthorityKind::Issuing { path_length, .. }) => format!(
            "{}; {}",
            match path_length {
                0 => "it signs leaves, and certifies no member",
                _ => "it certifies members, and signs leaves",
            },
            attests(description, "any network and role"),
        ),
        CertificateKind::Cross => format!(
            "whoever recognises its issuer recognises what this key signs under exactly this name; {}",
            attests(description, "no network and no role"),
        ),
        _ if description.is_ca => constrained(description),
        _ => format!(
            "nothing below it; {}, if its issuer is recognised for that",
            attests(description, "no network and no role"),
        ),
    }
}

fn attests(description: &Description, none: &str) -> String {
    let Some(metadata) = description.metadata.as_ref().filter(|m| !m.is_empty()) else {
        return format!("it attests {none}");
    };
    let list = |what: &str, names: &[String]| match names {
        [] => None,
        names => Some(format!("{what} {}", names.join(", "))),
    };
    let said = [
        list("network", metadata.networks()),
        list("role", metadata.roles()),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    match said.is_empty() {
        true => format!("it attests {none}"),
        false => format!("it attests {}", said.join(" and ")),
    }
}

fn constrained(description: &Description) -> String {
    let below = match description.path_length {
        Some(0) => "leaves",
        _ => "leaves, and further CAs",
    };
    match &description.name_constraints {
        None => format!("whoever trusts it trusts {below} that it signs for any name"),
        Some(limits) if limits.permitted.is_empty() => {
            format!("whoever trusts it trusts {below} that it signs, except for the excluded names")
        }
        Some(_) => {
            format!("whoever trusts it trusts {below} that it signs for the permitted names")
        }
    }
}

/// What a peer that presents all of them is.
fn presented(certificates: &[&[u8]]) -> Finding {
    let chain = match PresentedChain::parse(certificates) {
        Ok(chain) => chain,
        Err(error) => {
            let mut finding = Finding::new("together: not what a peer presents".to_owned());
            finding.fact("because", comity_certs::escape(&error.to_string()));
            finding.value = json!({ "kind": "chain", "presentable": false });
            return finding;
        }
    };
    let native = chain.form() == Form::Native;
    let mut finding = Finding::new("together: what a peer presents".to_owned());
    finding.fact(
        "form",
        match native {
            true => "native: a node of Comity, whose root signed the first certificate",
            false => "foreign: known by the key of its first certificate alone",
        },
    );
    finding.fact("id", chain.peer_id());
    finding.fact("", chain.peer_id().key_hash().words());
    finding.value = json!({
        "kind": "chain", "presentable": true, "native": native,
        "id": chain.peer_id().to_string(),
    });
    finding
}

fn value(description: &Description, signer: &Signer, now: UnixTime) -> Value {
    let constraints = description.name_constraints.as_ref();
    let metadata = description.metadata.as_ref();
    json!({
        "kind": "certificate", "what": description.kind.to_string(),
        "holds": signer.holds(), "signed_by": signer.value(),
        "subject": description.subject, "issuer": description.issuer,
        "self_signed": description.self_signed, "serial": description.serial,
        "not_before": description.not_before.to_string(),
        "not_after": description.not_after.to_string(),
        "days_left": days_left(description.not_after, now),
        "key": description.key.to_string(), "key_kind": description.key_kind,
        "fingerprint": description.fingerprint.to_hex(),
        "ca": description.is_ca, "path_length": description.path_length,
        "key_usage": description.key_usage, "extended_key_usage": description.extended_key_usage,
        "names": description.names,
        "permitted": constraints.map(|c| &c.permitted), "excluded": constraints.map(|c| &c.excluded),
        "networks": metadata.map(|m| m.networks()), "roles": metadata.map(|m| m.roles()),
        "permits": permits(description),
        "next": description.next.map(|next| next.to_string()),
        "critical": description.critical, "unknown": description.unknown,
        "unreadable": description.unreadable,
    })
}
