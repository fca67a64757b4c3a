//! Bundles over HTTPS: for peers that only read, and for those who were away so long that no open
//! connection is left.
//!
//! `GET /comity/networks/<64 lower-case hexadecimal digits>/bundle` over HTTP/1.1 (RFC 9112), on the
//! same port and with the same certificates as everything else. The answer is the bundle as
//! `application/cbor`, with its sequence and digest in `ETag`. Whoever is no member of the network
//! gets the same 404 as for a network that does not exist.

use std::convert::Infallible;
use std::time::Duration;

use comity_identity::NodeId;
use comity_record::Location;
use comity_trust::{Expectation, Mode, Reason};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderName, IF_NONE_MATCH,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Endpoint;
use crate::config::ALPN_HTTP1;
use crate::dialer::{Alpn, DialError, DialRequest, Dialer, Wish};
use crate::network::exchange::Holding;
use crate::network::shared::is_member;
use crate::network::wire::MAX_BUNDLE;
use crate::stream::PeerStream;

/// From the first byte of a request to the last of its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest head of a request that is read.
const MAX_HEAD: usize = 16 * 1024;

/// The reason's token in a refusal, and so in the answers of proxies that know better.
const COMITY_REASON: HeaderName = HeaderName::from_static("comity-reason");

const BEFORE: &str = "/comity/networks/";
const AFTER: &str = "/bundle";

/// What a location answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fetched {
    /// A bundle. Nothing in it is verified.
    Bundle(Vec<u8>),
    /// It has the bundle that we hold.
    Unchanged,
}

/// Why a location gave no bundle.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There is no connection to it, or one to somebody else.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Its host is no name that a CA can vouch for.
    #[error("`{0}` is not the name of a server")]
    Host(String),
    /// It does not speak HTTP, or stopped in the middle.
    #[error("the server broke off: {0}")]
    Http(#[from] hyper::Error),
    /// It answers something else. Redirects are not followed: the location was signed, and what it
    /// points to was not.
    #[error("the server answers {status}{}", .reason.map_or(String::new(), |r| format!(" ({r})")))]
    Status {
        /// The status.
        status: u16,
        /// Why, if it is a node and said so.
        reason: Option<Reason>,
    },
    /// More than a bundle may have.
    #[error("the server sends more than {MAX_BUNDLE} bytes, or breaks off")]
    Body,
    /// It takes too long.
    #[error("the server did not answer in {} seconds", REQUEST_TIMEOUT.as_secs())]
    Timeout,
}

/// Answers the requests of a recognised peer that selected `http/1.1`, until it closes.
///
/// # Errors
/// When the connection fails, or ends because the peer's authority did.
pub async fn answer_http<IO>(
    endpoint: &Endpoint,
    stream: PeerStream<IO>,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watch = stream.end_watch();
    let recognised = stream.recognised();
    let service = service_fn(|request| {
        // Each request is judged by what the peer is a member of when it comes.
        let answer = match network_of(&request) {
            Ok(network) if is_member(&recognised.now(), &network) => {
                match endpoint.holding(&network) {
                    Some(holding) => bundle(&holding, request.headers()),
                    None => plain(StatusCode::NOT_FOUND),
                }
            }
            Ok(_) => plain(StatusCode::NOT_FOUND),
            Err(status) => plain(status),
        };
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = watch.ended() => Ok(()),
        outcome = connection => outcome,
    }
}

/// Whether these are the first bytes of a request for a bundle, whichever network it is of. Only
/// looks at the first record: HTTP clients send a request line in one.
pub fn is_bundle_request(first: &[u8]) -> bool {
    let methods = [&b"GET "[..], b"HEAD "];
    let path = methods
        .iter()
        .find_map(|method| first.strip_prefix(*method));
    path.is_some_and(|path| path.starts_with(BEFORE.as_bytes()))
}

fn network_of(request: &Request<Incoming>) -> Result<NodeId, StatusCode> {
    let path = request.uri().path();
    let digits = path
        .strip_prefix(BEFORE)
        .and_then(|p| p.strip_suffix(AFTER));
    // One spelling for each network: no redirects, no surprises in caches.
    let is_hexadecimal = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    let network = digits
        .filter(|digits| digits.len() == 64 && digits.bytes().all(is_hexadecimal))
        .and_then(|digits| digits.parse().ok())
        .ok_or(StatusCode::NOT_FOUND)?;
    match *request.method() {
        Method::GET | Method::HEAD => Ok(network),
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn bundle(holding: &Holding, asked: &HeaderMap) -> Response<Full<Bytes>> {
    let tag = holding.entity_tag();
    let known = asked.get_all(IF_NONE_MATCH).iter();
    let known = known.filter_map(|value| value.to_str().ok());
    let is_known = known
        .flat_map(|value| value.split(','))
        .any(|candidate| candidate.trim() == tag);
    let (status, body) = match is_known {
        true => (StatusCode::NOT_MODIFIED, Bytes::new()),
        false => (StatusCode::OK, Bytes::copy_from_slice(holding.bundle())),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, value("application/cbor"));
    headers.insert(ETAG, value(&tag));
    // Members only: nobody between us keeps it for others.
    headers.insert(CACHE_CONTROL, value("private, no-cache"));
    response
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, value("GET, HEAD"));
    }
    response
}

fn value(text: &str) -> hyper::header::HeaderValue {
    hyper::header::HeaderValue::from_str(text).expect("visible ASCII")
}

/// Asks `location` for the bundle of a network, unless it is the one that we hold.
///
/// A location that names its server's id is asked of that server, or of what follows it, see
/// [`Dialer::dial_place`]; any other of one that the system's CAs vouch for. Either way the bundle has
/// to prove itself.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch_bundle(
    endpoint: &Endpoint,
    location: &Location,
    held: Option<&Holding>,
) -> Result<Fetched, FetchError> {
    let fetched = fetch(endpoint, location, held);
    tokio::time::timeout(REQUEST_TIMEOUT, fetched)
        .await
        .map_err(|_| FetchError::Timeout)?
}

async fn fetch(
    endpoint: &Endpoint,
    location: &Location,
    held: Option<&Holding>,
) -> Result<Fetched, FetchError> {
    let mut dial = request_for(location)?;
    dial.network = held.map(Holding::network);
    let dialer = Dialer::new(endpoint.clone());
    let host = location.host();
    let connection = match location.node() {
        Some(server) => {
            let place = (host.as_str(), location.port());
            dialer.dial_place(place, server, dial).await?
        }
        None => dialer.dial(&host, location.port(), dial).await?,
    };
    fetch_over(connection.stream, location, held).await
}

fn request_for(location: &Location) -> Result<DialRequest, FetchError> {
    let host = location.host();
    let (mode, expectation) = match location.node() {
        Some(_) => (Mode::Pin, Expectation::default()),
        None => {
            let server_name = ServerName::try_from(host.to_owned())
                .map_err(|_| FetchError::Host(host.to_owned()))?;
            let expectation = Expectation {
                server_name: Some(server_name),
                port: Some(location.port()),
                ..Expectation::default()
            };
            (Mode::Ca, expectation)
        }
    };
    let mut request = DialRequest::new(expectation, mode, Wish::Service(None));
    request.alpn = Alpn::Other(ALPN_HTTP1.to_vec());
    Ok(request)
}

async fn fetch_over<IO>(
    stream: PeerStream<IO>,
    location: &Location,
    held: Option<&Holding>,
) -> Result<Fetched, FetchError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut request = Request::get(location.path())
        .header(HOST, authority_of(location))
        .header(ACCEPT, "application/cbor");
    if let Some(held) = held {
        request = request.header(IF_NONE_MATCH, held.entity_tag());
    }
    let request = request
        .body(Full::<Bytes>::default())
        .map_err(|_| FetchError::Host(authority_of(location)))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        read_response(response).await
    };
    let connection = async {
        drop(connection.await);
        // What was read before still counts.
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        fetched = exchange => fetched,
        never = connection => match never {},
    }
}

/// The host and port as in a URL, without the port that HTTPS has anyway.
fn authority_of(location: &Location) -> String {
    let host = location.host();
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host,
    };
    match location.port() {
        443 => host,
        port => format!("{host}:{port}"),
    }
}

async fn read_response(response: Response<Incoming>) -> Result<Fetched, FetchError> {
    match response.status() {
        StatusCode::NOT_MODIFIED => Ok(Fetched::Unchanged),
        StatusCode::OK => {
            let body = Limited::new(response.into_body(), MAX_BUNDLE).collect();
            let body = body.await.map_err(|_| FetchError::Body)?;
            Ok(Fetched::Bundle(body.to_bytes().to_vec()))
        }
        status => {
            let reason = response.headers().get(COMITY_REASON);
            let reason = reason.and_then(|r| r.to_str().ok()?.parse().ok());
            Err(FetchError::Status {
                status: status.as_u16(),
                reason,
            })
        }
    }
}
