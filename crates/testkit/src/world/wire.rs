//! What can be seen and done on the wire without any key: counting records, cutting them off, and
//! reading what a ClientHello says in the clear.

use std::collections::BTreeMap;
use std::io;

use comity_tls::{DialRequest, Dialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use crate::world::LISTENER;

/// How many TLS records pass in each direction before the wire is cut.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// From the dialer.
    pub out: usize,
    /// To the dialer.
    pub back: usize,
}

impl Limit {
    /// All of them.
    pub const NONE: Self = Self {
        out: usize::MAX,
        back: usize::MAX,
    };
}

/// The records that passed, with their headers.
#[derive(Debug, Default)]
pub struct Tapped {
    /// From the dialer.
    pub out: Vec<Vec<u8>>,
    /// To the dialer.
    pub back: Vec<Vec<u8>>,
}

/// Carries TLS records between the dialer's pipe and the acceptor's until both have closed, or
/// until a limit is reached: then both see the connection end.
pub async fn tap(dialer: DuplexStream, acceptor: DuplexStream, limit: Limit) -> Tapped {
    let (from_dialer, to_dialer) = tokio::io::split(dialer);
    let (from_acceptor, to_acceptor) = tokio::io::split(acceptor);
    let mut tapped = Tapped::default();
    {
        let out = carry(from_dialer, to_acceptor, limit.out, &mut tapped.out);
        let back = carry(from_acceptor, to_dialer, limit.back, &mut tapped.back);
        tokio::pin!(out, back);
        let (mut out_open, mut back_open, mut cut) = (true, true, false);
        while !cut && (out_open || back_open) {
            cut = tokio::select! {
                cut = &mut out, if out_open => { out_open = false; cut }
                cut = &mut back, if back_open => { back_open = false; cut }
            };
        }
    }
    tapped
}

/// Whether it ended at the limit.
async fn carry(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    limit: usize,
    passed: &mut Vec<Vec<u8>>,
) -> bool {
    while passed.len() < limit {
        let Ok(record) = read_record(&mut from).await else {
            drop(to.shutdown().await);
            return false;
        };
        if to.write_all(&record).await.is_err() {
            return false;
        }
        passed.push(record);
    }
    true
}

async fn read_record(from: &mut ReadHalf<DuplexStream>) -> io::Result<Vec<u8>> {
    let mut record = vec![0; 5];
    from.read_exact(&mut record).await?;
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    from.read_exact(&mut record[5..]).await?;
    Ok(record)
}

/// A ClientHello (RFC 8446 section 4.1.2) in which everything that must be random is blanked: the
/// random, the session id and the key shares, whose lengths stay. Extensions are sorted, because
/// the TLS library shuffles them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientHello {
    /// Bytes on the wire.
    pub length: usize,
    /// Version, blanked random and session id, cipher suites and compression methods.
    pub fixed: Vec<u8>,
    /// Extensions by type.
    pub extensions: BTreeMap<u16, Vec<u8>>,
}

const KEY_SHARE: u16 = 51;
const SERVER_NAME: u16 = 0;

impl ClientHello {
    /// The content of the server name extension, if there is one.
    pub fn sni(&self) -> Option<&[u8]> {
        self.extensions.get(&SERVER_NAME).map(Vec::as_slice)
    }

    fn read(record: &[u8]) -> Self {
        let body = &record[9..];
        let mut at = 2 + 32;
        let session_id = usize::from(body[at]);
        at += 1 + session_id;
        let mut fixed = body[..2].to_vec();
        fixed.push(u8::try_from(session_id).expect("a byte"));
        let suites = at;
        at += 2 + length(&body[at..]);
        at += 1 + usize::from(body[at]);
        fixed.extend_from_slice(&body[suites..at]);
        let mut rest = &body[at + 2..];
        let mut extensions = BTreeMap::new();
        while !rest.is_empty() {
            let kind = u16::from_be_bytes([rest[0], rest[1]]);
            let end = 4 + length(&rest[2..]);
            let mut content = rest[4..end].to_vec();
            if kind == KEY_SHARE {
                blank_shares(&mut content[2..]);
            }
            assert!(extensions.insert(kind, content).is_none());
            rest = &rest[end..];
        }
        Self {
            length: record.len(),
            fixed,
            extensions,
        }
    }
}

fn blank_shares(mut shares: &mut [u8]) {
    while !shares.is_empty() {
        let end = 4 + length(&shares[2..]);
        shares[4..end].fill(0);
        shares = &mut shares[end..];
    }
}

fn length(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// What a dialer says first. Nobody answers it.
pub async fn client_hello(dialer: &Dialer, request: DialRequest) -> ClientHello {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut far, _) = tokio::io::split(far);
    let listening = async move { read_record(&mut far).await.expect("a record") };
    let (dialled, record) =
        tokio::join!(dialer.handshake(near, Some(LISTENER), request), listening);
    assert!(dialled.is_err(), "nobody answered");
    ClientHello::read(&record)
}
