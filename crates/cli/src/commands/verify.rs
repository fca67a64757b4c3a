//! `comity verify --live`: four words on both screens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comity_agent::{PlanError, Planned, Planning, split_service};
use comity_identity::PeerId;
use comity_store::{Change, Deed, PeerStore, UpdateError};
use comity_tls::hello::SubProtocol;
use comity_tls::live::{LiveContext, LiveError, confirm, exchange};
use comity_tls::{
    Acceptor, AcceptorConfig, Incoming, LeafProfile, Limits, PeerStream, Request, Wish,
};
use comity_trust::{Confirmed, Edit, KnownPeers, Mode, Reason, Target, resolve};
use comity_tunnel::Capacity;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Outcome;
use crate::args::{DialOptions, Verify};
use crate::commands::connect::{self, dial};
use crate::commands::{block_on, serve};
use crate::context::{Context, now};
use crate::shell::{Exit, Failure, Terminal};

/// Pause after a call could not be taken: trying at once would only turn the core.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the other person may take to run the command.
const WAIT: Duration = Duration::from_secs(600);

pub(crate) fn verify(context: &Context, args: &Verify) -> Outcome {
    block_on(async {
        match &args.listen {
            Some(address) => wait_for(context, args, address).await,
            None => call(context, args).await,
        }
    })?
}

async fn call(context: &Context, args: &Verify) -> Outcome {
    let options = DialOptions {
        trust: None,
        ca: None,
        label: None,
        addr: args.addr.clone(),
        i_mean_it: false,
    };
    let dialling = connect::prepare(context, &options)?;
    let (peer, _) = split_service(&args.peer);
    let planning = Planning {
        address: args.addr.as_deref(),
        ..Planning::default()
    };
    let store = dialling.dialer.endpoint().store();
    let known = &store.snapshot().known;
    let planned = Planned::of(peer, known, dialling.mode, Wish::Verify, &planning)
        .map_err(|error| connect::plan_failure(&error))?;
    let subject = connect::subject(peer, &planned);
    let connection = dial(context, &dialling, &planned, &subject)
        .await
        .map_err(|failure| nobody_waits(failure, peer))?;
    let _upkeep = dialling.dialer.endpoint().upkeep();
    let live = connection
        .live
        .ok_or_else(|| Failure::unable("the connection cannot be compared"))?;
    compare(context, connection.stream, live, connection.peer.id, store).await
}

/// Who answers but does not wait runs `serve`, which has nothing of that name.
fn nobody_waits(failure: Failure, peer: &str) -> Failure {
    match failure.reason {
        Some(reason @ (Reason::NotAuthorised | Reason::NoSuchService)) => {
            Failure::no(format!("{peer} does not wait for our call ({reason})"))
                .hint("run `comity verify --live OUR-LABEL --listen [::]:7118` there, and here name that port with --addr")
                .because(reason)
        }
        _ => failure,
    }
}

async fn wait_for(context: &Context, args: &Verify, address: &str) -> Outcome {
    let home = context.open_home()?;
    let node = context.node(&home, LeafProfile::default(), "comity verify")?;
    let store = node.endpoint.store();
    let expected = expected_peer(&args.peer, store)?;
    // Strangers may knock: what they get is a comparison, and nothing is recorded or granted.
    let acceptor = Acceptor::new(
        node.endpoint.clone(),
        AcceptorConfig {
            mode: Mode::Insecure,
            limits: Limits {
                pending: Capacity::of_process().pending,
                ..Limits::default()
            },
            ..AcceptorConfig::default()
        },
    );
    let listener = serve::bind(address).await?;
    let local = listener.local_addr().map_err(Failure::unable)?;
    context
        .shell
        .say(format_args!("waiting for {} on {local}", args.peer));
    let _upkeep = node.endpoint.upkeep();
    let waited = tokio::time::timeout(WAIT, next_call(listener, acceptor, expected)).await;
    let call = waited.map_err(|_| Failure::unable("nobody called within ten minutes"))??;
    compare(context, call.stream, call.live, expected, store).await
}

/// The one peer that is awaited: a caller with another key is sent away.
fn expected_peer(text: &str, store: &PeerStore) -> Result<PeerId, Failure> {
    let known = &store.snapshot().known;
    let target =
        resolve(text, known).map_err(|error| connect::plan_failure(&PlanError::Target(error)))?;
    let ids: Vec<PeerId> = match &target {
        Target::Id { id, .. } => vec![*id],
        Target::Known { label, .. } => super::memory::peers_named(known, label),
        Target::Address(name) => super::memory::peers_named(known, name),
        Target::Invitation(_) => Vec::new(),
    };
    match ids.as_slice() {
        [id] => Ok(*id),
        [] => Err(Failure::no(format!("no key of `{text}` is known"))
            .hint("name the caller by its full id, which `comity id` shows there")),
        _ => Err(Failure::unable(format!("`{text}` has several keys"))
            .hint("name the one to compare by its full id")),
    }
}

/// A call by the awaited peer.
struct Call {
    stream: PeerStream<TcpStream>,
    live: LiveContext,
}

/// Takes calls until the awaited one. Each is answered in a task of its own, so that nobody keeps the
/// awaited peer out by calling and saying nothing; the acceptor limits how many there are.
async fn next_call(
    listener: TcpListener,
    acceptor: Acceptor,
    expected: PeerId,
) -> Result<Call, Failure> {
    let acceptor = Arc::new(acceptor);
    let taken = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, remote)) => {
                    let (acceptor, taken) = (Arc::clone(&acceptor), Arc::clone(&taken));
                    callers.spawn(async move {
                        let incoming = acceptor.accept(tcp, Some(remote)).await.ok()?;
                        take_call(incoming, remote, expected, &taken).await
                    });
                }
                // The caller hung up before we looked, or silent callers hold all descriptors for a
                // while: the one that is awaited may still come.
                Err(error) => {
                    tracing::warn!(%error, "a call could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(answered) = callers.join_next() => {
                if let Ok(Some(call)) = answered {
                    // The others are told no before their connections close.
                    callers.detach_all();
                    return Ok(call);
                }
            }
        }
    }
}

/// The first call of the awaited peer is taken; every other is refused.
async fn take_call(
    incoming: Incoming<TcpStream>,
    remote: SocketAddr,
    expected: PeerId,
    taken: &AtomicBool,
) -> Option<Call> {
    let asks = matches!(&incoming.request, Request::Comity(h) if h.protocol == SubProtocol::Verify);
    if !asks || incoming.peer.id != expected {
        tracing::error!(%remote, peer = %incoming.peer.id, "another caller was sent away");
        incoming.refuse(Reason::NotAuthorised).await;
        return None;
    }
    let live = incoming.live_context().ok()?;
    if taken.swap(true, Ordering::AcqRel) {
        incoming.refuse(Reason::Busy).await;
        return None;
    }
    match incoming.accept(|_| Ok(())).await {
        Ok((stream, _)) => Some(Call { stream, live }),
        Err(error) => {
            tracing::error!(%remote, %error, "the caller was lost");
            taken.store(false, Ordering::Release);
            None
        }
    }
}

async fn compare(
    context: &Context,
    mut stream: PeerStream<TcpStream>,
    live: LiveContext,
    peer: PeerId,
    store: &PeerStore,
) -> Outcome {
    let failed = |error: LiveError| match is_revoked(&store.poll_changes().known, peer) {
        true => revoked(peer),
        false => Failure::of("the comparison failed", &error),
    };
    let words = exchange(&mut stream, &live)
        .await
        .map_err(failed)?
        .join(" ");
    let same = ask(context, &words).await?;
    // Not told: whether the words were the same is nothing to a key that we withdrew.
    if is_revoked(&store.poll_changes().known, peer) {
        return Err(revoked(peer));
    }
    let agreed = confirm(&mut stream, same).await.map_err(failed)?;
    let value = json!({ "peer": peer.to_string(), "words": words, "same": agreed });
    if !agreed {
        context.shell.answer(&words, &value);
        context.shell.fail_in_words(&not_confirmed(peer));
        return Ok(Exit::No);
    }
    let marked = mark_confirmed(store, peer).map_err(|error| {
        Failure::of(
            "the words agree, but this could not be written down",
            &error,
        )
    })?;
    let lines = marked.ok_or_else(|| revoked(peer))?;
    context.shell.answer(&words, &value);
    context.shell.say(match lines {
        0 => format!("the words agree. It is not pinned yet: `comity trust add LABEL {peer}`"),
        _ => "the words agree; the entry is marked as confirmed".to_owned(),
    });
    Ok(Exit::Yes)
}

fn not_confirmed(peer: PeerId) -> Failure {
    Failure::no("the words were not confirmed on both sides: somebody may sit in between")
        .detail(format!("peer  {peer}"))
        .hint("do not use this connection; compare ids over another channel: `comity trust verify`")
}

/// The same words do not help a key that was withdrawn meanwhile.
fn revoked(peer: PeerId) -> Failure {
    Failure::no("the peer's key is revoked; nothing was marked as confirmed")
        .detail(format!("peer  {peer}"))
        .because(Reason::Revoked)
}

fn is_revoked(known: &KnownPeers, peer: PeerId) -> bool {
    known.revocation_of_key(&peer.key_hash()).is_some()
}

/// Shows the words and asks the person, at the terminal or over standard input.
async fn ask(context: &Context, words: &str) -> Result<bool, Failure> {
    const QUESTION: &str = "Does the other screen show the same four words? (yes / no)";
    let lost = |error: std::io::Error| Failure::unable(format!("cannot ask: {error}"));
    let answer = match Terminal::open() {
        Some(mut terminal) => {
            terminal
                .show(format_args!("\n    {words}\n"))
                .map_err(lost)?;
            let asked = tokio::task::spawn_blocking(move || terminal.ask(QUESTION)).await;
            asked.map_err(Failure::unable)?.map_err(lost)?
        }
        None => {
            context.shell.tell(format_args!("{words}\n{QUESTION}"));
            let mut answer = String::new();
            let input = tokio::io::BufReader::new(tokio::io::stdin());
            input.take(64).read_line(&mut answer).await.map_err(lost)?;
            answer
        }
    };
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

/// Marks every pin of the peer; answers how many there are, or `None` when its key is revoked.
fn mark_confirmed(store: &PeerStore, peer: PeerId) -> Result<Option<usize>, UpdateError> {
    let mut marked = 0;
    loop {
        // One edit names one line, and confirming does not move lines.
        let (next, _) = store.decide_and_record(|known| {
            // Here, where no revocation can come in between.
            if is_revoked(known, peer) {
                return (Next::Revoked, None);
            }
            match known.pins_of(peer).map(|(line, _)| line).nth(marked) {
                Some(line) => (Next::Marked, Some(confirmation(line, peer))),
                None => (Next::Done, None),
            }
        })?;
        match next {
            Next::Marked => marked += 1,
            Next::Done => return Ok(Some(marked)),
            Next::Revoked => return Ok(None),
        }
    }
}

enum Next {
    Marked,
    Done,
    Revoked,
}

fn confirmation(line: usize, peer: PeerId) -> Change {
    Change {
        edit: Edit::Confirm {
            line,
            confirmed: Confirmed {
                at: now(),
                how: "live".to_owned(),
            },
        },
        deed: Deed {
            action: "confirm".to_owned(),
            peer: Some(peer),
            detail: "live comparison".to_owned(),
        },
    }
}
