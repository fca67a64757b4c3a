//! `comity verify --live`: four words on both screens.

use std::net::SocketAddr;
use std::time::Duration;

use comity_agent::{PlanError, Planned, Planning, split_service};
use comity_identity::PeerId;
use comity_store::{Change, Deed, PeerStore, UpdateError};
use comity_tls::hello::SubProtocol;
use comity_tls::live::{LiveContext, LiveError, confirm, exchange};
use comity_tls::{Acceptor, AcceptorConfig, LeafProfile, PeerStream, Request, Wish};
use comity_trust::{Confirmed, Edit, Mode, Reason, Target, resolve};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;
use crate::args::{DialOptions, Verify};
use crate::commands::connect::{self, dial};
use crate::commands::{block_on, serve};
use crate::context::{Context, now};
use crate::shell::{Exit, Failure, Terminal};

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
    let connection = dial(context, &dialling, &planned, &subject).await?;
    let live = connection
        .live
        .ok_or_else(|| Failure::unable("the connection cannot be compared"))?;
    compare(context, connection.stream, live, connection.peer.id, store).await
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
            ..AcceptorConfig::default()
        },
    );
    let listener = TcpListener::bind(serve::listen_address(address)?)
        .await
        .map_err(|error| Failure::unable(format!("cannot listen on {address}: {error}")))?;
    let local = listener.local_addr().map_err(Failure::unable)?;
    context
        .shell
        .say(format_args!("waiting for {} on {local}", args.peer));
    let waited = tokio::time::timeout(WAIT, next_call(&listener, &acceptor, expected)).await;
    let (stream, live, peer) =
        waited.map_err(|_| Failure::unable("nobody called within ten minutes"))??;
    compare(context, stream, live, peer, store).await
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

async fn next_call(
    listener: &TcpListener,
    acceptor: &Acceptor,
    expected: PeerId,
) -> Result<(PeerStream<TcpStream>, LiveContext, PeerId), Failure> {
    loop {
        let (tcp, remote): (_, SocketAddr) = listener.accept().await.map_err(Failure::unable)?;
        let Ok(incoming) = acceptor.accept(tcp, Some(remote)).await else {
            continue;
        };
        let asks =
            matches!(&incoming.request, Request::Comity(h) if h.protocol == SubProtocol::Verify);
        if !asks || incoming.peer.id != expected {
            tracing::error!(%remote, peer = %incoming.peer.id, "another caller was sent away");
            incoming.refuse(Reason::NotAuthorised).await;
            continue;
        }
        let live = incoming.live_context().map_err(Failure::unable)?;
        let (stream, peer) = incoming
            .accept(|_| Ok(()))
            .await
            .map_err(|error| Failure::of("the caller was lost", &error))?;
        return Ok((stream, live, peer.id));
    }
}

async fn compare(
    context: &Context,
    mut stream: PeerStream<TcpStream>,
    live: LiveContext,
    peer: PeerId,
    store: &PeerStore,
) -> Outcome {
    let failed = |error: LiveError| Failure::of("the comparison failed", &error);
    let words = exchange(&mut stream, &live)
        .await
        .map_err(failed)?
        .join(" ");
    let same = ask(context, &words).await?;
    let agreed = confirm(&mut stream, same).await.map_err(failed)?;
    let value = json!({ "peer": peer.to_string(), "words": words, "same": agreed });
    if !agreed {
        context.shell.answer(&words, &value);
        return Err(Failure::no(
            "the words were not confirmed on both sides: somebody may sit in between",
        )
        .detail(format!("peer  {peer}"))
        .hint(
            "do not use this connection; compare ids over another channel: `comity trust verify`",
        ));
    }
    let lines = mark_confirmed(store, peer).map_err(|error| {
        Failure::of(
            "the words agree, but this could not be written down",
            &error,
        )
    })?;
    context.shell.answer(&words, &value);
    context.shell.say(match lines {
        0 => format!("the words agree. It is not pinned yet: `comity trust add LABEL {peer}`"),
        _ => "the words agree; the entry is marked as confirmed".to_owned(),
    });
    Ok(Exit::Yes)
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
            context.shell.say(format_args!("{words}\n{QUESTION}"));
            let mut answer = String::new();
            let input = tokio::io::BufReader::new(tokio::io::stdin());
            input.take(64).read_line(&mut answer).await.map_err(lost)?;
            answer
        }
    };
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

/// Marks every pin of the peer; answers how many there are.
fn mark_confirmed(store: &PeerStore, peer: PeerId) -> Result<usize, UpdateError> {
    let mut marked = 0;
    // One edit names one line, and confirming does not move lines.
    while store
        .decide_and_record(|known| {
            let next = known.pins_of(peer).map(|(line, _)| line).nth(marked);
            let change = next.map(|line| Change {
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
            });
            (next.is_some(), change)
        })?
        .0
    {
        marked += 1;
    }
    Ok(marked)
}
