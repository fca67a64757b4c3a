//! Two opinions on one chain.

use comity_certs::{
    Anchor, Issued, PresentedChain, Purpose, Rollover, verify_cross_path, verify_own_path,
};
use comity_identity::UnixTime;
use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509StoreContext};

use crate::der::{Certificate, content};

/// 2026-12-01T00:00:00Z, for which the corpus is made.
const NOW: u64 = 1_796_083_200;

/// A chain as bytes.
#[derive(Clone, Debug)]
pub struct Presented {
    /// What the leaf is for.
    pub purpose: Purpose,
    /// The anchor.
    pub root: Vec<u8>,
    /// What was presented besides the leaf.
    pub intermediates: Vec<Vec<u8>>,
    /// The leaf.
    pub leaf: Vec<u8>,
}

/// What OpenSSL is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Without options: the path has to end with a self-issued certificate.
    Default,
    /// Any listed certificate ends the path (`-partial_chain`).
    AnyAnchor,
    /// The same a second earlier.
    SecondEarlier,
}

/// Our verdict, replacements of keys accepted: the places of the path in the presented chain, or
/// the kind of error.
pub fn ours(presented: &Presented) -> Result<Vec<usize>, String> {
    let anchor = Anchor::from_der(&presented.root).map_err(|error| kind(&error))?;
    let mut chain = vec![presented.leaf.clone()];
    chain.extend_from_slice(&presented.intermediates);
    let chain = PresentedChain::parse(&chain).map_err(|error| kind(&error))?;
    let (purpose, now) = (presented.purpose, UnixTime::from_secs(NOW));
    let accepted = Rollover::Accepted;
    let issued = match purpose {
        Purpose::Dial => {
            verify_cross_path(&chain, [&anchor], purpose, accepted, now).map(|path| path.issued)
        }
        Purpose::Serve => {
            verify_own_path(&chain, [&anchor], purpose, accepted, now).map(|path| path.issued)
        }
    };
    Ok(places(&chain, &issued.map_err(|error| kind(&error))?))
}

/// OpenSSL's verdict: `Err` has its words.
///
/// # Errors
/// When it refuses, or cannot read a certificate.
pub fn openssl(presented: &Presented, question: Question) -> Result<(), String> {
    let verdict = || -> Result<Result<(), String>, ErrorStack> {
        let mut param = X509VerifyParam::new()?;
        let now = match question {
            Question::SecondEarlier => NOW - 1,
            Question::Default | Question::AnyAnchor => NOW,
        };
        param.set_time(i64::try_from(now).unwrap_or(i64::MAX));
        if question != Question::Default {
            param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        }
        let mut store = X509StoreBuilder::new()?;
        store.set_param(&param)?;
        store.set_purpose(match presented.purpose {
            Purpose::Dial => X509PurposeId::SSL_CLIENT,
            Purpose::Serve => X509PurposeId::SSL_SERVER,
        })?;
        store.add_cert(X509::from_der(&presented.root)?)?;
        let mut chain = Stack::new()?;
        for intermediate in &presented.intermediates {
            chain.push(X509::from_der(intermediate)?)?;
        }
        let leaf = X509::from_der(&presented.leaf)?;
        X509StoreContext::new()?.init(&store.build(), &leaf, &chain, |context| {
            Ok(match context.verify_cert()? {
                true => Ok(()),
                false => Err(context.error().error_string().to_owned()),
            })
        })
    };
    verdict().unwrap_or_else(|error| Err(format!("unreadable: {error}")))
}

/// The name of an error's variant, without what is in it.
fn kind(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

/// Where the certificates of a path are in the chain.
fn places(chain: &PresentedChain, issued: &[Issued]) -> Vec<usize> {
    let is = |place: &usize, issued: &Issued| {
        let serial = Certificate::of(&chain.der()[*place]).serial;
        chain.keys()[*place] == issued.key && content(&serial) == issued.serial
    };
    let place = |issued| (0..chain.der().len()).find(|place| is(place, issued));
    issued.iter().filter_map(place).collect()
}
