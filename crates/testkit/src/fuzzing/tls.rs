//! The frames of `comity/1`.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use comity_identity::NodeId;
use comity_tls::frame::{FrameType, MAX_BODY, read_frame, write_frame};
use comity_tls::hello::{
    Hello, MAX_CLAIMED_NAME, MAX_SERVICE, decode_accept, decode_refuse, encode_accept,
    encode_refuse,
};
use comity_tls::live;
use comity_tls::network::{self, Chunk, Event, Exchange, Grant, Holding, Input};

use super::assert_printable;

/// Frames, one after the other, as they come from a connection.
pub fn frame(data: &[u8]) {
    let mut rest = data;
    while !rest.is_empty() {
        let before = rest;
        match ready(read_frame(&mut rest)) {
            Ok((kind, body)) => {
                assert!(body.len() <= MAX_BODY);
                let mut written = Vec::new();
                ready(write_frame(&mut written, kind, &body)).expect("it was read");
                // Exactly the frame was taken: what follows is application data.
                assert_eq!(written, before[..before.len() - rest.len()]);
            }
            Err(error) => return assert_printable(&error),
        }
    }
}

/// The dialer's request.
pub fn hello(data: &[u8]) {
    let hello = match Hello::decode(data) {
        Ok(hello) => hello,
        Err(error) => return assert_printable(&error),
    };
    let encoded = hello.encode();
    assert_eq!(Hello::decode(&encoded).as_ref(), Ok(&hello));
    assert!(overlong(data).iter().all(|map| Hello::decode(map).is_err()));
    // Keys of later versions are skipped, so it may be shorter than what came.
    assert!(encoded.len() <= data.len() && encoded.len() <= MAX_BODY);
    assert!(
        hello
            .service
            .is_none_or(|name| name.as_str().len() <= MAX_SERVICE)
    );
    assert!(
        hello
            .claimed_name
            .is_none_or(|name| name.len() <= MAX_CLAIMED_NAME)
    );
}

/// The acceptor's yes or no.
pub fn answer(data: &[u8]) {
    let accept = encode_accept();
    match decode_accept(data) {
        Ok(()) => {
            // There is one shortest yes.
            assert!(data == accept || data.len() > accept.len());
            assert!(overlong(data).iter().all(|map| decode_accept(map).is_err()));
        }
        Err(error) => assert_printable(&error),
    }
    match decode_refuse(data) {
        Ok(Some(reason)) => {
            let encoded = encode_refuse(reason);
            let again = decode_refuse(&encoded).expect("our own encoding");
            // The reason on the wire may be coarser, but is then stable.
            assert_eq!(again.map(|r| r.wire_token()), Some(reason.wire_token()));
        }
        Ok(None) => {}
        Err(error) => assert_printable(&error),
    }
    assert!(decode_accept(data).is_err() || decode_refuse(data).is_err());
}

/// The same map with an overlong head, and with an overlong first key: never deterministic CBOR.
fn overlong(map: &[u8]) -> Vec<Vec<u8>> {
    let mut spellings = Vec::new();
    if let [head @ 0xa0..=0xb7, rest @ ..] = map {
        spellings.push([&[0xb8, head & 0x1f], rest].concat());
        if let [key @ 0..=0x17, rest @ ..] = rest {
            spellings.push([&[*head, 0x18, *key], rest].concat());
        }
    }
    spellings
}

/// A step of the live comparison.
pub fn live_step(data: &[u8]) {
    if live::fuzz_decode(data) {
        assert!(data.len() >= 3, "a map, a key and a value");
        assert!(overlong(data).iter().all(|map| !live::fuzz_decode(map)));
        // Nothing may follow the map.
        let longer = [data, &[0]].concat();
        assert!(!live::fuzz_decode(&longer));
        assert!(!live::fuzz_decode(&data[..data.len() - 1]));
    }
}

/// The body of a SYNC, of a part, or a whole grant: what it is read as, it is written as.
pub fn network_frame(data: &[u8]) {
    match network::decode_sync(data) {
        Ok(standings) => {
            assert!(standings.len() <= network::MAX_SHARED);
            let encoded = network::encode_sync(&standings);
            assert_eq!(network::decode_sync(&encoded).as_ref(), Ok(&standings));
            assert!(encoded.len() <= data.len() && encoded.len() <= MAX_BODY);
            let mut spellings = overlong(data).into_iter();
            assert!(spellings.all(|map| network::decode_sync(&map).is_err()));
        }
        Err(error) => assert_printable(&error),
    }
    match Chunk::decode(data, network::MAX_BUNDLE) {
        Ok(chunk) => {
            assert!(chunk.bytes.len() <= network::CHUNK && !chunk.bytes.is_empty());
            assert!(chunk.offset + chunk.bytes.len() <= chunk.total);
            assert!(chunk.total <= network::MAX_BUNDLE);
            let encoded = chunk.encode();
            assert_eq!(Chunk::decode(&encoded, network::MAX_BUNDLE), Ok(chunk));
        }
        Err(error) => assert_printable(&error),
    }
    match Grant::decode(data) {
        Ok(grant) => {
            let count = grant.membership.len();
            assert!((1..=network::MAX_MEMBERSHIP).contains(&count));
            let encoded = grant.encode();
            assert!(encoded.len() <= data.len() && encoded.len() <= network::MAX_GRANT);
            assert_eq!(Grant::decode(&encoded), Ok(grant));
        }
        Err(error) => assert_printable(&error),
    }
}

/// What a peer sends on a connection that exchanges bundles: one byte that tells our role, then each
/// frame behind one byte with the seconds that pass before it.
pub fn exchange(data: &[u8]) {
    let Some((role, mut rest)) = data.split_first() else {
        return;
    };
    // Time has no beginning in which anything could differ.
    let mut now = Instant::now();
    let shared = [1, 2].map(|of| NodeId::from_bytes([of; 32]));
    let holdings = shared.map(|network| Holding::new(network, 1, 5, Arc::from([7; 20])));
    let mut exchange = match role % 2 {
        0 => Exchange::dialing(holdings.to_vec(), now),
        _ => Exchange::accepting(holdings.to_vec(), now),
    };
    let (mut bundles, mut passed, mut closed) = (0, 0, false);
    while let Some((seconds, frame)) = rest.split_first() {
        rest = frame;
        now += Duration::from_secs(u64::from(*seconds));
        passed += u64::from(*seconds);
        exchange.handle_timeout(now);
        let Ok((kind, body)) = ready(read_frame(&mut rest)) else {
            break;
        };
        exchange.handle_input(Input::Frame(kind, body), now);
        while let Some((kind, body)) = exchange.poll_transmit() {
            assert!(!closed && body.len() <= MAX_BODY);
            match kind {
                FrameType::Sync => drop(network::decode_sync(&body).expect("our own encoding")),
                kind => {
                    assert_eq!(kind, FrameType::Bundle);
                    let chunk = Chunk::decode(&body, network::MAX_BUNDLE);
                    assert!(shared.contains(&chunk.expect("our own encoding").network));
                }
            }
        }
        while let Some(event) = exchange.poll_event() {
            assert!(!closed, "something happened after the end");
            match event {
                Event::Bundle { network, .. } => {
                    bundles += 1;
                    assert!(shared.contains(&network));
                }
                Event::Grant(grant) => {
                    assert_eq!(role % 2, 0, "nobody grants anything to an acceptor");
                    assert!(shared.contains(&grant.network));
                }
                Event::Named(networks) => assert!(networks.len() <= network::MAX_SHARED),
                Event::Closed(violation) => {
                    closed = true;
                    assert_printable(&violation);
                }
            }
        }
        assert_eq!(exchange.poll_timeout().is_none(), closed);
    }
    // Four of each network at once, and one more of each per second.
    assert!(bundles <= 2 * (4 + passed), "{bundles} in {passed} s");
}

/// A future that only reads from memory is finished at its first poll.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("memory does not make anybody wait"),
    }
}
