//! The frames of `comity/1`.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use comity_tls::frame::{MAX_BODY, read_frame, write_frame};
use comity_tls::hello::{
    Hello, MAX_CLAIMED_NAME, MAX_SERVICE, decode_accept, decode_refuse, encode_accept,
    encode_refuse,
};
use comity_tls::live;

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

/// A future that only reads from memory is finished at its first poll.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("memory does not make anybody wait"),
    }
}
