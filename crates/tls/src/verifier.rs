//! The two certificate callbacks of rustls.
//!
//! They run before the peer has proved that it owns the key in its certificate, so they neither
//! grant nor record anything. When dialling, the callback refuses what is certain to be refused,
//! because afterwards our own certificate leaves. When accepting it refuses only chains that are
//! malformed or over a limit: a stranger who sees different alerts for different certificates
//! could ask us whom we know. What a callback saw is handed to the gate, which decides.
//!
//! The proof of possession is left to rustls' own helpers entirely.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use comity_certs::{ChainError, PresentedChain, SignatureCache};
use comity_trust::{Refusal, Verdict};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::config;

/// What a callback saw, carried out of the handshake beside rustls: an alert says too little.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    state: Mutex<SeenState>,
    signatures: Arc<SignatureCache>,
}

#[derive(Debug, Default)]
enum SeenState {
    #[default]
    Nothing,
    Chain(PresentedChain),
    Refused(PresentedChain, Box<Refusal>),
    Unreadable(ChainError),
}

/// What a finished or failed handshake leaves behind.
#[derive(Debug)]
pub(crate) enum Evidence {
    /// The peer presented nothing.
    Nothing,
    /// A chain within limits. Whether its key is the peer's is what a finished handshake proves.
    Chain(PresentedChain),
    /// A chain that the dialler's callback refused.
    Refused(PresentedChain, Box<Refusal>),
    /// Something that is not a chain within limits.
    Unreadable(ChainError),
}

impl Seen {
    fn sharing(signatures: &Arc<SignatureCache>) -> Self {
        Self {
            state: Mutex::default(),
            signatures: Arc::clone(signatures),
        }
    }

    pub(crate) fn take(&self) -> Evidence {
        match std::mem::take(&mut *self.lock()) {
            SeenState::Nothing => Evidence::Nothing,
            SeenState::Chain(chain) => Evidence::Chain(chain),
            SeenState::Refused(chain, refusal) => Evidence::Refused(chain, refusal),
            SeenState::Unreadable(error) => Evidence::Unreadable(error),
        }
    }

    fn set(&self, state: SeenState) {
        *self.lock() = state;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SeenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parse(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
    ) -> Result<PresentedChain, Error> {
        let certificates: Vec<&[u8]> = std::iter::once(leaf)
            .chain(rest)
            .map(|certificate| certificate.as_ref())
            .collect();
        match PresentedChain::parse(&certificates) {
            Ok(chain) => Ok(chain.sharing(&self.signatures)),
            Err(error) => {
                self.set(SeenState::Unreadable(error));
                Err(Error::InvalidCertificate(CertificateError::BadEncoding))
            }
        }
    }
}

type Judge = Box<dyn Fn(&PresentedChain) -> Verdict + Send + Sync>;

/// The callback of one dial.
pub(crate) struct DialVerifier {
    pub(crate) seen: Seen,
    judge: Judge,
}

impl DialVerifier {
    /// `judge` decides on the chain alone, before possession of its key is proved.
    pub(crate) fn new(judge: Judge, signatures: &Arc<SignatureCache>) -> Self {
        Self {
            seen: Seen::sharing(signatures),
            judge,
        }
    }
}

impl fmt::Debug for DialVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DialVerifier")
    }
}

impl ServerCertVerifier for DialVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = self.seen.parse(leaf, rest)?;
        match (self.judge)(&chain) {
            Verdict::Accept(_) => {
                self.seen.set(SeenState::Chain(chain));
                Ok(ServerCertVerified::assertion())
            }
            Verdict::Refuse(refusal) => {
                self.seen.set(SeenState::Refused(chain, Box::new(refusal)));
                Err(Error::InvalidCertificate(
                    CertificateError::ApplicationVerificationFailure,
                ))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signature, algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// The callback of one accepted connection.
#[derive(Debug)]
pub(crate) struct AcceptVerifier {
    pub(crate) seen: Seen,
}

impl AcceptVerifier {
    pub(crate) fn new(signatures: &Arc<SignatureCache>) -> Self {
        Self {
            seen: Seen::sharing(signatures),
        }
    }
}

impl ClientCertVerifier for AcceptVerifier {
    /// No hints: a list of names would tell strangers whom we trust.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = self.seen.parse(leaf, rest)?;
        self.seen.set(SeenState::Chain(chain));
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signature, algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn algorithms() -> &'static rustls::crypto::WebPkiSupportedAlgorithms {
    &config::provider().signature_verification_algorithms
}
