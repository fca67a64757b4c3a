//! Bundles, statements about identities, and certificate requests in words.

use comity_certs::{AuthorityKind, Csr, CsrError, read_csr};
use comity_identity::{KeyHash, UnixTime};
use comity_record::{
    AuthorityKey, Bundle, Freshness, KeyRevocation, KeyRole, KeyState, Succession, SuccessionChain,
    WithdrawnWhat,
};
use serde_json::{Value, json};

use super::Finding;
use crate::remaining::{remaining, rounded, until};

/// Withdrawals that are shown; `--json` has all of them.
const SHOWN_WITHDRAWALS: usize = 20;

pub(super) fn bundle(content: &[u8], now: UnixTime) -> Finding {
    let bundle = match Bundle::parse(content) {
        Ok(bundle) => bundle,
        Err(error) => return Finding::refused("bundle", &error),
    };
    let mut finding = Finding::new(format!("bundle of the network {}", bundle.name()));
    finding.fact("network id", bundle.network());
    finding.fact("", bundle.network().words());
    let fresh = freshness(bundle.standing(now));
    finding.fact("sequence", bundle.sequence());
    finding.fact("issued", bundle.issued());
    finding.fact(
        "recognises",
        format!("members until {}; {fresh}", until(bundle.expires(), now)),
    );
    finding.fact(
        "signed",
        format!(
            "by key:{}; it holds, from the founding root on",
            bundle.signer()
        ),
    );
    for key in bundle.charter().keys() {
        finding.fact("key", key_line(key, now));
        finding.fact("", may(key));
    }
    finding.fact(
        "looked for",
        format!("every {}", rounded(bundle.refresh().as_secs())),
    );
    for location in bundle.locations() {
        finding.fact("location", location);
    }
    withdrawals(&mut finding, &bundle);
    finding.value = bundle_value(&bundle, now);
    finding
}

fn withdrawals(finding: &mut Finding, bundle: &Bundle) {
    let withdrawn = bundle.withdrawn();
    for entry in withdrawn.iter().take(SHOWN_WITHDRAWALS) {
        let what = match &entry.what {
            WithdrawnWhat::Certificate { issuer, serial } => {
                format!("certificate {} of key:{}", hex(serial), issuer.short())
            }
            WithdrawnWhat::Key(key) => format!("everything for key:{key}"),
        };
        finding.fact("withdrawn", format!("{what}, {}", entry.at));
    }
    if let Some(more) = withdrawn
        .len()
        .checked_sub(SHOWN_WITHDRAWALS)
        .filter(|n| *n > 0)
    {
        finding.fact("", format!("and {more} more"));
    }
}

/// The state of a bundle in words.
pub(crate) fn freshness(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Fresh => "fresh",
        Freshness::PastHalf => "past its half, a newer one is due",
        Freshness::Expired => "expired, it recognises no new member",
        Freshness::NotYetValid => "made in the future, it recognises nobody",
    }
}

/// A key with its state: `key:… root, active, 20 years left`.
pub(crate) fn key_line(key: &AuthorityKey, now: UnixTime) -> String {
    let end = key.certificate.not_after();
    let state = match key.state {
        KeyState::Retiring { until } => format!("retiring, counts until {until}"),
        state => state_token(state).to_owned(),
    };
    let role = role_token(key.role);
    format!(
        "key:{}  {role}, {state}, {}",
        key.key(),
        remaining(end, now)
    )
}

pub(crate) fn role_token(role: KeyRole) -> &'static str {
    match role {
        KeyRole::Root => "root",
        KeyRole::Issuing => "issuing",
    }
}

pub(crate) fn state_token(state: KeyState) -> &'static str {
    match state {
        KeyState::Next => "next",
        KeyState::Active => "active",
        KeyState::Retiring { .. } => "retiring",
        KeyState::Revoked => "revoked",
    }
}

/// What a key may issue, in words.
pub(crate) fn may(key: &AuthorityKey) -> String {
    match key.details().kind() {
        AuthorityKind::Root | AuthorityKind::Rollover => {
            "may certify anything, and change the keys".to_owned()
        }
        AuthorityKind::Issuing {
            path_length,
            scope,
            dns,
        } => {
            let whom = match path_length {
                0 => "may sign leaves, but certify no member",
                _ => "may certify members and sign leaves",
            };
            let limited = |what: &str, names: &[String]| match names {
                [] => format!("any {what}"),
                names => format!("{what} {}", names.join(", ")),
            };
            let networks = limited("network", scope.networks());
            let roles = limited("role", scope.roles());
            let names = match dns.as_slice() {
                [] => String::new(),
                dns => format!(", DNS names below {}", dns.join(", ")),
            };
            format!("{whom}; {networks}, {roles}{names}")
        }
    }
}

fn bundle_value(bundle: &Bundle, now: UnixTime) -> Value {
    json!({
        "kind": "bundle", "holds": true,
        "name": bundle.name(),
        "network": bundle.network().to_string(), "hex": bundle.network().to_hex(),
        "sequence": bundle.sequence(),
        "issued": bundle.issued().to_string(), "expires": bundle.expires().to_string(),
        "fresh": bundle.standing(now) == Freshness::Fresh,
        "recognises": bundle.standing(now).recognises(),
        "signer": bundle.signer().to_string(),
        "refresh_seconds": bundle.refresh().as_secs(),
        "locations": bundle.locations().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "keys": bundle.charter().keys().iter().map(key_value).collect::<Vec<_>>(),
        "withdrawn": bundle.withdrawn().iter().map(|entry| match &entry.what {
            WithdrawnWhat::Certificate { issuer, serial } => json!({
                "issuer": issuer.to_string(), "serial": hex(serial), "at": entry.at.to_string(),
            }),
            WithdrawnWhat::Key(key) => json!({ "key": key.to_string(), "at": entry.at.to_string() }),
        }).collect::<Vec<_>>(),
    })
}

/// A key for programs.
pub(crate) fn key_value(key: &AuthorityKey) -> Value {
    let until = match key.state {
        KeyState::Retiring { until } => Some(until.to_string()),
        _ => None,
    };
    json!({
        "key": key.key().to_string(), "hex": key.key().to_hex(),
        "role": role_token(key.role), "state": state_token(key.state), "until": until,
        "not_before": key.certificate.not_before().to_string(),
        "not_after": key.certificate.not_after().to_string(),
        "may": may(key),
    })
}

pub(super) fn succession(content: &[u8]) -> Finding {
    let chain = match SuccessionChain::parse(content) {
        Ok(chain) => chain,
        Err(error) => return Finding::refused("succession", &error),
    };
    let steps = chain.statements();
    let mut finding = Finding::new(match steps.len() {
        1 => "succession of an identity, 1 change of key".to_owned(),
        n => format!("succession of an identity, {n} changes of key"),
    });
    for step in steps {
        finding.fact("from", step.old());
        finding.fact("to", step.new());
        let reason = step.reason().map(|r| format!(", {r}")).unwrap_or_default();
        finding.fact(
            "",
            format!(
                "number {}, {}{reason}; the old key counts until {}",
                step.sequence(),
                step.issued(),
                step.overlap_end()
            ),
        );
        if let Some(network) = step.network() {
            finding.fact(
                "",
                format!("only in the network {network}; pins do not follow it"),
            );
        }
        if let Some(next) = step.next() {
            finding.fact("", format!("the key after it must be key:{next}"));
        }
    }
    finding.fact("words", chain.current().words());
    finding.fact("signed", "each by the old key and the new one; they hold");
    finding.value = json!({
        "kind": "succession", "holds": true, "current": chain.current().to_string(),
        "statements": steps.iter().map(step_value).collect::<Vec<_>>(),
    });
    finding
}

fn step_value(step: &Succession) -> Value {
    json!({
        "old": step.old().to_string(), "new": step.new().to_string(),
        "sequence": step.sequence(), "issued": step.issued().to_string(),
        "overlap_end": step.overlap_end().to_string(),
        "next": step.next().map(|next| next.to_string()),
        "network": step.network().map(|network| network.to_string()),
        "reason": step.reason(),
    })
}

pub(super) fn revocation(content: &[u8]) -> Finding {
    let statement = match KeyRevocation::parse(content) {
        Ok(statement) => statement,
        Err(error) => return Finding::refused("revocation", &error),
    };
    let mut finding = Finding::new("revocation of an identity".to_owned());
    let by_itself = statement.counts(None);
    finding.fact("revoked", statement.key());
    finding.fact("", statement.key().words());
    let reason = statement
        .reason()
        .map(|r| format!(", {r}"))
        .unwrap_or_default();
    finding.fact("made", format!("{}{reason}", statement.at()));
    finding.fact(
        "signed",
        match by_itself {
            true => "by the revoked key itself; it holds".to_owned(),
            false => format!(
                "by key:{}; it counts where that is known as the next key of the revoked one",
                statement.signer()
            ),
        },
    );
    finding.value = json!({
        "kind": "revocation", "holds": true, "key": statement.key().to_string(),
        "signer": statement.signer().to_string(), "by_itself": by_itself,
        "at": statement.at().to_string(), "reason": statement.reason(),
    });
    finding
}

pub(super) fn request(content: &[u8]) -> Finding {
    match read_csr(content) {
        Ok(csr) => describe_request(&csr),
        Err(error) => Finding::refused("certificate request", &error),
    }
}

/// Whether bytes are a request at all, broken or not.
pub(super) fn is_request(content: &[u8]) -> bool {
    !matches!(
        read_csr(content),
        Err(CsrError::Request(_) | CsrError::TooLarge { .. })
    )
}

fn describe_request(csr: &Csr) -> Finding {
    let key = KeyHash::of_spki(&csr.spki);
    let mut finding = Finding::new("certificate request".to_owned());
    finding.fact("subject", quoted(&csr.subject));
    finding.fact("key", format!("key:{key}"));
    finding.fact("", key.words());
    for name in request_names(csr) {
        finding.fact("asks for", name);
    }
    finding.fact(
        "signed",
        "by the key in it; it holds. All it says is a wish",
    );
    finding.value = json!({
        "kind": "request", "holds": true, "subject": csr.subject, "key": key.to_string(),
        "dns": csr.dns, "ips": csr.ips, "uris": csr.uris,
    });
    finding
}

/// The names that a request asks for, each with its kind.
pub(crate) fn request_names(csr: &Csr) -> Vec<String> {
    let dns = csr.dns.iter().map(|name| format!("DNS {name}"));
    let ips = csr.ips.iter().map(|address| format!("IP {address}"));
    let uris = csr.uris.iter().map(|uri| format!("URI {uri}"));
    dns.chain(ips).chain(uris).collect()
}

fn quoted(text: &str) -> &str {
    match text {
        "" => "(none)",
        text => text,
    }
}

/// Bytes as people compare them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
