//! `comity ca issued|withdraw`: what was issued, and what counts no more.

use comfy_table::{ContentArrangement, Table, presets};
use comity_authority::{Authority, ISSUING, Selector};
use comity_certs::escape;
use comity_identity::{KeyHash, UnixTime};
use comity_store::{IssuedCertificate, IssuedState, SERIAL_BYTES, Serial};
use serde_json::{Value, json};

use super::inspect::statements::hex;
use super::{authority_failure, open};
use crate::Outcome;
use crate::args::ca::{CaIssued, CaWithdraw};
use crate::context::{Context, now, store_failure};
use crate::remaining::{days_left, remaining};
use crate::shell::{Exit, Failure};

/// Lines that are shown at once; what ends first comes first.
const MAX_LINES: usize = 10_000;

pub(crate) fn issued(context: &Context, args: &CaIssued) -> Outcome {
    let home = context.open_home()?;
    let authority = open(&home, &args.name, "comity ca issued")?;
    let now = now();
    let before = args.expiring.map_or(UnixTime::NEVER, |within| now + within);
    let from = match args.all {
        true => UnixTime::from_secs(0),
        false => now,
    };
    let session = authority.files().issued().open();
    // One more than is shown tells that there are more.
    let found = session.and_then(|session| session.ending(from, before, MAX_LINES + 1));
    let mut found = found.map_err(|error| store_failure(&error))?;
    let more = found.len() > MAX_LINES;
    found.truncate(MAX_LINES);
    found.retain(|certificate| args.all || counts(&authority, certificate, now));
    let ending = found
        .iter()
        .any(|certificate| counts(&authority, certificate, now));
    let values: Vec<Value> = found
        .iter()
        .map(|certificate| certificate_value(&authority, certificate, now))
        .collect();
    if found.is_empty() && !context.shell.json {
        context.shell.say(match args.expiring {
            Some(_) => "nothing ends within that time",
            None => "nothing that was issued is valid",
        });
    } else {
        context
            .shell
            .answer(table(&authority, &found, now), &values);
    }
    if more {
        context.shell.warn(format_args!(
            "only the first {MAX_LINES} are shown; --expiring TIME narrows them down"
        ));
    }
    Ok(match args.expiring.is_some() && ending {
        true => Exit::No,
        false => Exit::Yes,
    })
}

/// Whether a certificate counts: the bundle may know of a withdrawal before the ledger does.
fn counts(authority: &Authority, certificate: &IssuedCertificate, now: UnixTime) -> bool {
    let about = &certificate.about;
    let withdrawn = |bundle: &comity_record::Bundle| {
        bundle.is_withdrawn(&about.issuer, &certificate.serial, &about.key)
    };
    certificate.counts(now) && !authority.bundle().is_some_and(withdrawn)
}

fn state(authority: &Authority, certificate: &IssuedCertificate, now: UnixTime) -> String {
    match &certificate.state {
        IssuedState::Withdrawn { at, reason } if reason.is_empty() => format!("withdrawn {at}"),
        IssuedState::Withdrawn { at, reason } => {
            format!("withdrawn {at}: {}", comity_certs::escape(reason))
        }
        _ if certificate.about.not_after < now => "expired".to_owned(),
        _ if !counts(authority, certificate, now) => "withdrawn".to_owned(),
        IssuedState::Reserved => "perhaps never signed".to_owned(),
        IssuedState::Issued => "valid".to_owned(),
    }
}

fn table(authority: &Authority, found: &[IssuedCertificate], now: UnixTime) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["SERIAL", "KIND", "LABEL", "KEY", "ENDS", "LEFT", "STATE"]);
    for certificate in found {
        let about = &certificate.about;
        table.add_row([
            hex(&certificate.serial),
            about.template.clone(),
            comity_certs::escape(&about.label),
            about.key.short(),
            about.not_after.to_string(),
            remaining(about.not_after, now),
            state(authority, certificate, now),
        ]);
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

pub(super) fn certificate_value(
    authority: &Authority,
    certificate: &IssuedCertificate,
    now: UnixTime,
) -> Value {
    let about = &certificate.about;
    json!({
        "serial": hex(&certificate.serial), "kind": about.template, "label": about.label,
        "key": about.key.to_string(), "issuer": about.issuer.to_string(),
        "not_before": about.not_before.to_string(), "not_after": about.not_after.to_string(),
        "days_left": days_left(about.not_after, now),
        "state": state(authority, certificate, now),
        "counts": counts(authority, certificate, now),
    })
}

pub(crate) fn withdraw(context: &Context, args: &CaWithdraw) -> Outcome {
    let home = context.open_home()?;
    let mut authority = open(&home, &args.name, "comity ca withdraw")?;
    let reason = args.reason.as_deref().unwrap_or("withdrawn");
    let selector = selector(&args.what)?;
    let now = now();
    refuse_own_keys(&authority, &selector, args)?;
    if args.dry_run {
        return would_withdraw(context, &authority, &selector, &args.what, now);
    }
    let withdrawn = match &selector {
        Selector::Key(key) => authority.withdraw_key(key, reason, now),
        selector => authority.withdraw(selector, reason, now),
    };
    let withdrawn = withdrawn.map_err(|error| authority_failure(&error))?;
    let values: Vec<Value> = withdrawn
        .iter()
        .map(|certificate| certificate_value(&authority, certificate, now))
        .collect();
    context.shell.answer(
        lines("withdrew", &selector, &withdrawn),
        &json!({
            "withdrawn": values, "key_for_ever": matches!(selector, Selector::Key(_)),
            "sequence": authority.bundle().map(comity_record::Bundle::sequence),
        }),
    );
    context.shell.say(
        "it is in the bundle from now on: nodes that are connected hear of it at once, the others when \
         they fetch it",
    );
    Ok(Exit::Yes)
}

/// Keys of the authority count by its charter: a withdrawal would say that they do not, and change
/// nothing.
fn refuse_own_keys(
    authority: &Authority,
    selector: &Selector,
    args: &CaWithdraw,
) -> Result<(), Failure> {
    let own = match selector {
        Selector::Key(key) => authority.charter().key(key).map(|_| *key),
        Selector::Serial(_) => {
            let found = authority.find(selector);
            let found = found.map_err(|error| authority_failure(&error))?;
            let mut own = found.iter().filter(|c| c.about.template == ISSUING);
            own.next().map(|certificate| certificate.about.key)
        }
        Selector::Label(_) => None,
    };
    match own {
        None => Ok(()),
        Some(key) => Err(Failure::no(format!(
            "{} is a key of the authority itself, which no withdrawal ends",
            escape(&args.what)
        ))
        .hint(format!(
            "comity ca revoke-key {} key:{key}",
            escape(&args.name)
        ))),
    }
}

fn would_withdraw(
    context: &Context,
    authority: &Authority,
    selector: &Selector,
    what: &str,
    now: UnixTime,
) -> Outcome {
    let mut found = authority
        .find(selector)
        .map_err(|error| authority_failure(&error))?;
    found.retain(|certificate| counts(authority, certificate, now));
    if found.is_empty() && !matches!(selector, Selector::Key(_)) {
        return Err(Failure::no(format!("nothing that counts is `{what}`")));
    }
    let values: Vec<Value> = found
        .iter()
        .map(|certificate| certificate_value(authority, certificate, now))
        .collect();
    context.shell.answer(
        lines("would withdraw", selector, &found),
        &json!({ "dry_run": true, "would_withdraw": values }),
    );
    Ok(Exit::Yes)
}

fn lines(verb: &str, selector: &Selector, certificates: &[IssuedCertificate]) -> String {
    let mut lines: Vec<String> = certificates
        .iter()
        .map(|certificate| {
            let about = &certificate.about;
            format!(
                "{verb} {} {} {} for key:{}",
                about.template,
                hex(&certificate.serial),
                comity_certs::escape(&about.label),
                about.key.short()
            )
        })
        .collect();
    if let Selector::Key(key) = selector {
        lines.push(format!("{verb} key:{key} for ever"));
    }
    lines.join("\n")
}

/// A serial number, a key or a label.
fn selector(what: &str) -> Result<Selector, Failure> {
    if let Some(key) = what.strip_prefix("key:") {
        let key = key.parse::<KeyHash>();
        let key = key.map_err(|error| Failure::unable(format!("`{what}` is no key: {error}")))?;
        return Ok(Selector::Key(key));
    }
    if let Ok(key) = what.parse::<KeyHash>() {
        return Ok(Selector::Key(key));
    }
    Ok(match parse_serial(what) {
        Some(serial) => Selector::Serial(serial),
        None => Selector::Label(what.to_owned()),
    })
}

/// 32 hexadecimal digits, also with colons between them as OpenSSL writes them.
fn parse_serial(text: &str) -> Option<Serial> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    if digits.len() != 2 * SERIAL_BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut serial = [0; SERIAL_BYTES];
    for (byte, pair) in serial.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_withdrawn_is_a_serial_number_a_key_or_a_label() {
        let serial = "4f".repeat(SERIAL_BYTES);
        let colons = ["4F"; SERIAL_BYTES].join(":");
        for text in [&serial, &colons] {
            assert_eq!(
                selector(text).ok(),
                Some(Selector::Serial([0x4f; 16])),
                "{text}"
            );
        }
        let key = KeyHash::from_bytes([7; 32]);
        for text in [format!("key:{key}"), key.to_string(), key.to_hex()] {
            assert_eq!(selector(&text).ok(), Some(Selector::Key(key)), "{text}");
        }
        let longer = format!("{serial}4f");
        for text in ["db1", "4f4f", longer.as_str()] {
            assert_eq!(selector(text).ok(), Some(Selector::Label(text.to_owned())));
        }
        assert!(selector("key:db1").is_err());
    }
}
