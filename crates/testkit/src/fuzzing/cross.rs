//! Chains below cross-certificates, and the names that their constraints compare.

use comity_certs::federation::{verify_peer, verify_server};
use comity_certs::{
    Anchor, CrossError, CrossPath, PresentedChain, Purpose, Rollover, cross_paths,
    verify_cross_path, verify_own_path,
};
use comity_identity::UnixTime;

use super::{assert_printable, split};
use crate::certificates::TODAY;

/// An anchor, then a presented chain, as of [`super::join`]. Nobody checks the signature of an
/// anchor, so that its constraints can be anything above a chain that is good.
pub fn cross_path(data: &[u8]) {
    let parts = split(data);
    let Some((anchor, certificates)) = parts.split_first() else {
        return;
    };
    let (Ok(anchor), Ok(chain)) = (
        Anchor::from_der(anchor),
        PresentedChain::parse(certificates),
    ) else {
        return;
    };
    for rollover in [Rollover::Refused, Rollover::Accepted] {
        let question = Question {
            anchor: &anchor,
            rollover,
            now: TODAY,
        };
        question.ask(&chain);
    }
}

struct Question<'a> {
    anchor: &'a Anchor,
    rollover: Rollover,
    now: UnixTime,
}

impl Question<'_> {
    fn verify(&self, chain: &PresentedChain) -> Result<CrossPath, CrossError> {
        let purpose = Purpose::Dial;
        verify_cross_path(chain, [self.anchor], purpose, self.rollover, self.now)
    }

    fn ask(&self, chain: &PresentedChain) {
        let Self {
            anchor,
            rollover,
            now,
        } = *self;
        let purpose = Purpose::Dial;
        let found = cross_paths(chain, [anchor], purpose, rollover, now);
        let verdict = self.verify(chain);
        match &verdict {
            Ok(path) => {
                self.assert_sound(chain, path);
                assert_eq!(found.first(), Some(path));
            }
            Err(error) => {
                assert_printable(error);
                assert!(found.is_empty());
            }
        }
        self.assert_order_does_not_matter(chain, &verdict);
        match verify_own_path(chain, [anchor], purpose, rollover, now) {
            Ok(path) => assert_eq!(path.keys.len(), path.issued.len() + 1),
            Err(error) => assert_printable(&error),
        }
        let peer = verify_peer(chain, [anchor], purpose, rollover, now);
        assert!(
            peer.is_err() || verdict.is_ok(),
            "the profile only adds rules"
        );
        if let Err(error) = peer {
            assert_printable(&error);
        }
        if let Err(error) = verify_server(chain, [anchor], purpose, rollover, now) {
            assert_printable(&error);
        }
        assert!(verify_cross_path(chain, [], purpose, rollover, now).is_err());
    }

    fn assert_sound(&self, chain: &PresentedChain, path: &CrossPath) {
        assert_eq!(path.anchor, self.anchor.fingerprint());
        assert_eq!(path.keys.len(), path.issued.len() + 1);
        assert_eq!(path.keys.first(), Some(&chain.leaf().key));
        assert_eq!(path.keys.last(), Some(&self.anchor.key()));
        assert!(path.not_after >= self.now && path.not_after <= self.anchor.not_after());
        for (place, issued) in path.issued.iter().enumerate() {
            assert_eq!(issued.key, path.keys[place]);
            assert_eq!(issued.issuer_key, path.keys[place + 1]);
        }
        let cross = &path.cross;
        assert!(
            path.issued
                .iter()
                .any(|issued| { (issued.issuer_key, issued.key) == (cross.issuer_key, cross.key) })
        );
        assert!(!cross.subject.is_empty() && !chain.leaf().is_ca);
    }

    /// Where the search ended early, what was left out may have been the path.
    fn assert_order_does_not_matter(
        &self,
        chain: &PresentedChain,
        verdict: &Result<CrossPath, CrossError>,
    ) {
        let mut reversed = chain.der().to_vec();
        reversed[1..].reverse();
        // A native chain ends with its root, so that its reverse is none.
        let Ok(reversed) = PresentedChain::parse(&reversed) else {
            return;
        };
        let other = self.verify(&reversed);
        let complex = |verdict: &Result<_, _>| matches!(verdict, Err(CrossError::TooComplex));
        if !complex(verdict) && !complex(&other) {
            assert_eq!(verdict.is_ok(), other.is_ok());
        }
    }
}
