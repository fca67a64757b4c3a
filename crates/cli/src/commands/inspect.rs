//! `comity trust explain|scan`: looking without touching.

use comity_agent::{Planned, Planning, host_and_port, read_named_file};
use comity_certs::{Form, PresentedChain};
use comity_identity::{KeyHash, PeerId};
use comity_tls::{DialError, Dialer, Versions, Wish, expectation_at};
use comity_trust::{
    AllowRule, Direction, Expectation, Explanation, Invited, KnownPeers, Mode, Name,
    Outcome as RuleOutcome, Phase, Query, Step, StepDetail, SuccessionPolicy, Verdict, authorise,
    explain as explain_query,
};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{DialOptions, TrustExplain, TrustScan};
use crate::commands::block_on;
use crate::commands::connect::{Dialling, plan_failure, prepare, subject};
use crate::commands::identity_roll::statements_json;
use crate::commands::statements::stapled;
use crate::context::{Context, check_mode, now};
use crate::messages::{Subject, dial_failure, evidence_text, refusal_failure, serial_text};
use crate::shell::{Exit, Failure};

pub(crate) fn scan(context: &Context, args: &TrustScan) -> Outcome {
    let dialling = prepare(context, &no_options(Some(args.addr.clone())))?;
    let chain = fetch(&dialling, &args.addr, Some(&args.addr), args.tls12)?;
    let leaf = chain.leaf();
    let names: Vec<String> = leaf.names.iter().map(ToString::to_string).collect();
    let kind = match chain.form() {
        Form::Native => "Comity node",
        Form::Foreign => "foreign peer",
    };
    let peer = chain.peer_id();
    let value = json!({
        "address": args.addr, "id": peer.to_string(), "words": peer.key_hash().words().to_string(),
        "hex": peer.key_hash().to_hex(), "kind": kind, "certificate": leaf.fingerprint.to_hex(),
        "not_before": leaf.not_before.to_string(), "not_after": leaf.not_after.to_string(),
        "names": names, "verified": false,
    });
    let text = format!(
        "{peer}\n  {}\n  a {kind}; certificate valid {} to {}{}",
        peer.key_hash().words(),
        leaf.not_before,
        leaf.not_after,
        if names.is_empty() {
            String::new()
        } else {
            format!("; claims {}", names.join(", "))
        },
    );
    context.shell.answer(text, &value);
    context
        .shell
        .say("this verifies nothing: compare the id with the peer's operator");
    Ok(Exit::Yes)
}

/// The chain that is presented at a peer's address. The dial expects an id that nobody has, so that
/// it ends in our callback: the peer learns nothing of us.
pub(crate) fn fetch(
    dialling: &Dialling,
    peer: &str,
    address: Option<&str>,
    tls12: bool,
) -> Result<PresentedChain, Failure> {
    let known = &dialling.dialer.endpoint().store().snapshot().known;
    let planning = Planning {
        address,
        versions: if tls12 {
            Versions::Tls12Too
        } else {
            Versions::Tls13
        },
        ..Planning::default()
    };
    let wish = Wish::Service(None);
    let mut planned =
        Planned::of(peer, known, Mode::Pin, wish, &planning).map_err(|e| plan_failure(&e))?;
    planned.route.request.expectation.id = Some(PeerId::Key(KeyHash::from_bytes([0; 32])));
    let subject = subject(peer, &planned);
    let dialer: &Dialer = &dialling.dialer;
    match block_on(async { planned.route.dial(dialer).await })? {
        Err(DialError::Refused { chain, .. }) => Ok(*chain),
        Err(error) => Err(dial_failure(&subject, &error)),
        Ok(_) => Err(Failure::unable("a key with the hash zero: this cannot be")),
    }
}

pub(crate) fn no_options(addr: Option<String>) -> DialOptions {
    DialOptions {
        trust: None,
        ca: None,
        label: None,
        addr,
        i_mean_it: true,
    }
}

pub(crate) fn explain(context: &Context, args: &TrustExplain) -> Outcome {
    let direction = match args.accept {
        Some(_) => Direction::Accept,
        None => Direction::Dial,
    };
    let mut options = no_options(None);
    options.trust = args.trust;
    options.ca = args.ca.clone();
    let dialling = prepare(context, &options)?;
    let mode = match (args.accept, args.trust, dialling.ask) {
        (Some(mode), ..) | (None, Some(mode), _) => mode,
        (None, None, true) => Mode::CaOrTofu,
        (None, None, false) => dialling.mode,
    };
    check_mode(mode, direction, true)?;
    let chain = evidence(&dialling, args, direction)?;
    let endpoint = dialling.dialer.endpoint();
    let snapshot = endpoint.store().snapshot();
    let known = &snapshot.known;
    let expectation = match direction {
        Direction::Accept => Expectation::default(),
        Direction::Dial => expected_when_dialling(&args.peer, args.addr.as_deref(), known)?,
    };
    let explanation = explain_query(&Query {
        direction,
        mode,
        phase: Phase::Gate,
        chain: &chain,
        expectation: &expectation,
        known,
        system_roots: endpoint.roots(),
        own: &endpoint.credentials().own_keys(),
        networks: &snapshot.networks,
        succession: SuccessionPolicy::default(),
        invited: Invited::No,
        now: now(),
    });
    show(context, args, mode, direction, &explanation, &chain)
}

/// What `connect` would expect of whoever answers at the address that is dialled first.
fn expected_when_dialling(
    peer: &str,
    address: Option<&str>,
    known: &KnownPeers,
) -> Result<Expectation, Failure> {
    let target = comity_trust::resolve(peer, known).map_err(Failure::unable)?;
    let expectation = target.expectation();
    let given = address.and_then(|text| Name::parse(text).ok());
    let dialled = given.as_ref().or(target.addresses().first());
    let host_and_port = dialled.and_then(host_and_port);
    Ok(match host_and_port {
        Some((host, port)) => expectation_at(&expectation, &host, port),
        None => expectation,
    })
}

fn evidence(
    dialling: &Dialling,
    args: &TrustExplain,
    direction: Direction,
) -> Result<PresentedChain, Failure> {
    if let Some(path) = &args.cert {
        let text = read_named_file(path)
            .map_err(|error| Failure::unable(format!("cannot read {}: {error}", path.display())))?;
        let chain = certificates_of(&text)
            .and_then(|der| PresentedChain::parse(&der).map_err(|e| Failure::no(e.to_string())));
        return chain.map_err(|failure| failure.detail(format!("in {}", path.display())));
    }
    if direction == Direction::Accept {
        return Err(Failure::unable(
            "what a peer presents when it dials us is not known beforehand",
        )
        .hint("name a PEM file with its certificate and root: --cert FILE"));
    }
    fetch(dialling, &args.peer, args.addr.as_deref(), false)
}

fn certificates_of(text: &str) -> Result<Vec<Vec<u8>>, Failure> {
    comity_certs::certificates_in_pem(text)
        .map_err(|error| Failure::unable(format!("no certificates: {error}")))
}

fn show(
    context: &Context,
    args: &TrustExplain,
    mode: Mode,
    direction: Direction,
    explanation: &Explanation,
    chain: &PresentedChain,
) -> Outcome {
    let steps = explanation.steps.iter().flat_map(step_lines);
    let service = args
        .service
        .as_ref()
        .map(|service| match &explanation.verdict {
            Verdict::Accept(recognition) => authorise(service, &AllowRule::Granted, recognition),
            Verdict::Refuse(refusal) => Err(refusal.reason),
        });
    let (answer, reason) = match &explanation.verdict {
        Verdict::Accept(recognition) => (format!("accepted, by {}", recognition.how.token()), None),
        Verdict::Refuse(refusal) => (
            format!("refused: {}", refusal.reason.token()),
            Some(refusal.reason),
        ),
    };
    let mut lines = vec![format!(
        "{} when we {direction}, in mode {mode}: {answer}",
        args.peer
    )];
    lines.push(format!("  {:<17} {}", "presents", chain.peer_id()));
    lines.extend(steps);
    if let Some(service) = &service {
        let verdict = match service {
            Ok(()) => "yes".to_owned(),
            Err(reason) => format!("no ({})", reason.token()),
        };
        lines.push(format!(
            "  {:<17} {}: {verdict}",
            "service",
            args.service.as_deref().unwrap_or("")
        ));
    }
    let value = json!({
        "accepted": reason.is_none(),
        "reason": reason.map(|r| r.token()),
        "mode": mode.token(), "direction": direction.token(),
        "presented": chain.peer_id().to_string(),
        "label": explanation.verdict.recognition().and_then(|r| r.label.clone()),
        "service": service.as_ref().map(Result::is_ok),
        "steps": explanation.steps.iter().map(|step| json!({
            "rule": step.rule.token(), "outcome": outcome_text(step.outcome),
            "detail": step.detail.as_ref().and_then(detail_json),
        })).collect::<Vec<_>>(),
        "succession": stapled(chain).ok().flatten().map(|history| statements_json(&history)),
    });
    context.shell.answer(lines.join("\n"), &value);
    if let (Verdict::Refuse(refusal), false) = (&explanation.verdict, context.shell.json) {
        let subject = Subject {
            typed: args.peer.clone(),
            address: None,
        };
        for line in refusal_failure(&subject, refusal, chain).details {
            if line != "no data was sent" {
                context.shell.say(format_args!("  {line}"));
            }
        }
    }
    let yes = reason.is_none() && service.is_none_or(|s| s.is_ok());
    Ok(if yes { Exit::Yes } else { Exit::No })
}

/// A rule, what came of it, and of what.
fn step_lines(step: &Step) -> Vec<String> {
    let first = format!("  {:<17} {}", step.rule.token(), outcome_text(step.outcome));
    let details = step.detail.iter().flat_map(detail_lines);
    std::iter::once(first)
        .chain(details.map(|line| format!("  {:<17}   {line}", "")))
        .collect()
}

fn detail_lines(detail: &StepDetail) -> Vec<String> {
    match detail {
        StepDetail::Membership(membership) => vec![
            format!("network {} ({})", membership.label, membership.network),
            format!(
                "certificate {} by key:{}, until {}",
                serial_text(&membership.cross.serial),
                membership.cross.issuer_key,
                membership.not_after
            ),
            match membership.roles.is_empty() {
                true => "no roles".to_owned(),
                false => format!("roles {}", membership.roles.join(", ")),
            },
        ],
        StepDetail::Succession { from, to } => {
            vec![format!("from {from}"), format!("to   {to}")]
        }
        StepDetail::Evidence(evidence) => evidence_text(evidence).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn detail_json(detail: &StepDetail) -> Option<Value> {
    match detail {
        StepDetail::Membership(membership) => Some(json!({
            "network": membership.network.to_string(), "label": membership.label,
            "issuer": membership.cross.issuer_key.to_string(),
            "serial": serial_text(&membership.cross.serial),
            "roles": membership.roles, "not_after": membership.not_after.to_string(),
        })),
        StepDetail::Succession { from, to } => {
            Some(json!({ "from": from.to_string(), "to": to.to_string() }))
        }
        StepDetail::Evidence(evidence) => evidence_text(evidence).map(Value::from),
        _ => None,
    }
}

fn outcome_text(outcome: RuleOutcome) -> String {
    match outcome {
        RuleOutcome::Passed => "passed".to_owned(),
        RuleOutcome::DoesNotApply => "does not apply".to_owned(),
        RuleOutcome::Recognised { line: Some(line) } => format!("recognised (known_peers:{line})"),
        RuleOutcome::Recognised { line: None } => "recognised".to_owned(),
        RuleOutcome::Refused(reason) => format!("refused: {}", reason.token()),
        RuleOutcome::Failed(reason) => format!("no ({}), next rule", reason.token()),
    }
}
