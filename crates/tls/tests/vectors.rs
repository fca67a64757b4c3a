//! The vector files under `tests/vectors/hello/` and `network/`: headers, an empty line, and one frame in
//! hexadecimal digits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use comity_tls::frame::{FrameError, FrameType, read_frame, write_frame};
use comity_tls::hello::{Hello, decode_accept, decode_refuse};
use comity_tls::network::{Chunk, Grant, MAX_BUNDLE, MAX_GRANT, decode_sync, encode_sync};
use data_encoding::HEXLOWER;

type Header = BTreeMap<String, String>;

#[tokio::test]
async fn frames_read_as_their_vectors_say() {
    let mut files = 0;
    for (path, stated, wire) in vectors("hello").into_iter().chain(vectors("network")) {
        let found = match describe(&wire).await {
            Ok(found) => found,
            Err(error) => Header::from([
                ("outcome".to_owned(), "refuse".to_owned()),
                ("why".to_owned(), error.to_string()),
            ]),
        };
        assert_eq!(found, stated, "{}", path.display());
        files += 1;
    }
    assert!(files >= 40, "{files} vectors");
}

/// Reads one frame and says what is in it.
async fn describe(wire: &[u8]) -> Result<Header, FrameError> {
    let mut rest = wire;
    let (kind, body) = read_frame(&mut rest).await?;
    let mut found = Header::from([("outcome".to_owned(), "accept".to_owned())]);
    let mut put = |name: &str, value: String| found.insert(name.to_owned(), value);
    match kind {
        FrameType::Hello => {
            let hello = Hello::decode(&body)?;
            put("frame", "hello".to_owned());
            put("protocol", hello.protocol.token().to_owned());
            if let Some(service) = &hello.service {
                put("service", service.to_string());
            }
            if let Some(proof) = &hello.proof {
                put("invitation", HEXLOWER.encode(&proof.id));
                put("signature", HEXLOWER.encode(&proof.signature));
            }
            if let Some(name) = &hello.claimed_name {
                put("name", name.clone());
            }
            written_again(kind, &hello.encode(), wire).await;
        }
        FrameType::Accept => {
            decode_accept(&body)?;
            put("frame", "accept".to_owned());
            written_again(kind, &body, wire).await;
        }
        FrameType::Refuse => {
            let reason = decode_refuse(&body)?;
            put("frame", "refuse".to_owned());
            let unknown = "unknown to this version".to_owned();
            put("reason", reason.map_or(unknown, |r| r.token().to_owned()));
        }
        FrameType::Sync => {
            let standings = decode_sync(&body)?;
            let networks: Vec<String> = standings
                .iter()
                .map(|s| {
                    format!(
                        "{}@{}.{}",
                        HEXLOWER.encode(s.network.as_bytes()),
                        s.charter,
                        s.sequence
                    )
                })
                .collect();
            let digests: Vec<String> = standings
                .iter()
                .map(|s| HEXLOWER.encode(&s.digest))
                .collect();
            put("frame", "sync".to_owned());
            put("networks", networks.join(" "));
            put("digests", digests.join(" "));
            written_again(kind, &encode_sync(&standings), wire).await;
        }
        FrameType::Bundle => {
            let chunk = Chunk::decode(&body, MAX_BUNDLE)?;
            put("frame", "bundle".to_owned());
            put("network", HEXLOWER.encode(chunk.network.as_bytes()));
            put("total", chunk.total.to_string());
            put("offset", chunk.offset.to_string());
            put("bytes", chunk.bytes.len().to_string());
            written_again(kind, &chunk.encode(), wire).await;
        }
        // One part each.
        FrameType::Grant => {
            let chunk = Chunk::decode(&body, MAX_GRANT)?;
            let grant = Grant::decode(chunk.bytes)?;
            let membership: Vec<String> = grant
                .membership
                .iter()
                .map(|der| HEXLOWER.encode(der))
                .collect();
            put("frame", "grant".to_owned());
            put("network", HEXLOWER.encode(grant.network.as_bytes()));
            put("membership", membership.join(" "));
            put("bundle", HEXLOWER.encode(&grant.bundle));
            assert_eq!(grant.encode(), chunk.bytes);
            written_again(kind, &chunk.encode(), wire).await;
        }
        FrameType::Live => panic!("steps of the live comparison have vectors of their own"),
    }
    assert!(rest.is_empty(), "one frame in one vector");
    Ok(found)
}

/// What was read is written as the same bytes, unless a later version added something to it.
async fn written_again(kind: FrameType, body: &[u8], wire: &[u8]) {
    let mut written = Vec::new();
    let outcome = write_frame(&mut written, kind, body).await;
    outcome.expect("memory takes everything");
    assert!(written == wire || written.len() < wire.len());
}

/// The vectors of a folder, without their comments.
fn vectors(folder: &str) -> Vec<(PathBuf, Header, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(folder);
    let files = std::fs::read_dir(&folder).expect("the folder");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let (header, body) = text.split_once("\n\n").expect("an empty line");
        let pairs = header.lines().map(|line| {
            let (name, value) = line.split_once(": ").expect("name: value");
            (name.to_owned(), value.to_owned())
        });
        let header = pairs.filter(|(name, _)| name != "comment").collect();
        let wire = HEXLOWER
            .decode(body.trim().as_bytes())
            .expect("hexadecimal");
        (path, header, wire)
    };
    paths.into_iter().map(read).collect()
}
