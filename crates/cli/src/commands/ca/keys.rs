//! `comity ca delegate|roll-issuing|roll-root|revoke-key`: the authority's own keys. A root signs
//! each step.

use comity_agent::armour::{CERTIFICATE, write_block};
use comity_authority::{Affected, Authority, AuthorityError, KeyOrder};
use comity_certs::{Metadata, read_csr};
use comity_identity::{Algorithm, KeyHash, UnixTime};
use comity_record::{AuthorityKey, KeyRole, KeyState};
use serde_json::{Value, json};

use super::{authority_failure, must_be_new, open, open_root, read_bounded, write_out};
use crate::Outcome;
use crate::args::ca::{CaDelegate, CaRevokeKey, CaRollIssuing, CaRollRoot};
use crate::context::{Context, now, store_failure};
use crate::root_key::{NewRoot, check_new, new_passphrase};
use crate::shell::{Exit, Failure};

/// Bytes of a request's file.
const MAX_REQUEST_FILE: u64 = 256 << 10;

pub(crate) fn delegate(context: &Context, args: &CaDelegate) -> Outcome {
    let home = context.open_home()?;
    let mut authority = open(&home, &args.name, "comity ca delegate")?;
    if !args.dns.is_empty() && args.path_length != 0 {
        return Err(
            Failure::unable("--dns limits leaves, and this key could certify members")
                .hint("add --path-length 0"),
        );
    }
    let bytes = read_bounded(&args.csr, MAX_REQUEST_FILE)?;
    let request = read_csr(&bytes).map_err(|error| {
        Failure::no(format!(
            "the request in {} is refused: {error}",
            args.csr.display()
        ))
    })?;
    let key = KeyHash::of_spki(&request.spki);
    let network = authority.network().to_hex();
    if request.subject != format!("CN={network}") {
        return Err(Failure::no("the request does not say that its key is for this network").hint(
            format!("make one with the network's id as the only name: `openssl req -new -key KEY -subj /CN={network}`"),
        ));
    }
    must_be_new(&args.out)?;
    if let Some(known) = authority.charter().key(&key) {
        return delegated(context, &authority, known, args);
    }
    let scope = Metadata::new(Vec::new(), args.roles.clone(), Vec::new())
        .map_err(|error| Failure::unable(format!("--may-attest-role: {error}")))?;
    let order = KeyOrder {
        path_length: args.path_length,
        scope,
        dns: args.dns.clone(),
        lifetime: args.valid,
        ..KeyOrder::default()
    };
    let root = open_root(&authority, &args.root)?;
    let made = authority
        .delegate(&root.key, &bytes, &order, now())
        .map_err(|error| authority_failure(&error))?;
    let value = json!({
        "key": key.to_string(), "path_length": args.path_length, "may_attest_roles": args.roles,
        "dns": args.dns,
    });
    let text = write_block(CERTIFICATE, &made);
    let outcome = write_out(context, Some(&args.out), &text, value).map_err(|failure| {
        failure
            .detail(format!(
                "key:{key} is certified, and only its certificate is not written"
            ))
            .hint("run this again with another --out: it writes the same certificate")
    })?;
    context.shell.say(format_args!(
        "key:{key} issues for {} from now on; if it is ever stolen: `comity ca revoke-key {} key:{key}`",
        authority.name(),
        args.name
    ));
    Ok(outcome)
}

/// Writes the certificate of a delegated key again, for whoever has lost it: there is nothing to sign.
fn delegated(
    context: &Context,
    authority: &Authority,
    known: &AuthorityKey,
    args: &CaDelegate,
) -> Outcome {
    let is_in_use = matches!(known.state, KeyState::Next | KeyState::Active);
    let kept = authority.files().key(&known.key());
    let kept = kept.map_err(|error| store_failure(&error))?.is_some();
    let line = super::inspect::statements::key_line(known, now());
    if known.role != KeyRole::Issuing || !is_in_use || kept {
        return Err(Failure::no("that key is one of the authority's already").detail(line));
    }
    let text = write_block(CERTIFICATE, known.details().der());
    let value = json!({ "key": known.key().to_string(), "again": true });
    let outcome = write_out(context, Some(&args.out), &text, value)?;
    context.shell.say(format_args!(
        "that key was delegated before, and its certificate is as it was: {line}"
    ));
    Ok(outcome)
}

pub(crate) fn roll_issuing(context: &Context, args: &CaRollIssuing) -> Outcome {
    let home = context.open_home()?;
    let mut authority = open(&home, &args.name, "comity ca roll-issuing")?;
    let now = now();
    let used = own_issuing(&authority, |state| state == KeyState::Active)?;
    let announced = own_issuing(&authority, |state| state == KeyState::Next)?;
    let announced = announced.first().copied();
    let step = step(&authority, args, announced, now)?;
    if args.dry_run {
        return would_roll(context, &mut authority, &used, &step, args, now);
    }
    let root = open_root(&authority, &args.root)?;
    let order = KeyOrder {
        algorithm: algorithm_of(&authority, used.first()),
        ..KeyOrder::default()
    };
    let (key, text) = match step {
        Step::Announce => {
            let key = authority.announce_key(&root.key, &order, now);
            let key = key.map_err(|error| authority_failure(&error))?;
            let from = usable_from(&authority);
            (
                key,
                format!("announced key:{key}; run this again from {from} on"),
            )
        }
        Step::Activate(key) => {
            let used = authority.activate_key(&root.key, &key, args.overlap, now);
            used.map_err(|error| authority_failure(&error))?;
            (key, format!("key:{key} issues from now on"))
        }
        Step::Replace => {
            let key = authority.roll_issuing(&root.key, &order, args.overlap, now);
            let key = key.map_err(|error| authority_failure(&error))?;
            (key, format!("key:{key} issues from now on"))
        }
    };
    let value = json!({ "key": key.to_string(), "step": step.token() });
    context.shell.answer(text, &value);
    if step != Step::Announce {
        for old in &used {
            context.shell.say(format_args!(
                "what key:{old} signed counts until {}; members get new certificates when they connect",
                now + args.overlap
            ));
        }
    }
    Ok(Exit::Yes)
}

/// What is to be done about the issuing key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Announce,
    Activate(KeyHash),
    Replace,
}

impl Step {
    fn token(self) -> &'static str {
        match self {
            Self::Announce => "announced",
            Self::Activate(_) => "activated",
            Self::Replace => "replaced",
        }
    }
}

/// A key that nobody has heard of must not sign yet: whoever holds yesterday's bundle would not know
/// the members that it certifies.
fn step(
    authority: &Authority,
    args: &CaRollIssuing,
    announced: Option<KeyHash>,
    now: UnixTime,
) -> Result<Step, Failure> {
    let from = usable_from(authority);
    match announced {
        Some(key) if args.now || now >= from => Ok(Step::Activate(key)),
        Some(key) if args.dry_run => Ok(Step::Activate(key)),
        Some(key) => Err(Failure::no(
            "the new issuing key was announced, and not everybody knows it",
        )
        .detail(format!("key:{key}"))
        .hint(format!(
            "run this again from {from} on, or with --now if the old key is stolen"
        ))),
        None if args.now => Ok(Step::Replace),
        None => Ok(Step::Announce),
    }
}

/// When whoever fetches bundles as often as they ask for has the present charter.
fn usable_from(authority: &Authority) -> UnixTime {
    let refresh = authority.bundle().map(comity_record::Bundle::refresh);
    authority.charter().issued() + refresh.unwrap_or(comity_authority::BUNDLE_REFRESH)
}

/// The issuing keys in a state whose private halves are kept here.
fn own_issuing(
    authority: &Authority,
    wanted: impl Fn(KeyState) -> bool,
) -> Result<Vec<KeyHash>, Failure> {
    let mut found = Vec::new();
    for key in authority.charter().keys() {
        let kept = |key: &AuthorityKey| authority.files().key(&key.key());
        let issuing = key.role == KeyRole::Issuing && wanted(key.state);
        if issuing && kept(key).map_err(|error| store_failure(&error))?.is_some() {
            found.push(key.key());
        }
    }
    Ok(found)
}

/// As the key before it.
fn algorithm_of(authority: &Authority, key: Option<&KeyHash>) -> Algorithm {
    let key = key.and_then(|key| authority.charter().key(key));
    key.and_then(|key| Algorithm::of_spki(key.details().spki()).ok())
        .unwrap_or(Algorithm::EcdsaP256)
}

fn would_roll(
    context: &Context,
    authority: &mut Authority,
    used: &[KeyHash],
    step: &Step,
    args: &CaRollIssuing,
    now: UnixTime,
) -> Outcome {
    let mut lines = vec![match step {
        Step::Announce => {
            "would announce a new issuing key; nothing changes for anybody yet".to_owned()
        }
        Step::Activate(key) => format!(
            "would use key:{key} from {} on, and retire the old one",
            usable_from(authority).max(now)
        ),
        Step::Replace => {
            "would use a new issuing key at once: until they fetch the next bundle, others \
                          do not recognise whom it certifies"
                .to_owned()
        }
    }];
    let mut values = Vec::new();
    for key in used {
        let affected = affected(authority, key, now)?;
        lines.extend(affected_lines(key, &affected));
        values.push(affected_value(key, &affected));
    }
    if *step != Step::Announce {
        lines.push(format!("they go on to count until {}", now + args.overlap));
    }
    let value = json!({ "dry_run": true, "step": step.token(), "affected": values });
    context.shell.answer(lines.join("\n"), &value);
    Ok(Exit::Yes)
}

pub(crate) fn roll_root(context: &Context, args: &CaRollRoot) -> Outcome {
    let home = context.open_home()?;
    let mut authority = open(&home, &args.name, "comity ca roll-root")?;
    let now = now();
    let old = authority.root().key();
    if args.dry_run {
        let affected = affected(&mut authority, &old, now)?;
        let mut lines = vec![
            "would make a new root, certified by the old one; the network id stays".to_owned(),
            "who was away catches up with the bundle; nobody is cut off".to_owned(),
            format!("the old root would count until {}", now + args.overlap),
        ];
        lines.extend(affected_lines(&old, &affected));
        let value = json!({ "dry_run": true, "affected": [affected_value(&old, &affected)] });
        context.shell.answer(lines.join("\n"), &value);
        return Ok(Exit::Yes);
    }
    check_new(&args.new_root)?;
    let root = open_root(&authority, &args.root)?;
    let passphrase = match &root.passphrase {
        Some(passphrase) => passphrase.clone(),
        None => new_passphrase(&args.root)?,
    };
    let algorithm = Algorithm::of_spki(root.key.spki()).unwrap_or(Algorithm::EcdsaP256);
    let new = NewRoot::generate(algorithm, &passphrase, Some(args.new_root.clone()))?;
    new.keep(&home)?;
    authority
        .roll_root(&root.key, &new.key, args.overlap, now)
        .map_err(|error| {
            let file = args.new_root.display();
            authority_failure(&error).detail(match &error {
                AuthorityError::Unfinished { .. } => {
                    format!("{file} is the root key from now on: keep it, and the old one")
                }
                _ => format!("{file} holds a key that nothing uses yet"),
            })
        })?;
    let key = KeyHash::of_spki(new.key.spki());
    context.shell.answer(
        format_args!("key:{key} is the root of {} from now on", authority.name()),
        &json!({
            "key": key.to_string(), "root_key": args.new_root, "old": old.to_string(),
            "old_until": (now + args.overlap).to_string(),
            "network": authority.network().to_string(),
        }),
    );
    context.shell.say(format_args!(
        "the network id stays {}; the old root counts until {}",
        authority.network(),
        now + args.overlap
    ));
    context.shell.say(format_args!(
        "{} is the new root key, sealed with the passphrase of the old one: keep it offline; keep the old \
         one too until then",
        args.new_root.display()
    ));
    context.shell.say(
        "partners that certified the old root certify the new one: `comity ca show NAME --certificate`",
    );
    Ok(Exit::Yes)
}

pub(crate) fn revoke_key(context: &Context, args: &CaRevokeKey) -> Outcome {
    let home = context.open_home()?;
    let mut authority = open(&home, &args.name, "comity ca revoke-key")?;
    let text = args.key.strip_prefix("key:").unwrap_or(&args.key);
    let key = text
        .parse::<KeyHash>()
        .map_err(|error| Failure::unable(format!("`{}` is no key: {error}", args.key)))?;
    let now = now();
    check_revocable(&authority, &key, &args.name)?;
    let affected = affected(&mut authority, &key, now)?;
    let lines = affected_lines(&key, &affected);
    if args.dry_run {
        authority
            .check_revocation(&key, now)
            .map_err(|error| authority_failure(&error))?;
        let value = json!({ "dry_run": true, "affected": [affected_value(&key, &affected)] });
        let mut text = vec![format!("would revoke key:{key} for ever; cut off at once:")];
        text.extend(lines);
        context.shell.answer(text.join("\n"), &value);
        return Ok(Exit::Yes);
    }
    let root = open_root(&authority, &args.root)?;
    authority
        .revoke_key(&root.key, &key, now)
        .map_err(|error| authority_failure(&error))?;
    let mut text = vec![format!("revoked key:{key} for ever")];
    text.extend(lines);
    let value =
        json!({ "revoked": key.to_string(), "affected": [affected_value(&key, &affected)] });
    context.shell.answer(text.join("\n"), &value);
    if !affected.members.is_empty() {
        context
            .shell
            .say("members among them need a new invitation, or `comity ca certify`");
    }
    Ok(Exit::Yes)
}

/// An authority without a root, or without a key that signs its bundles, could not even say so.
fn check_revocable(authority: &Authority, key: &KeyHash, name: &str) -> Result<(), Failure> {
    let Some(known) = authority.charter().key(key) else {
        return Err(
            Failure::no(format!("key:{key} is none of {}'s keys", authority.name()))
                .hint(format!("`comity ca show {name}` lists them")),
        );
    };
    if known.role == KeyRole::Root && known.state == KeyState::Active {
        return Err(Failure::no("that is the root in use").hint(format!(
            "replace it first: `comity ca roll-root {name} --new-root FILE`"
        )));
    }
    let others = own_issuing(authority, |state| state == KeyState::Active)?;
    let falls = |other: &KeyHash| {
        let issuer = authority
            .charter()
            .key(other)
            .map(|k| k.details().issuer_key());
        other == key || issuer == Some(*key)
    };
    let is_last = !others.is_empty() && others.iter().all(falls);
    match known.state != KeyState::Revoked && is_last {
        true => Err(Failure::no(
            "that is the only issuing key in use, and somebody has to sign the bundle that says so",
        )
        .hint(format!(
            "replace it first: `comity ca roll-issuing {name} --now`"
        ))),
        false => Ok(()),
    }
}

fn affected(authority: &mut Authority, key: &KeyHash, now: UnixTime) -> Result<Affected, Failure> {
    authority
        .affected(key, now)
        .map_err(|error| authority_failure(&error))
}

fn affected_lines(key: &KeyHash, affected: &Affected) -> Vec<String> {
    let mut lines = vec![format!(
        "certificates that hang on key:{}: {}, of members: {}",
        key.short(),
        affected.certificates,
        affected.members.len()
    )];
    lines.extend(
        affected
            .issuing_keys
            .iter()
            .map(|key| format!("  issuing key:{key}")),
    );
    lines.extend(affected.members.iter().map(|member| {
        format!(
            "  {}  {} days left  key:{}",
            member.label, member.days_left, member.key
        )
    }));
    lines
}

fn affected_value(key: &KeyHash, affected: &Affected) -> Value {
    json!({
        "key": key.to_string(), "certificates": affected.certificates,
        "issuing_keys": affected.issuing_keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "members": affected.members.iter().map(|member| json!({
            "label": member.label, "key": member.key.to_string(), "roles": member.roles,
            "days_left": member.days_left,
        })).collect::<Vec<_>>(),
    })
}
