//! A grant in answer to an invitation: its parts follow ACCEPT, and nothing else does.

use std::time::Duration;

use comity_identity::NodeId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::acceptor::AcceptError;
use crate::frame::{ContentError, FrameError, FrameType, expect_frame, write_frame};
use crate::network::exchange::ASSEMBLY;
use crate::network::wire::{Assembly, CHUNK, Chunk, Grant, MAX_GRANT};

/// How long the whole of it may take, in each direction.
const TRANSFER: Duration = ASSEMBLY;

/// Sends `grant` to a peer that was accepted.
pub(crate) async fn send_grant<S: AsyncWrite + Unpin>(
    stream: &mut S,
    grant: &Grant,
) -> Result<(), AcceptError> {
    let whole = grant.encode();
    let sent = async {
        for offset in (0..whole.len()).step_by(CHUNK) {
            let chunk = Chunk::of(grant.network, &whole, offset).encode();
            write_frame(stream, FrameType::Grant, &chunk).await?;
        }
        Ok(())
    };
    match timeout(TRANSFER, sent).await {
        Ok(sent) => sent.map_err(AcceptError::Protocol),
        Err(_) => Err(AcceptError::Timeout),
    }
}

/// Receives the grant of `network`. Nothing in it is verified.
pub(crate) async fn receive_grant<S: AsyncRead + Unpin>(
    stream: &mut S,
    network: NodeId,
) -> Result<Grant, FrameError> {
    let received = async {
        let mut assembly: Option<Assembly> = None;
        loop {
            let body = expect_frame(stream, FrameType::Grant).await?;
            let chunk = Chunk::decode(&body, MAX_GRANT)?;
            let fits = match &mut assembly {
                None => {
                    assembly = Assembly::begin(FrameType::Grant, &chunk);
                    assembly.is_some() && chunk.network == network
                }
                Some(assembly) => assembly.add(FrameType::Grant, &chunk).is_some(),
            };
            if !fits {
                return Err(FrameError::Content(ContentError::Shape));
            }
            if let Some(whole) = assembly.take_if(|assembly| assembly.is_whole()) {
                return Ok(Grant::decode(&whole.into_bytes())?);
            }
        }
    };
    match timeout(TRANSFER, received).await {
        Ok(received) => received,
        Err(elapsed) => Err(FrameError::Io(elapsed.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn grant(length: usize) -> Grant {
        Grant {
            network: network(1),
            membership: vec![vec![1; 700]],
            bundle: vec![2; length],
        }
    }

    /// The frames of a grant, as they are on the wire.
    async fn wire(grant: &Grant) -> Vec<u8> {
        let mut wire = Vec::new();
        send_grant(&mut wire, grant).await.expect("memory");
        wire
    }

    #[tokio::test]
    async fn a_grant_arrives_and_nothing_behind_it_is_read() {
        for length in [1, CHUNK, 1024 * 1024] {
            let mut wire = wire(&grant(length)).await;
            wire.push(42);
            let mut rest = wire.as_slice();
            let received = receive_grant(&mut rest, network(1)).await;
            assert_eq!(received.expect("sound"), grant(length));
            assert_eq!(rest, [42]);
        }
    }

    #[tokio::test]
    async fn a_grant_of_another_network_or_in_disorder_is_refused() {
        let first = wire(&grant(10)).await;
        let of_another = receive_grant(&mut first.as_slice(), network(2)).await;
        assert!(matches!(of_another, Err(FrameError::Content(_))));
        let long = wire(&grant(2 * CHUNK)).await;
        // The first frame twice; the second one first; the last one missing.
        let length = 3 + usize::from(u16::from_be_bytes([long[1], long[2]]));
        let twice = [&long[..length], &long[..length]].concat();
        for wrong in [&twice[..], &long[length..]] {
            let refused = receive_grant(&mut &*wrong, network(1)).await;
            assert!(matches!(refused, Err(FrameError::Content(_))));
        }
        let cut = receive_grant(&mut &long[..length], network(1)).await;
        assert!(matches!(cut, Err(FrameError::Io(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_dribbles_is_given_up() {
        let (mut near, _far) = tokio::io::duplex(64);
        let refused = receive_grant(&mut near, network(1)).await;
        assert!(matches!(refused, Err(FrameError::Io(_))));
    }
}
