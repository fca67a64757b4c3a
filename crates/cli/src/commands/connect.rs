//! `comity connect`: a peer's service on standard input and output, or on a local port.

use std::path::Path;
use std::sync::Arc;

use comity_agent::network::follow_networks;
use comity_agent::{PlanError, Planned, Planning, split_service};
use comity_certs::PresentedChain;
use comity_identity::{NodeId, PeerId};
use comity_store::{Change, Deed, PeerStore};
use comity_tls::{
    Alpn, Connection, DialError, Dialer, Endpoint, LeafProfile, PeerInfo, ServiceName, Versions,
    Wish, alert_of,
};
use comity_trust::{
    Confirmed, Direction, Edit, Entry, Evidence, How, KnownPeers, Mode, Name, Names, Origin, Pin,
    Reason, Refusal, Side, SuccessionFault, SuccessionPolicy, Target, What, resolve,
};
use comity_tunnel::{LocalListener, forward, pipe_peer_standard};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;
use crate::args::{Connect, DialOptions, Join};
use crate::commands::serve::stop_on_signal;
use crate::commands::socket_file::SocketFile;
use crate::commands::statements::{ask_to_follow, stapled};
use crate::commands::{block_on, invite};
use crate::context::{Context, check_mode, mode_setting, now};
use crate::messages::{Subject, dial_failure, pin_text, warning_text};
use crate::shell::{Exit, Failure, Terminal, chain};

/// How a peer is dialled, once flags and files are read.
pub(crate) struct Dialling {
    pub(crate) dialer: Dialer,
    pub(crate) mode: Mode,
    /// Whether a person is asked at first use: always in `ca-or-tofu`, whoever chose it. Only
    /// `tofu` and the modes that record accept a first key without a question.
    pub(crate) ask: bool,
}

pub(crate) fn connect(context: &Context, args: &Connect) -> Outcome {
    let (peer, service) = split_service(&args.peer);
    let service = service
        .map(|name| {
            name.parse::<ServiceName>()
                .map_err(|e| Failure::unable(format!("`{name}`: {e}")))
        })
        .transpose()?;
    let dialling = prepare(context, &args.dial)?;
    let peer = accept_invitation(context, dialling.dialer.endpoint(), peer, args)?;
    let mut planned = plan(&dialling, &peer, Wish::Service(service), &args.dial, args)?;
    if let Some(name) = &args.network {
        let network = network_named(dialling.dialer.endpoint(), name)?;
        planned.route.request.expectation.network = Some(network);
    }
    let subject = subject(&peer, &planned);
    match &args.listen {
        None => block_on(on_standard_streams(context, &dialling, planned, &subject))?,
        Some(local) => block_on(on_local(context, &dialling, planned, &subject, local))?,
    }
}

fn network_named(endpoint: &Endpoint, name: &str) -> Result<NodeId, Failure> {
    let snapshot = endpoint.store().snapshot();
    let networks = &snapshot.networks;
    let by_id = name.parse().ok().and_then(|id| networks.get(&id));
    match by_id.or_else(|| networks.by_label(name)) {
        Some(authority) => Ok(authority.id()),
        None => Err(Failure::no(format!(
            "there is no network `{}` here",
            name.escape_debug()
        ))
        .hint("`comity network list` shows those there are")
        .because(Reason::WrongNetwork)),
    }
}

/// Who answers at an address is not known beforehand: any member may.
fn tell_member(context: &Context, subject: &Subject, peer: &PeerInfo) {
    if !matches!(peer.how, How::CrossCertificate { .. }) {
        return;
    }
    let places: Vec<String> = peer
        .memberships
        .iter()
        .map(|membership| match membership.roles.as_slice() {
            [] => membership.label.clone(),
            roles => format!("{} as {}", membership.label, roles.join(", ")),
        })
        .collect();
    context.shell.say(format_args!(
        "{} is {}, member of {}",
        subject.typed,
        peer.id,
        places.join("; ")
    ));
}

/// A PEER that is an invitation is joined first, and then connected to by its label.
fn accept_invitation(
    context: &Context,
    endpoint: &Endpoint,
    peer: &str,
    args: &Connect,
) -> Result<String, Failure> {
    if !comity_trust::invitation::has_prefix(peer) {
        return Ok(peer.to_owned());
    }
    let join = Join {
        invitation: None,
        label: args.dial.label.clone(),
        name: None,
        addr: args.dial.addr.clone(),
    };
    let invitation = comity_trust::invitation::Invitation::parse(peer)
        .map_err(|error| Failure::unable(format!("this is no usable invitation: {error}")))?;
    let inviter = invitation.inviter;
    let joined = invite::redeem(context, endpoint, invitation, &join)?;
    if let Some(network) = &joined.network {
        network.tell(context, &joined.inviter, inviter);
    }
    Ok(joined.inviter)
}

/// Reads what decides how peers are dialled.
pub(crate) fn prepare(context: &Context, options: &DialOptions) -> Result<Dialling, Failure> {
    let home = context.open_home()?;
    let config = context.config(&home)?;
    let mode = mode_setting(options.trust, config.dial_mode(), "--trust", Mode::CaOrTofu)?;
    check_mode(mode.value, Direction::Dial, options.i_mean_it)?;
    let mut node = context.node(&home, LeafProfile::default(), "comity connect")?;
    if let Some(path) = options.ca.clone().or(config.dial_ca().map(|s| s.value)) {
        node = node.with_roots(context.anchors(&path)?);
    }
    let ask = mode.value == Mode::CaOrTofu;
    Ok(Dialling {
        dialer: Dialer::new(node.endpoint),
        // First use is recorded by the person's answer, not by the mode.
        mode: if ask { Mode::CaOrPin } else { mode.value },
        ask,
    })
}

fn plan(
    dialling: &Dialling,
    peer: &str,
    wish: Wish,
    options: &DialOptions,
    args: &Connect,
) -> Result<Planned, Failure> {
    let alpn = match args.alpn.as_deref() {
        None => Alpn::Comity,
        Some("none") => Alpn::None,
        Some(protocol) => Alpn::Other(protocol.as_bytes().to_vec()),
    };
    let known = &dialling.dialer.endpoint().store().snapshot().known;
    // A joined peer has its label already.
    let joined = comity_trust::invitation::has_prefix(&args.peer);
    let label = options.label.as_deref().filter(|_| !joined);
    if let Some(label) = label {
        check_label(peer, label, known)?;
    }
    let planning = Planning {
        label,
        address: options.addr.as_deref(),
        alpn,
        versions: if args.tls12 {
            Versions::Tls12Too
        } else {
            Versions::Tls13
        },
    };
    Planned::of(peer, known, dialling.mode, wish, &planning).map_err(|error| plan_failure(&error))
}

/// `--as` gives a label to a peer that has none. It renames nobody, and takes nobody's label.
fn check_label(peer: &str, label: &str, known: &KnownPeers) -> Result<(), Failure> {
    let name = Name::label(label).map_err(|e| Failure::unable(format!("--as {label}: {e}")))?;
    match resolve(peer, known) {
        Ok(Target::Known { label: known, .. }) if known != name => Err(Failure::unable(format!(
            "--as {label}: `{known}` is a label already, and stays it"
        ))
        .hint(format!(
            "leave out --as, or name the peer by its address: HOST:PORT --as {label}"
        ))),
        Ok(Target::Id { id, .. }) => {
            if let Some(other) = label_of(id, known).filter(|other| *other != name) {
                return Err(Failure::unable(format!(
                    "--as {label}: this id is known as `{other}` already"
                ))
                .hint(format!("`comity connect {other}`")));
            }
            match super::memory::peers_named(known, &name).contains(&id)
                || !known.has_pin_named(&name)
            {
                true => Ok(()),
                false => Err(Failure::unable(format!("`{label}` is another peer here"))
                    .hint("choose another label with --as")),
            }
        }
        // Anything else is judged where it is planned.
        _ => Ok(()),
    }
}

fn label_of(id: PeerId, known: &KnownPeers) -> Option<Name> {
    known
        .pins_of(id)
        .find_map(|(_, entry)| entry.names.label().cloned())
}

pub(crate) fn plan_failure(error: &PlanError) -> Failure {
    let failure = Failure::unable(chain(error));
    match error {
        PlanError::NoAddress(_) => failure.hint("say where it is: `--addr HOST:PORT`"),
        PlanError::Target(comity_trust::TargetError::UnknownLabel { .. }) => Failure {
            exit: Exit::No,
            ..failure
                .because(Reason::Unknown)
                .hint("`comity trust list` shows who is known")
        },
        _ => failure,
    }
}

pub(crate) fn subject(peer: &str, planned: &Planned) -> Subject {
    let address = planned
        .route
        .addresses
        .first()
        .map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        });
    // The name under which the peer is remembered is the one that later commands take.
    let typed = match (&planned.target, &planned.name) {
        (Target::Address(_), Some(name)) => name.to_string(),
        _ => peer.to_owned(),
    };
    Subject { typed, address }
}

async fn on_standard_streams(
    context: &Context,
    dialling: &Dialling,
    planned: Planned,
    subject: &Subject,
) -> Outcome {
    let connection = dial(context, dialling, &planned, subject).await?;
    tell_member(context, subject, &connection.peer);
    let _upkeep = dialling.dialer.endpoint().upkeep();
    let copied =
        pipe_peer_standard(connection.stream, tokio::io::stdin(), tokio::io::stdout()).await;
    match copied {
        Ok(_) => Ok(Exit::Yes),
        Err(error) => Err(Failure {
            after_data: true,
            ..stream_failure(subject, &error)
        }),
    }
}

/// A connection that broke after it was opened. A foreign peer refuses only now: a TLS 1.3 server
/// judges its client after the client believes the handshake done.
fn stream_failure(subject: &Subject, error: &std::io::Error) -> Failure {
    if let Some(alert) = alert_of(error) {
        return dial_failure(subject, &DialError::Alert(alert));
    }
    let whom = &subject.typed;
    let failure = Failure::unable(format!("the connection to {whom} broke: {error}"));
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Failure {
            exit: Exit::No,
            ..failure
        },
        std::io::ErrorKind::UnexpectedEof => Failure::unable(format!(
            "the connection to {whom} was cut off: what came may not be all"
        ))
        .hint("the peer stopped, or lets us in no longer; connecting again tells which"),
        _ => failure,
    }
}

async fn on_local(
    context: &Context,
    dialling: &Dialling,
    planned: Planned,
    subject: &Subject,
    local: &str,
) -> Outcome {
    // Once now: a refusal, or a question at first use, is better met here than by the first client.
    let connection = dial(context, dialling, &planned, subject).await?;
    tell_member(context, subject, &connection.peer);
    drop(connection);
    let stop = stop_on_signal()?;
    let (listener, place, socket) = listen(local).await?;
    context.shell.announce(
        format_args!("listening on {place}"),
        &json!({ "listening": place, "peer": subject.typed }),
    );
    let _upkeep = dialling.dialer.endpoint().upkeep();
    let _networks = follow_networks(dialling.dialer.endpoint());
    let report = {
        let (shell, subject) = (context.shell, subject.clone());
        // The answer of this command was its listening address.
        move |error: DialError| shell.fail_in_words(&dial_failure(&subject, &error))
    };
    let route = Arc::new(planned.route);
    forward(listener, dialling.dialer.clone(), route, stop, report).await;
    drop(socket);
    Ok(Exit::Yes)
}

async fn listen(local: &str) -> Result<(LocalListener, String, Option<SocketFile>), Failure> {
    let failed =
        |error: std::io::Error| Failure::unable(format!("cannot listen on {local}: {error}"));
    if let Some(path) = local
        .strip_prefix("unix:")
        .or(local.starts_with('/').then_some(local))
    {
        let (listener, file) = SocketFile::listen(Path::new(path)).map_err(failed)?;
        return Ok((
            LocalListener::Unix(listener),
            format!("unix:{path}"),
            Some(file),
        ));
    }
    let address = match local.strip_prefix(':').unwrap_or(local).parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => local.to_owned(),
    };
    let listener = TcpListener::bind(&address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "everybody who reaches this address uses the peer in our name");
    }
    Ok((LocalListener::Tcp(listener), address.to_string(), None))
}

/// Dials; at first use asks the person at the terminal, if there is one, and dials again.
pub(crate) async fn dial(
    context: &Context,
    dialling: &Dialling,
    planned: &Planned,
    subject: &Subject,
) -> Result<Connection<TcpStream>, Failure> {
    let store = dialling.dialer.endpoint().store();
    let before = pins(store, planned);
    let dialled = match planned.route.dial(&dialling.dialer).await {
        Err(DialError::Refused { refusal, chain })
            // Whoever names an id wants that peer: another one is not asked about.
            if dialling.ask
                && refusal.reason == Reason::Unknown
                && planned.route.request.expectation.id.is_none() =>
        {
            if !ask(store, planned, subject, &refusal, &chain)? {
                return Err(dial_failure(
                    subject,
                    &DialError::Refused { refusal, chain },
                ));
            }
            planned.route.dial(&dialling.dialer).await
        }
        Err(DialError::Refused { refusal, chain }) => {
            match successor_accepted(subject, &refusal, &chain)? {
                Some(successor) => {
                    let mut route = planned.route.clone();
                    route.request.succession = SuccessionPolicy::Accept(successor);
                    route.dial(&dialling.dialer).await
                }
                None => Err(DialError::Refused { refusal, chain }),
            }
        }
        dialled => dialled,
    };
    // Whom we refused, we did not remember: a new key is that of another process.
    if !matches!(dialled, Err(DialError::Refused { .. })) {
        tell_first_use(context, store, planned, &before);
    }
    let connection = dialled.map_err(|error| {
        let failure = dial_failure(subject, &error);
        match error {
            // What the peer's operator needs in order to let us in.
            DialError::RefusedByPeer(Some(Reason::Pending | Reason::Unknown)) => {
                let id = dialling.dialer.endpoint().credentials().node_id();
                let failure = failure.detail(format!("our id     {id}"));
                match changed_key(context) {
                    true => failure.hint(format!(
                        "our key changed; where a person confirmed the old one: `comity trust follow OUR-LABEL --confirm {id}`"
                    )),
                    false => failure,
                }
            }
            _ => failure,
        }
    })?;
    for warning in &connection.peer.warnings {
        context.shell.warn(warning_text(&subject.typed, warning));
    }
    pin_named_id(store, planned)?;
    remember_address(store, planned, connection.peer.id);
    Ok(connection)
}

/// Whether our identity followed another one.
fn changed_key(context: &Context) -> bool {
    let home = context.open_home().ok();
    home.is_some_and(|home| matches!(comity_agent::history(&home), Ok(Some(_))))
}

/// A peer whose old key signed for the new one, where a person confirmed the old one: a person is
/// asked again, if there is one. The gate writes it down, once the peer has proved that it has the
/// new key.
fn successor_accepted(
    subject: &Subject,
    refusal: &Refusal,
    chain: &PresentedChain,
) -> Result<Option<NodeId>, Failure> {
    let Evidence::Changed {
        known,
        succession: Some(SuccessionFault::Undecided { successor, .. }),
        ..
    } = &refusal.evidence
    else {
        return Ok(None);
    };
    let Some(history) = stapled(chain)? else {
        return Ok(None);
    };
    let pins = known.iter().filter_map(|known| match known.pin {
        Pin::Node(id) => Some((known.line, id)),
        Pin::Key(_) | Pin::Cert(_) => None,
    });
    let accepted = ask_to_follow(&subject.typed, &history, &pins.collect::<Vec<_>>())?;
    Ok(accepted.then_some(*successor))
}

/// The keys that are pinned for whom we dial, as the store has them now.
fn pins(store: &PeerStore, planned: &Planned) -> Vec<Pin> {
    let Some(name) = &planned.name else {
        return Vec::new();
    };
    let known = &store.poll_changes().known;
    let entries = known.pins_named(name, Some(Direction::Dial));
    let pins = entries.iter().filter_map(|(_, entry)| entry.pin());
    pins.copied().collect()
}

/// A key that is remembered unasked is what everything later is compared with: it is always said,
/// even when the peer refused us afterwards.
fn tell_first_use(context: &Context, store: &PeerStore, planned: &Planned, before: &[Pin]) {
    let Some(name) = &planned.name else {
        return;
    };
    let now = pins(store, planned);
    let successors = by_succession(store, name);
    for pin in now.iter().filter(|p| !before.contains(p)) {
        let pin = pin_text(pin);
        context.shell.tell(match successors.contains(&pin) {
            true => format!("{name} has a new key, for which the old one signed: {pin}"),
            false => format!("first use: remembered {pin} as {name}"),
        });
    }
}

/// Those of a peer's keys that we know from a statement of an older one.
fn by_succession(store: &PeerStore, name: &Name) -> Vec<String> {
    let known = &store.snapshot().known;
    let entries = known.pins_named(name, Some(Direction::Dial)).into_iter();
    let followed = entries.filter(|(_, e)| e.attributes.origin == Some(Origin::Succession));
    followed
        .filter_map(|(_, entry)| entry.pin().map(pin_text))
        .collect()
}

/// The question at first use. A yes, or the fingerprint pasted, is written down before it counts.
fn ask(
    store: &PeerStore,
    planned: &Planned,
    subject: &Subject,
    refusal: &Refusal,
    chain: &PresentedChain,
) -> Result<bool, Failure> {
    let Some(name) = &planned.name else {
        return Ok(false);
    };
    let Some(mut terminal) = Terminal::open() else {
        return Ok(false);
    };
    let presented = refusal.presented;
    let lost = |error: std::io::Error| Failure::unable(format!("cannot ask: {error}"));
    let address = subject.address.as_deref().unwrap_or("the peer");
    let kind = if matches!(presented, PeerId::Node(_)) {
        "node"
    } else {
        "foreign peer"
    };
    terminal
        .show(format_args!(
            "{name} ({address}) is not known here. It is a {kind} with the key\n"
        ))
        .map_err(lost)?;
    terminal
        .show(format_args!(
            "  {presented}\n  {}\n",
            presented.key_hash().words()
        ))
        .map_err(lost)?;
    terminal
        .show("If you can, compare it with its operator before you answer.")
        .map_err(lost)?;
    for _ in 0..3 {
        let answer = terminal
            .ask("Trust it from now on? (yes / no / paste the id or words)")
            .map_err(lost)?;
        match read_answer(&answer, presented) {
            Answer::Yes(how) => {
                add_first(store, planned, name, chain, how)?;
                return Ok(true);
            }
            Answer::No => return Ok(false),
            Answer::Differs => {
                return Err(Failure::no(
                    "the pasted id is not the one that answered: somebody may sit in between",
                )
                .detail(format!("answered   {presented}"))
                .detail(format!("pasted     {answer}"))
                .detail("no data was sent")
                .because(Reason::Changed));
            }
            Answer::Unclear => terminal
                .show("Please type yes or no, or paste the id.")
                .map_err(lost)?,
        }
    }
    Ok(false)
}

enum Answer {
    /// With how it was confirmed, if it was.
    Yes(Option<&'static str>),
    No,
    Differs,
    Unclear,
}

fn read_answer(answer: &str, presented: PeerId) -> Answer {
    match answer.to_lowercase().as_str() {
        "yes" => return Answer::Yes(None),
        "no" | "n" | "" => return Answer::No,
        _ => {}
    }
    match super::memory::compares(answer, presented.key_hash()) {
        Ok((true, how)) => Answer::Yes(Some(how)),
        Ok((false, _)) => Answer::Differs,
        Err(_) => Answer::Unclear,
    }
}

fn add_first(
    store: &PeerStore,
    planned: &Planned,
    name: &Name,
    chain: &PresentedChain,
    confirmed: Option<&'static str>,
) -> Result<(), Failure> {
    let peer = chain.peer_id();
    let mut entry = Entry::new(
        Side::Dial,
        Names::one(name.clone()),
        What::Pin(Pin::from(peer)),
    );
    entry.attributes.origin = Some(Origin::FirstUse);
    entry.attributes.added = Some(now());
    entry.attributes.next = chain.next();
    entry.attributes.confirmed = confirmed.map(|how| Confirmed {
        at: now(),
        how: how.to_owned(),
    });
    if let (Target::Address(address), true) = (&planned.target, name.is_label()) {
        entry.attributes.addr.push(address.clone());
    }
    store
        .update(|_| {
            Ok::<_, comity_store::UpdateError>(Change {
                edit: Edit::Add(Box::new(entry.clone())),
                deed: Deed {
                    action: "first-use".to_owned(),
                    peer: Some(peer),
                    detail: name.to_string(),
                },
            })
        })
        .map(drop)
        .map_err(|error| {
            Failure::of("the first key could not be written down", &error)
                .because(Reason::StoreError)
        })
}

/// A peer that was named by its full id, and answered with it, is known under its label from now on:
/// the id came from the operator and not from the connection.
fn pin_named_id(store: &PeerStore, planned: &Planned) -> Result<(), Failure> {
    let (Target::Id { id, .. }, Some(label)) = (&planned.target, &planned.name) else {
        return Ok(());
    };
    let mut entry = Entry::new(
        Side::Dial,
        Names::one(label.clone()),
        What::Pin(Pin::from(*id)),
    );
    entry.attributes.origin = Some(Origin::Hand);
    entry.attributes.added = Some(now());
    entry.attributes.confirmed = Some(Confirmed {
        at: now(),
        how: "id".to_owned(),
    });
    let address = planned.route.addresses.iter();
    let address = address.filter_map(|(host, port)| Name::host_port(host, *port).ok());
    entry.attributes.addr = address.collect();
    let pinned = store.decide_and_record(|known| {
        let known_by_label = label_of(*id, known).is_some();
        let change = (!known_by_label).then(|| Change {
            edit: Edit::Add(Box::new(entry.clone())),
            deed: Deed {
                action: "add".to_owned(),
                peer: Some(*id),
                detail: label.to_string(),
            },
        });
        ((), change)
    });
    pinned.map(drop).map_err(|error| {
        Failure::of(
            format!("{label} answered, but could not be remembered"),
            &error,
        )
        .because(Reason::StoreError)
    })
}

/// Notes where a labelled peer answered, so that its label suffices the next time. A failure costs
/// only that.
fn remember_address(store: &PeerStore, planned: &Planned, peer: PeerId) {
    let (Some(label), Target::Address(address)) = (&planned.name, &planned.target) else {
        return;
    };
    if !label.is_label() {
        return;
    }
    let noted = store.decide_and_record(|known| {
        let entry = known.pins_of(peer).find(|(_, e)| {
            e.names.exact().any(|n| n == label) && !e.attributes.addr.contains(address)
        });
        let change = entry.map(|(line, entry)| {
            let mut entry = entry.clone();
            entry.attributes.addr.push(address.clone());
            Change {
                edit: Edit::Replace {
                    line,
                    entry: Box::new(entry),
                },
                deed: Deed {
                    action: "note-address".to_owned(),
                    peer: Some(peer),
                    detail: format!("{label} at {address}"),
                },
            }
        });
        ((), change)
    });
    if let Err(error) = noted {
        tracing::warn!(error = %chain(&error), "the peer's address could not be noted");
    }
}
