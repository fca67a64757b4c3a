//! Counterparts made of bare rustls: they present what they are told to, believe everybody, and
//! write down what they saw.

use std::io;
use std::sync::Arc;

use comity_identity::{Algorithm, PeerId};
use comity_tls::frame::{FrameType, write_frame};
use comity_tls::hello::{Hello, encode_accept, encode_refuse};
use comity_tls::{
    ALPN_COMITY, AcceptError, Acceptor, DialError, DialRequest, Dialer, PeerInfo, Request, alert_of,
};
use comity_trust::Reason;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, HandshakeKind,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certificates::{Credential, TestKey};
use crate::world::{CALLER, LISTENER, in_time};

/// What somebody presents.
#[derive(Clone, Debug)]
pub struct Face(Arc<CertifiedKey>);

impl Face {
    /// Its own certificates, with their key.
    pub fn of(credential: &Credential) -> Self {
        Self::signing(&credential.chain, &credential.key)
    }

    /// Certificates of somebody else, with another key: what remains to whoever copied them.
    pub fn copied(chain: &[Vec<u8>]) -> Self {
        Self::signing(chain, &TestKey::generate(Algorithm::EcdsaP256).pkcs8())
    }

    fn signing(chain: &[Vec<u8>], key: &[u8]) -> Self {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
        let key = aws_lc_rs::sign::any_supported_type(&key).expect("a usable key");
        let chain = chain.iter().map(|der| CertificateDer::from(der.clone()));
        Self(Arc::new(CertifiedKey::new(chain.collect(), key)))
    }
}

impl ResolvesServerCert for Face {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl ResolvesClientCert for Face {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A server that asks for a client's certificate and believes any. No ALPN; every version; no tickets,
/// whose sending would fail, and with it the handshake, if the client has hung up by then.
pub fn bare_server(face: &Face) -> ServerConfig {
    bare_server_with(face, rustls::ALL_VERSIONS)
}

/// The same, for some versions.
pub fn bare_server_with(
    face: &Face,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("versions of the provider")
        .with_client_cert_verifier(Arc::new(Believes))
        .with_cert_resolver(Arc::new(face.clone()));
    config.send_tls13_tickets = 0;
    config
}

/// A client that presents `face`, or nothing, and believes any server. No ALPN; every version.
pub fn bare_client(face: Option<&Face>) -> ClientConfig {
    bare_client_with(face, rustls::ALL_VERSIONS)
}

/// The same, for some versions.
pub fn bare_client_with(
    face: Option<&Face>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("versions of the provider")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believes));
    match face {
        Some(face) => config.with_client_cert_resolver(Arc::new(face.clone())),
        None => config.with_no_client_auth(),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What a bare counterpart saw of a connection.
#[derive(Debug, Default)]
pub struct Saw {
    /// Why the handshake failed on its side; `None` when it did not.
    pub failure: Option<io::Error>,
    /// Whether the session was resumed.
    pub kind: Option<HandshakeKind>,
    /// The protocol that was selected.
    pub alpn: Option<Vec<u8>>,
    /// The application bytes that arrived.
    pub data: Vec<u8>,
    /// The alert that ended the connection, if one did.
    pub alert: Option<AlertDescription>,
    /// Tickets for resumption that arrived (at a client).
    pub tickets: u32,
    /// Whether bytes of the first flight were taken (at a client).
    pub early_data_accepted: bool,
    /// What the other side presented.
    pub certificates: Vec<Vec<u8>>,
}

impl Saw {
    fn failed(error: io::Error) -> Self {
        Self {
            alert: alert_of(&error),
            failure: Some(error),
            ..Self::default()
        }
    }
}

/// Dials a bare server, which sends `answer` after the handshake and listens to the end.
pub async fn dial_bare(
    dialer: &Dialer,
    request: DialRequest,
    config: ServerConfig,
    answer: &[u8],
) -> (Result<PeerInfo, DialError>, Saw) {
    let config = Arc::new(config);
    dial_bare_with(dialer, request, config, answer).await
}

/// The same with a configuration that lives on, with its sessions and tickets.
pub async fn dial_bare_with(
    dialer: &Dialer,
    request: DialRequest,
    config: Arc<ServerConfig>,
    answer: &[u8],
) -> (Result<PeerInfo, DialError>, Saw) {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let dialling = async {
        let dialled = dialer.handshake(near, Some(LISTENER), request).await;
        let mut connection = dialled?;
        // The server's tickets and its answer arrive now; then the connection closes properly.
        connection.stream.shutdown().await.ok();
        connection.stream.read_to_end(&mut Vec::new()).await.ok();
        Ok(connection.peer)
    };
    in_time(async { tokio::join!(dialling, listen(far, config, answer)) }).await
}

async fn listen(io: DuplexStream, config: Arc<ServerConfig>, answer: &[u8]) -> Saw {
    let mut tls = match TlsAcceptor::from(config).accept(io).await {
        Ok(tls) => tls,
        Err(error) => return Saw::failed(error),
    };
    let session = tls.get_ref().1;
    let mut saw = Saw {
        kind: session.handshake_kind(),
        alpn: session.alpn_protocol().map(<[u8]>::to_vec),
        certificates: presented(session.peer_certificates()),
        ..Saw::default()
    };
    say_and_listen(&mut tls, answer, &mut saw).await;
    saw
}

/// What a bare client does.
pub struct Call<'a> {
    /// Its configuration; shared between calls that shall resume.
    pub config: Arc<ClientConfig>,
    /// Sent with the first flight, if an earlier session allows it.
    pub early: &'a [u8],
    /// Sent after the handshake.
    pub say: &'a [u8],
}

/// Lets a bare client call an acceptor that accepts whom it recognises.
pub async fn call(
    acceptor: &Acceptor,
    config: ClientConfig,
    say: &[u8],
) -> (Result<(PeerInfo, Request), AcceptError>, Saw) {
    let call = Call {
        config: Arc::new(config),
        early: &[],
        say,
    };
    call_with(acceptor, &call).await
}

/// The same with everything that a call may do.
pub async fn call_with(
    acceptor: &Acceptor,
    call: &Call<'_>,
) -> (Result<(PeerInfo, Request), AcceptError>, Saw) {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let accepting = async {
        let incoming = acceptor.accept(far, Some(CALLER)).await?;
        let request = incoming.request.clone();
        let (mut stream, peer) = incoming.accept(|_| Ok(())).await?;
        stream.shutdown().await.ok();
        Ok((peer, request))
    };
    in_time(async { tokio::join!(accepting, call.speak(near)) }).await
}

impl Call<'_> {
    /// Calls a bare server, to earn tickets there.
    pub async fn bare(&self, config: Arc<ServerConfig>) -> Saw {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let serving = async {
            let mut tls = TlsAcceptor::from(config).accept(far).await?;
            tls.read_to_end(&mut Vec::new()).await?;
            tls.shutdown().await
        };
        let calling = async {
            let name = ServerName::try_from("peer.invalid").expect("a name");
            let connector = TlsConnector::from(Arc::clone(&self.config));
            let mut tls = connector.connect(name, near).await?;
            tls.shutdown().await?;
            let mut data = Vec::new();
            tls.read_to_end(&mut data).await?;
            Ok::<_, io::Error>(Saw {
                tickets: tls.get_ref().1.tls13_tickets_received(),
                kind: tls.get_ref().1.handshake_kind(),
                ..Saw::default()
            })
        };
        let (served, saw): (io::Result<()>, _) = tokio::join!(serving, calling);
        served.expect("served");
        saw.expect("called")
    }

    /// Calls through `io`: says what it has to, and listens to the end.
    pub async fn speak(&self, io: DuplexStream) -> Saw {
        self.converse(io, false).await
    }

    /// The same, but says that it has said everything before it listens.
    pub async fn speak_and_close(&self, io: DuplexStream) -> Saw {
        self.converse(io, true).await
    }

    async fn converse(&self, io: DuplexStream, close: bool) -> Saw {
        let name = ServerName::try_from("peer.invalid").expect("a name");
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let connecting = connector.connect_with(name, io, |session| {
            if let Some(mut early) = session.early_data().filter(|_| !self.early.is_empty()) {
                io::Write::write_all(&mut early, self.early).expect("room for early data");
            }
        });
        let mut tls = match connecting.await {
            Ok(tls) => tls,
            Err(error) => return Saw::failed(error),
        };
        let mut saw = Saw::default();
        if close {
            drop(tls.write_all(self.say).await);
            drop(tls.shutdown().await);
            say_and_listen(&mut tls, &[], &mut saw).await;
        } else {
            say_and_listen(&mut tls, self.say, &mut saw).await;
        }
        let session = tls.get_ref().1;
        saw.kind = session.handshake_kind();
        saw.alpn = session.alpn_protocol().map(<[u8]>::to_vec);
        saw.tickets = session.tls13_tickets_received();
        saw.early_data_accepted = session.is_early_data_accepted();
        saw.certificates = presented(session.peer_certificates());
        saw
    }
}

async fn say_and_listen<S>(tls: &mut S, say: &[u8], saw: &mut Saw)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Whoever was refused finds out when it reads.
    let said = async {
        tls.write_all(say).await?;
        tls.flush().await
    };
    drop(said.await);
    if let Err(error) = tls.read_to_end(&mut saw.data).await {
        saw.alert = alert_of(&error);
    }
    drop(tls.shutdown().await);
}

fn presented(certificates: Option<&[CertificateDer<'_>]>) -> Vec<Vec<u8>> {
    let certificates = certificates.unwrap_or_default();
    certificates.iter().map(|der| der.to_vec()).collect()
}

/// A whole HELLO frame.
pub fn hello_frame(hello: &Hello) -> Vec<u8> {
    frame(FrameType::Hello, &hello.encode())
}

/// A whole ACCEPT frame.
pub fn accept_frame() -> Vec<u8> {
    frame(FrameType::Accept, &encode_accept())
}

/// A whole REFUSE frame.
pub fn refuse_frame(reason: Reason) -> Vec<u8> {
    frame(FrameType::Refuse, &encode_refuse(reason))
}

fn frame(kind: FrameType, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut written = Box::pin(write_frame(&mut bytes, kind, body));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let outcome = written.as_mut().poll(&mut context);
    assert!(outcome.is_ready(), "memory makes nobody wait");
    drop(written);
    bytes
}

/// The id by which a face is known, if it proves its key.
impl From<&Face> for PeerId {
    fn from(face: &Face) -> Self {
        let chain: Vec<&[u8]> = face.0.cert.iter().map(AsRef::as_ref).collect();
        let chain = comity_certs::PresentedChain::parse(&chain);
        chain.expect("a readable chain").peer_id()
    }
}

/// Believes any certificate, but insists on the proof that its key is there.
#[derive(Debug)]
struct Believes;

impl Believes {
    fn tls12(
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, &algorithms)
    }

    fn tls13(
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, &algorithms)
    }

    fn schemes() -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::tls12(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::tls13(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Believes {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::tls12(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::tls13(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

/// A client that speaks `comity/1`.
pub fn speaking_comity(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN_COMITY.to_vec()];
    config
}
