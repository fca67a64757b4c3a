//! `comity ca list|show|refresh|bundle`: an authority's keys and what it publishes.

use comity_agent::armour::{BUNDLE, CERTIFICATE, write_block};
use comity_authority::Authority;
use comity_identity::{KeyHash, UnixTime};
use comity_record::{Bundle, KeyRole, KeyState};
use serde_json::{Value, json};

use super::founding::parse_locations;
use super::inspect::Finding;
use super::inspect::statements::{freshness, key_line, key_value, may};
use super::{authorities, authority_failure, open, write_out};
use crate::Outcome;
use crate::args::ca::{CaBundle, CaRefresh, CaShow};
use crate::context::{Context, now, store_failure};
use crate::remaining::{remaining, until};
use crate::root_key::in_home;
use crate::shell::{Exit, Failure};

pub(crate) fn list(context: &Context) -> Outcome {
    let home = context.open_home()?;
    let now = now();
    let (mut lines, mut values) = (Vec::new(), Vec::<Value>::new());
    let mut unread = Vec::new();
    for known in authorities(&home)? {
        let authority = match known.opened {
            Ok(authority) => authority,
            Err(failure) => {
                unread.push(*failure);
                continue;
            }
        };
        let state = bundle_words(&authority, now);
        lines.push(format!("{}  {}  {state}", known.label, known.network));
        values.push(json!({
            "name": authority.name(), "label": known.label,
            "network": known.network.to_string(), "hex": known.network.to_hex(),
            "bundle": authority.bundle().map(|bundle| json!({
                "sequence": bundle.sequence(), "expires": bundle.expires().to_string(),
            })),
        }));
    }
    if lines.is_empty() && unread.is_empty() && !context.shell.json {
        context
            .shell
            .say("there is no authority in this home: `comity ca init NAME` makes one");
        return Ok(Exit::Yes);
    }
    if !lines.is_empty() || context.shell.json {
        context.shell.answer(lines.join("\n"), &values);
    }
    for failure in &unread {
        context.shell.fail_in_words(failure);
    }
    Ok(match unread.is_empty() {
        true => Exit::Yes,
        false => Exit::Unable,
    })
}

fn bundle_words(authority: &Authority, now: UnixTime) -> String {
    match authority.bundle() {
        None => "no bundle yet".to_owned(),
        Some(bundle) => format!(
            "bundle {}, {}",
            freshness(bundle.standing(now)),
            remaining(bundle.expires(), now)
        ),
    }
}

pub(crate) fn show(context: &Context, args: &CaShow) -> Outcome {
    let home = context.open_home()?;
    let authority = open(&home, &args.name, "comity ca show")?;
    if args.certificate {
        let text = write_block(CERTIFICATE, authority.root().details().der());
        let value = json!({ "network": authority.network().to_string(), "certificate": text });
        context.shell.answer(text.trim_end(), &value);
        return Ok(Exit::Yes);
    }
    let now = now();
    let mut page = Finding::new(format!("authority {}", authority.name()));
    let network = authority.network();
    page.fact("network id", network);
    page.fact("", network.words());
    let mut keys = Vec::new();
    for key in authority.charter().keys() {
        page.fact("key", key_line(key, now));
        let kept = where_kept(&authority, key.role, key.state, &key.key())?;
        page.fact("", format!("{}; {kept}", may(key)));
        let mut value = key_value(key);
        value["kept"] = json!(kept);
        keys.push(value);
    }
    match authority.bundle() {
        None => page.fact("bundle", "none yet; `comity ca refresh` makes it"),
        Some(bundle) => {
            page.fact(
                "bundle",
                format!("number {}, {}", bundle.sequence(), bundle.issued()),
            );
            let state = freshness(bundle.standing(now));
            page.fact(
                "",
                format!("until {}; {state}", until(bundle.expires(), now)),
            );
        }
    }
    for location in authority.locations() {
        page.fact("location", location);
    }
    let (issued, withdrawn) = counts(&authority)?;
    page.fact(
        "issued",
        format!("{issued} certificates: `comity ca issued {}`", args.name),
    );
    page.fact("withdrawn", withdrawn);
    let value = json!({
        "name": authority.name(), "network": network.to_string(), "hex": network.to_hex(),
        "words": network.words().to_string(), "keys": keys,
        "bundle": authority.bundle().map(|bundle| bundle_value(bundle, now)),
        "locations": authority.locations().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "issued": issued, "withdrawn": withdrawn,
    });
    context.shell.answer(page.text(), &value);
    Ok(Exit::Yes)
}

/// Where the private half of a key is, as far as this home knows.
fn where_kept(
    authority: &Authority,
    role: KeyRole,
    state: KeyState,
    key: &KeyHash,
) -> Result<&'static str, Failure> {
    if state == KeyState::Revoked {
        return Ok("nothing by it counts");
    }
    let kept = authority
        .files()
        .key(key)
        .map_err(|error| store_failure(&error))?;
    let root = in_home(authority.files().home(), key);
    Ok(match (role, kept.is_some()) {
        (_, true) => "kept here",
        (KeyRole::Root, false) if root.exists() => "its file is in this home, and belongs offline",
        (KeyRole::Root, false) => "not in this home",
        (KeyRole::Issuing, false) => "kept on another machine",
    })
}

fn counts(authority: &Authority) -> Result<(u64, usize), Failure> {
    let session = authority.files().issued().open();
    let issued = session.and_then(|session| session.count());
    let issued = issued.map_err(|error| store_failure(&error))?;
    let withdrawn = authority
        .bundle()
        .map_or(0, |bundle| bundle.withdrawn().len());
    Ok((issued, withdrawn))
}

fn bundle_value(bundle: &Bundle, now: UnixTime) -> Value {
    json!({
        "sequence": bundle.sequence(), "issued": bundle.issued().to_string(),
        "expires": bundle.expires().to_string(),
        "recognises": bundle.standing(now).recognises(),
    })
}

pub(crate) fn refresh(context: &Context, args: &CaRefresh) -> Outcome {
    let home = context.open_home()?;
    let mut authority = open(&home, &args.name, "comity ca refresh")?;
    let now = now();
    let locations = match args.locations.is_empty() {
        true => authority.locations().to_vec(),
        false => parse_locations(&args.locations)?,
    };
    authority
        .set_locations(locations, now)
        .map_err(|error| authority_failure(&error))?;
    let bundle = published(&authority)?;
    context.shell.answer(
        format_args!(
            "bundle {} until {}",
            bundle.sequence(),
            until(bundle.expires(), now)
        ),
        &bundle_value(bundle, now),
    );
    Ok(Exit::Yes)
}

fn published(authority: &Authority) -> Result<&Bundle, Failure> {
    authority.bundle().ok_or_else(|| {
        Failure::unable("the authority has published nothing yet")
            .hint(format!("comity ca refresh {}", authority.network()))
    })
}

pub(crate) fn bundle(context: &Context, args: &CaBundle) -> Outcome {
    let home = context.open_home()?;
    let authority = open(&home, &args.name, "comity ca bundle")?;
    let bundle = published(&authority)?;
    let text = write_block(BUNDLE, bundle.bytes());
    let now = now();
    if !bundle.standing(now).recognises() {
        context.shell.warn(format_args!(
            "this bundle recognises no new member any more: `comity ca refresh {}`",
            args.name
        ));
    }
    let mut value = bundle_value(bundle, now);
    value["network"] = json!(bundle.network().to_string());
    write_out(context, args.out.as_deref(), &text, value)
}
