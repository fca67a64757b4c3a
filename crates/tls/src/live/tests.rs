//! The comparison step by step, and the vector files under `tests/vectors/live/`: headers, an empty
//! line, and the frames of one comparison in hexadecimal digits, in order: dialer, acceptor, dialer.

use std::collections::BTreeMap;
use std::path::Path;

use comity_identity::NodeId;
use data_encoding::HEXLOWER;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

fn context(role: Role, exporter: u8) -> LiveContext {
    LiveContext {
        role,
        exporter: [exporter; 32],
        dialer: PeerId::Node(NodeId::of_spki(b"dialer")),
        acceptor: PeerId::Node(NodeId::of_spki(b"acceptor")),
    }
}

async fn compare(dialer: LiveContext, acceptor: LiveContext) -> [[&'static str; 4]; 2] {
    let (mut near, mut far) = tokio::io::duplex(1024);
    let (ours, theirs) = tokio::join!(exchange(&mut near, &dialer), exchange(&mut far, &acceptor));
    [ours.expect("words"), theirs.expect("words")]
}

#[tokio::test]
async fn both_screens_show_the_same_words() {
    let [ours, theirs] = compare(context(Role::Dialer, 1), context(Role::Acceptor, 1)).await;
    assert_eq!(ours, theirs);
    let [again, _] = compare(context(Role::Dialer, 1), context(Role::Acceptor, 1)).await;
    assert_ne!(ours, again, "fresh nonces give fresh words");
}

#[tokio::test]
async fn with_two_connections_the_words_differ() {
    // T55: somebody in the middle relays the frames between two TLS connections.
    let [ours, theirs] = compare(context(Role::Dialer, 1), context(Role::Acceptor, 2)).await;
    assert_ne!(ours, theirs);
}

#[tokio::test]
async fn a_broken_commitment_is_refused() {
    let (mut near, mut far) = tokio::io::duplex(1024);
    let cheat = async {
        send(&mut near, Step::Commit([0; 32])).await?;
        receive(&mut near).await?;
        send(&mut near, Step::Open([7; 32])).await
    };
    let acceptor = context(Role::Acceptor, 1);
    let (cheated, outcome) = tokio::join!(cheat, exchange(&mut far, &acceptor));
    assert!(cheated.is_ok());
    assert!(matches!(outcome, Err(LiveError::Commitment)));
}

#[tokio::test]
async fn both_people_must_say_yes() {
    for (ours, theirs) in [(true, true), (true, false), (false, true)] {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let (near, far) = tokio::join!(confirm(&mut near, ours), confirm(&mut far, theirs));
        assert_eq!(near.expect("answered"), ours && theirs);
        assert_eq!(far.expect("answered"), ours && theirs);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_not_awaited_for_ever() {
    let (mut near, far) = tokio::io::duplex(1024);
    let outcome = exchange(&mut near, &context(Role::Dialer, 1)).await;
    assert!(matches!(outcome, Err(LiveError::Timeout)));
    drop(far);
}

#[tokio::test]
async fn steps_out_of_order_are_refused() {
    let (mut near, mut far) = tokio::io::duplex(1024);
    send(&mut near, Step::Answer(true)).await.expect("open");
    near.flush().await.expect("open");
    let outcome = exchange(&mut far, &context(Role::Acceptor, 1)).await;
    assert!(matches!(
        outcome,
        Err(LiveError::Frame(FrameError::Content(_)))
    ));
}

struct Vector {
    name: String,
    headers: BTreeMap<String, String>,
    frames: Vec<Vec<u8>>,
}

impl Vector {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.unwrap_or_else(|| panic!("{}: no {name}", self.name))
    }

    fn bytes(&self, name: &str) -> [u8; 32] {
        let bytes = HEXLOWER.decode(self.header(name).as_bytes());
        bytes.expect("hexadecimal").try_into().expect("32 bytes")
    }

    fn context(&self, role: Role) -> LiveContext {
        let id = |name| PeerId::Node(NodeId::from_bytes(self.bytes(name)));
        LiveContext {
            role,
            exporter: self.bytes("exporter"),
            dialer: id("dialer"),
            acceptor: id("acceptor"),
        }
    }

    /// Plays the other side's frames to us. What we came to, and what we sent.
    async fn play(&self, role: Role) -> (Result<String, LiveError>, Vec<u8>) {
        let (nonce, theirs) = match role {
            Role::Dialer => ("dialer-nonce", 1),
            Role::Acceptor => ("acceptor-nonce", 0),
        };
        let theirs: Vec<&[u8]> = self
            .frames
            .iter()
            .skip(theirs)
            .step_by(2)
            .map(Vec::as_slice)
            .collect();
        let (mut near, mut far) = tokio::io::duplex(4096);
        far.write_all(&theirs.concat()).await.expect("room");
        let words = exchange_with(&mut near, &self.context(role), self.bytes(nonce)).await;
        drop(near);
        (words.map(|words| words.join(" ")), sent(far).await)
    }
}

async fn sent(mut far: DuplexStream) -> Vec<u8> {
    let mut sent = Vec::new();
    far.read_to_end(&mut sent).await.expect("memory");
    sent
}

#[tokio::test]
async fn comparisons_end_as_their_vectors_say() {
    let vectors = vectors();
    assert!(vectors.len() >= 8);
    for vector in &vectors {
        let (outcome, sent) = vector.play(Role::Acceptor).await;
        match (vector.header("outcome"), outcome) {
            ("accept", Ok(words)) => {
                assert_eq!(words, vector.header("words"), "{}", vector.name);
                assert_eq!(sent, vector.frames[1], "{}", vector.name);
                let (words, sent) = vector.play(Role::Dialer).await;
                assert_eq!(
                    words.expect("words"),
                    vector.header("words"),
                    "{}",
                    vector.name
                );
                let ours = [vector.frames[0].as_slice(), &vector.frames[2]].concat();
                assert_eq!(sent, ours, "{}", vector.name);
            }
            ("refuse", Err(error)) => {
                assert_eq!(error.to_string(), vector.header("why"), "{}", vector.name);
            }
            (stated, outcome) => panic!("{}: {stated}, and {outcome:?}", vector.name),
        }
    }
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/live");
    let files = std::fs::read_dir(folder).expect("the folder");
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("UTF-8");
        let (headers, body) = text.split_once("\n\n").expect("an empty line");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").expect("name: value");
            (name.to_owned(), value.to_owned())
        };
        let frame = |line: &str| HEXLOWER.decode(line.as_bytes()).expect("hexadecimal");
        Vector {
            name: path.display().to_string(),
            headers: headers.lines().map(header).collect(),
            frames: body.lines().map(frame).collect(),
        }
    };
    files
        .map(|file| read(&file.expect("a file").path()))
        .collect()
}
