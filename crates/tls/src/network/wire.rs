//! What the frames SYNC, BUNDLE and GRANT say.

use comity_identity::NodeId;
use minicbor::Decoder;

use crate::frame::{ContentError, FrameType};
use crate::hello::{MapWriter, read_map};

/// Networks in one SYNC. A chain has room for three memberships; an organisation's gateway follows
/// a handful more.
pub const MAX_SHARED: usize = 16;

/// Bytes of one bundle: what its parser takes.
pub const MAX_BUNDLE: usize = 1024 * 1024;

/// Bytes of one grant: a bundle, the certificates, and room for later keys.
pub const MAX_GRANT: usize = 2 * 1024 * 1024;

/// Bytes of one chunk. All chunks but the last have exactly this length, so that an object costs
/// its receiver as many frames as it must and no more.
pub const CHUNK: usize = 15 * 1024;

/// Certificates in one grant: a chain has eight, the leaf and our own root are ours.
pub const MAX_MEMBERSHIP: usize = comity_certs::limits::MAX_CERTIFICATES - 2;

/// One network in a SYNC: what its sender holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Which network.
    pub network: NodeId,
    /// The sequence of the authority's charter, which the order of bundles begins with: it is signed
    /// by a root, and a bundle by a key that may be stolen.
    pub charter: u64,
    /// The sequence of the bundle.
    pub sequence: u64,
    /// SHA-256 of the bundle's bytes. Two bundles of one sequence are a fork, and whoever holds
    /// the one must see the other.
    pub digest: [u8; 32],
}

/// A membership as its holder receives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Of which network.
    pub network: NodeId,
    /// The certificates to present, in DER: the cross-certificate for the holder's root, then what
    /// is above it up to the network's root, which is left out.
    pub membership: Vec<Vec<u8>>,
    /// The network's bundle.
    pub bundle: Vec<u8>,
}

/// A part of a bundle or grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk<'a> {
    /// Of which network.
    pub network: NodeId,
    /// Bytes of the whole.
    pub total: usize,
    /// Where this part begins: a multiple of [`CHUNK`].
    pub offset: usize,
    /// The part.
    pub bytes: &'a [u8],
}

/// The largest object that a frame type carries in parts.
pub(crate) const fn max_total(kind: FrameType) -> usize {
    match kind {
        FrameType::Grant => MAX_GRANT,
        _ => MAX_BUNDLE,
    }
}

/// The body of a SYNC. `standings` must ascend by network, at most [`MAX_SHARED`] of them.
pub fn encode_sync(standings: &[Standing]) -> Vec<u8> {
    let mut map = MapWriter::new();
    map.field(1, |e| {
        e.array(standings.len() as u64)?;
        for standing in standings {
            e.array(4)?
                .bytes(standing.network.as_bytes())?
                .u64(standing.charter)?
                .u64(standing.sequence)?
                .bytes(&standing.digest)?;
        }
        Ok(e)
    });
    map.finish()
}

/// Reads a SYNC.
///
/// # Errors
/// When it is malformed, names a network twice or out of order, or more than [`MAX_SHARED`].
pub fn decode_sync(body: &[u8]) -> Result<Vec<Standing>, ContentError> {
    let mut standings = None;
    read_map(body, |key, d| {
        if key == 1 {
            standings = Some(decode_standings(d)?);
        }
        Ok(key == 1)
    })?;
    standings.ok_or(ContentError::Missing { key: 1 })
}

fn decode_standings(d: &mut Decoder<'_>) -> Result<Vec<Standing>, ContentError> {
    let count = d.array()?.ok_or(ContentError::NotDeterministic)?;
    if count > MAX_SHARED as u64 {
        return Err(ContentError::Value { key: 1 });
    }
    let mut standings: Vec<Standing> = Vec::new();
    for _ in 0..count {
        if d.array()? != Some(4) {
            return Err(ContentError::Shape);
        }
        let standing = Standing {
            network: decode_network(d)?,
            charter: d.u64()?,
            sequence: d.u64()?,
            digest: decode_hash(d)?,
        };
        if standings
            .last()
            .is_some_and(|last| last.network >= standing.network)
        {
            return Err(ContentError::NotDeterministic);
        }
        standings.push(standing);
    }
    Ok(standings)
}

impl<'a> Chunk<'a> {
    /// The part of `whole` that begins at `offset`.
    pub fn of(network: NodeId, whole: &'a [u8], offset: usize) -> Self {
        let end = whole.len().min(offset + CHUNK);
        Self {
            network,
            total: whole.len(),
            offset,
            bytes: &whole[offset.min(end)..end],
        }
    }

    /// The deterministic CBOR of this part.
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.field(1, |e| e.bytes(self.network.as_bytes()));
        map.field(2, |e| e.u64(self.total as u64));
        map.field(3, |e| e.u64(self.offset as u64));
        map.field(4, |e| e.bytes(self.bytes));
        map.finish()
    }

    /// Reads a part of an object of at most `max` bytes.
    ///
    /// # Errors
    /// When it is malformed, of an object too large, or not one of the parts into which an object
    /// of that length is divided.
    pub fn decode(body: &'a [u8], max: usize) -> Result<Self, ContentError> {
        let (mut network, mut total, mut offset, mut bytes) = (None, None, None, None);
        read_map(body, |key, d| {
            match key {
                1 => network = Some(decode_network(d)?),
                2 => total = usize::try_from(d.u64()?).ok(),
                3 => offset = usize::try_from(d.u64()?).ok(),
                4 => bytes = Some(d.bytes()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let chunk = Self {
            network: network.ok_or(ContentError::Missing { key: 1 })?,
            total: total.ok_or(ContentError::Missing { key: 2 })?,
            offset: offset.ok_or(ContentError::Missing { key: 3 })?,
            bytes: bytes.ok_or(ContentError::Missing { key: 4 })?,
        };
        if chunk.total == 0 || chunk.total > max {
            return Err(ContentError::Value { key: 2 });
        }
        if chunk.offset >= chunk.total || !chunk.offset.is_multiple_of(CHUNK) {
            return Err(ContentError::Value { key: 3 });
        }
        if chunk.bytes.len() != CHUNK.min(chunk.total - chunk.offset) {
            return Err(ContentError::Value { key: 4 });
        }
        Ok(chunk)
    }
}

/// An object whose parts are coming in.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) kind: FrameType,
    pub(crate) network: NodeId,
    total: usize,
    /// Grows with what arrived, not with what was announced.
    bytes: Vec<u8>,
}

impl Assembly {
    /// Begins with the first part. `None` when it is not the first one.
    pub(crate) fn begin(kind: FrameType, chunk: &Chunk<'_>) -> Option<Self> {
        (chunk.offset == 0).then(|| Self {
            kind,
            network: chunk.network,
            total: chunk.total,
            bytes: chunk.bytes.to_vec(),
        })
    }

    /// Adds the next part. `None` when it is not that.
    #[must_use]
    pub(crate) fn add(&mut self, kind: FrameType, chunk: &Chunk<'_>) -> Option<()> {
        let fits = self.kind == kind
            && self.network == chunk.network
            && self.total == chunk.total
            && self.bytes.len() == chunk.offset;
        fits.then(|| self.bytes.extend_from_slice(chunk.bytes))
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() == self.total
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Grant {
    /// The deterministic CBOR of this grant.
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.field(1, |e| e.bytes(self.network.as_bytes()));
        map.field(2, |e| {
            e.array(self.membership.len() as u64)?;
            for certificate in &self.membership {
                e.bytes(certificate)?;
            }
            Ok(e)
        });
        map.field(3, |e| e.bytes(&self.bundle));
        map.finish()
    }

    /// Reads a grant. What is in it is not verified here.
    ///
    /// # Errors
    /// When it is malformed, has no or more than [`MAX_MEMBERSHIP`] certificates, or a part of it
    /// is over its limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, ContentError> {
        let (mut network, mut membership, mut bundle) = (None, None, None);
        read_map(bytes, |key, d| {
            match key {
                1 => network = Some(decode_network(d)?),
                2 => membership = Some(decode_membership(d)?),
                3 => bundle = Some(d.bytes()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let bundle = bundle.ok_or(ContentError::Missing { key: 3 })?;
        if bundle.is_empty() || bundle.len() > MAX_BUNDLE {
            return Err(ContentError::Value { key: 3 });
        }
        Ok(Self {
            network: network.ok_or(ContentError::Missing { key: 1 })?,
            membership: membership.ok_or(ContentError::Missing { key: 2 })?,
            bundle: bundle.to_vec(),
        })
    }
}

fn decode_membership(d: &mut Decoder<'_>) -> Result<Vec<Vec<u8>>, ContentError> {
    const KEY: u64 = 2;
    let count = d.array()?.ok_or(ContentError::NotDeterministic)?;
    if count == 0 || count > MAX_MEMBERSHIP as u64 {
        return Err(ContentError::Value { key: KEY });
    }
    let (mut membership, mut total) = (Vec::new(), 0);
    for _ in 0..count {
        let certificate = d.bytes()?;
        total += certificate.len();
        if certificate.is_empty() || total > comity_certs::limits::MAX_CHAIN_BYTES {
            return Err(ContentError::Value { key: KEY });
        }
        membership.push(certificate.to_vec());
    }
    Ok(membership)
}

fn decode_network(d: &mut Decoder<'_>) -> Result<NodeId, ContentError> {
    decode_hash(d).map(NodeId::from_bytes)
}

fn decode_hash(d: &mut Decoder<'_>) -> Result<[u8; 32], ContentError> {
    d.bytes()?.try_into().map_err(|_| ContentError::Shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn standing(byte: u8) -> Standing {
        Standing {
            network: network(byte),
            charter: u64::from(byte),
            sequence: u64::from(byte) << 33,
            digest: [byte; 32],
        }
    }

    fn grant() -> Grant {
        Grant {
            network: network(1),
            membership: vec![vec![1; 700], vec![2; 800]],
            bundle: vec![3; 1000],
        }
    }

    #[test]
    fn a_sync_holds_sixteen_networks_and_no_more() {
        let many: Vec<Standing> = (0..=16).map(standing).collect();
        for count in [0, 1, MAX_SHARED] {
            let body = encode_sync(&many[..count]);
            assert!(body.len() <= crate::frame::MAX_BODY);
            assert_eq!(decode_sync(&body).as_deref(), Ok(&many[..count]));
        }
        assert_eq!(
            decode_sync(&encode_sync(&many)),
            Err(ContentError::Value { key: 1 })
        );
    }

    #[test]
    fn a_sync_names_each_network_once_and_in_order() {
        for standings in [[standing(1), standing(1)], [standing(2), standing(1)]] {
            assert_eq!(
                decode_sync(&encode_sync(&standings)),
                Err(ContentError::NotDeterministic)
            );
        }
    }

    #[test]
    fn parts_put_together_are_the_whole() {
        for length in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, MAX_BUNDLE] {
            let whole: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut assembly: Option<Assembly> = None;
            for offset in (0..length).step_by(CHUNK) {
                let body = Chunk::of(network(1), &whole, offset).encode();
                assert!(body.len() <= crate::frame::MAX_BODY);
                let chunk = Chunk::decode(&body, MAX_BUNDLE).expect("sound");
                match &mut assembly {
                    None => assembly = Assembly::begin(FrameType::Bundle, &chunk),
                    Some(a) => a.add(FrameType::Bundle, &chunk).expect("the next"),
                }
            }
            let assembly = assembly.expect("begun");
            assert!(assembly.is_whole());
            assert_eq!(assembly.into_bytes(), whole);
        }
    }

    #[test]
    fn what_is_no_part_of_an_admissible_object_is_refused() {
        let bytes = vec![0; CHUNK + 1];
        let part = |total, offset, length: usize| {
            Chunk {
                network: network(1),
                total,
                offset,
                bytes: &bytes[..length],
            }
            .encode()
        };
        let refused = |body: Vec<u8>, key| {
            assert_eq!(
                Chunk::decode(&body, MAX_BUNDLE),
                Err(ContentError::Value { key })
            );
        };
        assert!(Chunk::decode(&part(MAX_BUNDLE, 0, CHUNK), MAX_BUNDLE).is_ok());
        refused(part(MAX_BUNDLE + 1, 0, CHUNK), 2);
        refused(part(0, 0, 0), 2);
        refused(part(CHUNK, CHUNK, 0), 3);
        refused(part(2 * CHUNK, 1, CHUNK), 3);
        // One byte at a time, or all at once.
        refused(part(2 * CHUNK, 0, 1), 4);
        refused(part(2 * CHUNK, 0, CHUNK + 1), 4);
        refused(part(10, 0, 11), 4);
        assert!(Chunk::decode(&part(usize::MAX, 0, CHUNK), MAX_BUNDLE).is_err());
    }

    #[test]
    fn parts_of_another_object_do_not_fit() {
        let whole = vec![0; 3 * CHUNK];
        let at = |byte, whole, offset| Chunk::of(network(byte), whole, offset);
        assert!(Assembly::begin(FrameType::Bundle, &at(1, &whole, CHUNK)).is_none());
        let begin = || Assembly::begin(FrameType::Bundle, &at(1, &whole, 0)).expect("the first");
        let next = at(1, &whole, CHUNK);
        assert!(begin().add(FrameType::Bundle, &next).is_some());
        assert!(begin().add(FrameType::Grant, &next).is_none());
        assert!(
            begin()
                .add(FrameType::Bundle, &at(2, &whole, CHUNK))
                .is_none()
        );
        assert!(begin().add(FrameType::Bundle, &at(1, &whole, 0)).is_none());
        let skipped = at(1, &whole, 2 * CHUNK);
        assert!(begin().add(FrameType::Bundle, &skipped).is_none());
        let longer = vec![0; 4 * CHUNK];
        assert!(
            begin()
                .add(FrameType::Bundle, &at(1, &longer, CHUNK))
                .is_none()
        );
    }

    #[test]
    fn a_grant_is_read_back_within_its_limits_only() {
        assert_eq!(Grant::decode(&grant().encode()), Ok(grant()));
        let largest = Grant {
            membership: vec![vec![0; comity_certs::limits::MAX_CHAIN_BYTES / 6]; MAX_MEMBERSHIP],
            bundle: vec![0; MAX_BUNDLE],
            ..grant()
        };
        assert_eq!(Grant::decode(&largest.encode()).as_ref(), Ok(&largest));
        assert!(largest.encode().len() <= MAX_GRANT);
        let with = |membership, bundle| Grant {
            membership,
            bundle,
            ..grant()
        };
        let one = || vec![vec![1]];
        for (over, key) in [
            (with(vec![], vec![1]), 2),
            (with(vec![vec![]], vec![1]), 2),
            (with(vec![vec![1]; MAX_MEMBERSHIP + 1], vec![1]), 2),
            (
                with(
                    vec![vec![1; comity_certs::limits::MAX_CHAIN_BYTES + 1]],
                    vec![1],
                ),
                2,
            ),
            (with(one(), vec![]), 3),
            (with(one(), vec![1; MAX_BUNDLE + 1]), 3),
        ] {
            assert_eq!(
                Grant::decode(&over.encode()),
                Err(ContentError::Value { key })
            );
        }
    }

    #[test]
    fn hostile_lengths_do_not_allocate() {
        assert!(decode_sync(&[0xa1, 1, 0x9b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).is_err());
        assert!(Grant::decode(&[0xa1, 2, 0x9b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).is_err());
        assert!(Grant::decode(&[0xa1, 3, 0x5b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).is_err());
    }
}
