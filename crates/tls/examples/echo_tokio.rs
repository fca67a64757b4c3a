//! An echo server and its client: two nodes that know each other by key, over plain tokio.
//!
//! `cargo run -p comity-tls --example echo_tokio`

#![expect(clippy::print_stdout, reason = "an example shows what happened")]

mod node;

use comity_tls::{Acceptor, AcceptorConfig, DialRequest, Dialer, Wish};
use comity_trust::{Expectation, Mode, Name, Reason, Recognition};
use node::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Outcome {
    let (server, _server_home) = node::node()?;
    let (client, _client_home) = node::node()?;
    node::remember(&server, "client", node::id(&client))?;
    node::remember(&client, "server", node::id(&server))?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    // Without upkeep, open connections would not follow changes of what the server remembers.
    let _upkeep = server.upkeep();
    let acceptor = Acceptor::new(server, AcceptorConfig::default());
    tokio::spawn(async move {
        while let Ok((tcp, remote)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Err(error) = echo(&acceptor, tcp, remote).await {
                    println!("server: {error}");
                }
            });
        }
    });

    let server = Expectation {
        name: Some(Name::label("server")?),
        ..Expectation::default()
    };
    let request = DialRequest::new(server, Mode::Pin, Wish::Service(None));
    let dialer = Dialer::new(client);
    let mut connection = dialer.dial("127.0.0.1", port, request).await?;
    connection.stream.write_all(b"hello").await?;
    connection.stream.shutdown().await?;
    let mut answer = String::new();
    connection.stream.read_to_string(&mut answer).await?;
    println!("{} answered {answer:?}", connection.peer.display());
    Ok(())
}

async fn echo(acceptor: &Acceptor, tcp: TcpStream, remote: std::net::SocketAddr) -> Outcome {
    let incoming = acceptor.accept(tcp, Some(remote)).await?;
    // Asked now, and again whenever the server's memory changes while the connection is open.
    let rule = |peer: &Recognition| match peer.label.as_deref() {
        Some("client") => Ok(()),
        _ => Err(Reason::NotAuthorised),
    };
    let (stream, peer) = incoming.accept(rule).await?;
    println!("server: {} is here", peer.display());
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await?;
    Ok(())
}
