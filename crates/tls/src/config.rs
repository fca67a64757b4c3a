//! The rustls configurations: the one place that decides protocol versions, groups and resumption.
//!
//! Resumption is off in every form. rustls calls no verifier on a resumed session, so a peer that
//! was removed between two connections would get in on its old certificate; what resuming saves
//! is a quarter of a millisecond. No tickets are sent, no session is stored, no early data is
//! taken, and each handshake has a configuration (and so a verifier) of its own.

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use crate::verifier::{AcceptVerifier, DialVerifier};

/// ALPN of our own protocol.
pub const ALPN_COMITY: &[u8] = b"comity/1";

/// ALPN of HTTP/1.1 (RFC 7301), which shares the port.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Which protocol versions a handshake may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Versions {
    /// TLS 1.3 alone. The default.
    #[default]
    Tls13,
    /// Also TLS 1.2, for a foreign peer that has nothing better. The client's certificate is then
    /// visible on the wire, and there is no post-quantum key exchange.
    Tls12Too,
}

const TLS13_ALONE: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

impl Versions {
    fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls13 => TLS13_ALONE,
            Self::Tls12Too => rustls::ALL_VERSIONS,
        }
    }
}

/// `comity/1` below TLS 1.3.
#[derive(Debug, thiserror::Error)]
#[error("comity/1 is spoken over TLS 1.3 only")]
struct OldComity;

/// Refuses a connection that has `comity/1` on an older version. [`Versions::Tls12Too`] is for
/// foreign peers: what invitations and the live comparison export binds to the connection only in
/// TLS 1.3 (before, without the extended master secret, two connections could export the same:
/// RFC 7627).
pub(crate) fn refuse_old_comity<Data>(
    connection: &rustls::ConnectionCommon<Data>,
) -> io::Result<()> {
    let speaks_comity = connection.alpn_protocol() == Some(ALPN_COMITY);
    let is_new = connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
    match speaks_comity && !is_new {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, OldComity)),
        false => Ok(()),
    }
}

/// aws-lc-rs, with X25519MLKEM768 preferred. Always handed over explicitly: another library in
/// the same process may have brought another provider.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

/// What a ClientHello shows of us.
pub(crate) struct Offer {
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) sni: bool,
    pub(crate) versions: Versions,
}

pub(crate) fn client(
    verifier: Arc<DialVerifier>,
    resolver: Arc<dyn ResolvesClientCert>,
    offer: Offer,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(offer.versions.supported())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(resolver);
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = offer.sni;
    config.alpn_protocols = offer.alpn;
    Ok(config)
}

pub(crate) fn server(
    verifier: Arc<AcceptVerifier>,
    resolver: Arc<dyn ResolvesServerCert>,
    alpn: Vec<Vec<u8>>,
    versions: Versions,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(versions.supported())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    config.alpn_protocols = alpn;
    Ok(config)
}
