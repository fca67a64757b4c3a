//! An axum application behind an acceptor: every handler sees who is there as `PeerInfo`.
//!
//! `cargo run -p comity-tls --example axum_server` prints its address and id, and how to call it.

#![expect(clippy::print_stdout, reason = "an example shows what happened")]

mod node;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::routing::get;
use axum::{Extension, Router};
use comity_tls::{ALPN_HTTP1, Acceptor, AcceptorConfig, PeerInfo, Request};
use comity_trust::{Mode, Reason};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use node::Outcome;
use tokio::net::{TcpListener, TcpStream};

/// What the peer is called, and what it may do. `peer.claimed` is for display, never for policy.
async fn whoami(Extension(peer): Extension<Arc<PeerInfo>>) -> String {
    let roles: Vec<&str> = peer.attested.roles.iter().map(String::as_str).collect();
    format!("you are {} with roles {roles:?}\n", peer.id)
}

#[tokio::main]
async fn main() -> Outcome {
    let (endpoint, _home) = node::node()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, id) = (listener.local_addr()?, node::id(&endpoint));
    println!("cargo run -p comity-tls --example hyper_client {address} {id}");
    let _upkeep = endpoint.upkeep();
    let config = AcceptorConfig {
        // For the example: whoever comes is remembered by key. The default asks the operator.
        mode: Mode::Tofu,
        ..AcceptorConfig::default()
    };
    let acceptor = Acceptor::new(endpoint, config);
    let app = Router::new().route("/whoami", get(whoami));
    loop {
        let (tcp, remote) = listener.accept().await?;
        let (acceptor, app) = (acceptor.clone(), app.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(&acceptor, app, tcp, remote).await {
                println!("{remote}: {error}");
            }
        });
    }
}

async fn serve(acceptor: &Acceptor, app: Router, tcp: TcpStream, remote: SocketAddr) -> Outcome {
    let incoming = acceptor.accept(tcp, Some(remote)).await?;
    if !matches!(&incoming.request, Request::Foreign(Some(alpn)) if alpn == ALPN_HTTP1) {
        return Err(incoming.refuse(Reason::NoSuchService).await.into());
    }
    let (stream, peer) = incoming.accept(|_| Ok(())).await?;
    let app = app.layer(Extension(Arc::new(peer)));
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .await?;
    Ok(())
}
