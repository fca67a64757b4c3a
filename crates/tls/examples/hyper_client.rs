//! A hyper client over a dialer: the server is expected by id, not by any name or authority.
//!
//! `cargo run -p comity-tls --example hyper_client HOST:PORT ID`, as `axum_server` prints it.

#![expect(clippy::print_stdout, reason = "an example shows what happened")]

mod node;

use comity_identity::PeerId;
use comity_tls::{ALPN_HTTP1, Alpn, DialRequest, Dialer, Wish};
use comity_trust::{Expectation, Mode};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use node::Outcome;

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(id)) = (arguments.next(), arguments.next()) else {
        return Err("usage: hyper_client HOST:PORT ID".into());
    };
    let (host, port) = address.rsplit_once(':').ok_or("HOST:PORT, please")?;
    let (endpoint, _home) = node::node()?;
    let body = fetch(&Dialer::new(endpoint), host, port.parse()?, id.parse()?).await?;
    println!("{body}");
    Ok(())
}

async fn fetch(dialer: &Dialer, host: &str, port: u16, id: PeerId) -> Outcome<String> {
    let expectation = Expectation {
        id: Some(id),
        ..Expectation::default()
    };
    let mut request = DialRequest::new(expectation, Mode::Pin, Wish::Service(None));
    request.alpn = Alpn::Other(ALPN_HTTP1.to_vec());
    let connection = dialer.dial(host, port, request).await?;
    let io = TokioIo::new(connection.stream);
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await?;
    let driving = tokio::spawn(driver);
    let request = Request::get("/whoami")
        .header("Host", host)
        .header("Connection", "close")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    // 403 with `Comity-Reason` is the server's way to refuse our key.
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    driving.await??;
    Ok(format!("{status}: {}", String::from_utf8_lossy(&body)))
}
