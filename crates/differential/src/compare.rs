//! Counting who accepts what.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;

use comity_certs::certificates_in_pem;
use openssl::error::ErrorStack;
use openssl::x509::X509;

use crate::corpus::Corpus;
use crate::mutate::{Mutant, mutant};
use crate::verdicts::{Presented, Question, openssl, ours};

/// How the two verdicts on a chain relate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Both accept.
    Accepted,
    /// Both refuse.
    Refused,
    /// Only we refuse; the kind of our error.
    Stricter(String),
    /// Only we accept, for a reason that is known.
    Known(Divergence),
    /// Only we accept; OpenSSL's words.
    Laxer(String),
}

/// Why we may accept what OpenSSL refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Divergence {
    /// OpenSSL follows the first certificate that fits a name, and does not come back when it leads
    /// nowhere: junk that is presented first hides the path. It accepts the path alone.
    Order,
    /// OpenSSL demands that a path ends with a self-issued certificate. An anchor is a name and a
    /// key that somebody listed; who else signed it does not matter (RFC 5280 section 6.1.1 (d)).
    /// It accepts the path when told so.
    AnchorIssuer,
    /// For OpenSSL a certificate has expired in the second that it names as its last one. Validity
    /// includes both ends (RFC 5280 section 4.1.2.5). It accepts a second earlier.
    LastSecond,
    /// For OpenSSL a leaf in the name of its issuer is self-signed when it does not say what its own
    /// key is called. An end entity need not say that (RFC 5280 section 4.2.1.2), and the issuer's
    /// key is named. It accepts the leaf with any such name.
    LeafIdentifier,
}

/// What came out of many mutants.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Both accept.
    pub accepted: u32,
    /// Both refuse.
    pub refused: u32,
    /// Only OpenSSL accepts, by the kind of our error.
    pub stricter: BTreeMap<String, u32>,
    /// Only we accept, for a known reason.
    pub known: BTreeMap<Divergence, u32>,
    /// Only we accept: what was done to which mutant, and what OpenSSL says.
    pub laxer: Vec<String>,
}

/// Judges mutants with the numbers from 0 on, on all processors.
pub fn compare(corpus: &Corpus, seed: u64, mutants: u32) -> Count {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = u32::try_from(threads).unwrap_or(1);
    let share = |thread: u32| {
        let mut count = Count::default();
        for number in (thread..mutants).step_by(threads.try_into().unwrap_or(1)) {
            let mutant = mutant(corpus, seed, number);
            count.add(judge_mutant(&mutant, corpus), number, &mutant);
        }
        count
    };
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || share(thread)))
            .collect();
        let mut sum = Count::default();
        for share in shares {
            sum.merge(share.join().expect("a verdict never panics"));
        }
        sum
    })
}

/// The mutant with this number, to look at: what was done, and PEM, the anchor first.
///
/// # Errors
/// When a certificate is such that OpenSSL does not even read it.
pub fn show(corpus: &Corpus, seed: u64, number: u32) -> Result<String, ErrorStack> {
    let mutant = mutant(corpus, seed, number);
    let presented = mutant.presented(corpus);
    let agreement = judge_mutant(&mutant, corpus);
    let mut text = format!("{}\n{agreement:?}\n", mutant.changes.join(", "));
    let all = [&presented.root, &presented.leaf];
    for der in all.into_iter().chain(&presented.intermediates) {
        text.push_str(&String::from_utf8_lossy(&X509::from_der(der)?.to_pem()?));
    }
    Ok(text)
}

/// Asks both, and OpenSSL once more about a leaf that it takes for self-signed.
fn judge_mutant(mutant: &Mutant, corpus: &Corpus) -> Agreement {
    let agreement = judge(&mutant.presented(corpus));
    let (Agreement::Laxer(_), Some(named)) = (&agreement, mutant.with_leaf_identifier()) else {
        return agreement;
    };
    match judge(&named.presented(corpus)) {
        Agreement::Accepted | Agreement::Known(_) => Agreement::Known(Divergence::LeafIdentifier),
        _ => agreement,
    }
}

/// Asks both.
pub fn judge(presented: &Presented) -> Agreement {
    match (ours(presented), openssl(presented, Question::Default)) {
        (Ok(_), Ok(())) => Agreement::Accepted,
        (Err(_), Err(_)) => Agreement::Refused,
        (Err(kind), Ok(())) => Agreement::Stricter(kind),
        (Ok(places), Err(words)) => match divergence(presented, &places) {
            Some(divergence) => Agreement::Known(divergence),
            None => Agreement::Laxer(words),
        },
    }
}

/// Asks OpenSSL about the certificates of our path alone, then as we understand anchors and ends.
fn divergence(presented: &Presented, places: &[usize]) -> Option<Divergence> {
    let above = places.iter().filter_map(|place| place.checked_sub(1));
    let path = Presented {
        intermediates: above.map(|p| presented.intermediates[p].clone()).collect(),
        ..presented.clone()
    };
    let asked = [
        (Question::Default, Divergence::Order),
        (Question::AnyAnchor, Divergence::AnchorIssuer),
        (Question::SecondEarlier, Divergence::LastSecond),
    ];
    let accepted = |question: &Question| openssl(&path, *question).is_ok();
    let found = asked.iter().find(|(question, _)| accepted(question));
    found.map(|(_, divergence)| *divergence)
}

impl Presented {
    /// A case of the corpus in this workspace.
    ///
    /// # Panics
    /// When there is no such case.
    pub fn of_case(id: &str, purpose: comity_certs::Purpose) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/federation");
        let read = |file: &str| {
            let text = std::fs::read_to_string(format!("{folder}/cases/{id}/{file}.pem"));
            text.map_or(Vec::new(), |text| {
                certificates_in_pem(&text).unwrap_or_default()
            })
        };
        let one = |file| read(file).pop().expect("a case of the corpus");
        Self {
            purpose,
            root: one("root"),
            intermediates: read("inter"),
            leaf: one("leaf"),
        }
    }
}

impl Mutant {
    fn presented(&self, corpus: &Corpus) -> Presented {
        Presented {
            purpose: self.chain.purpose,
            root: corpus.sign(&self.chain.root),
            intermediates: self
                .chain
                .intermediates
                .iter()
                .map(|l| corpus.sign(l))
                .collect(),
            leaf: corpus.sign(&self.chain.leaf),
        }
    }
}

impl Count {
    /// How many OpenSSL accepted.
    pub fn openssl_accepted(&self) -> u32 {
        self.accepted + self.stricter.values().sum::<u32>()
    }

    /// All of them.
    pub fn all(&self) -> u32 {
        let laxer = u32::try_from(self.laxer.len()).unwrap_or(u32::MAX);
        self.openssl_accepted() + self.refused + self.known.values().sum::<u32>() + laxer
    }

    fn add(&mut self, agreement: Agreement, number: u32, mutant: &Mutant) {
        match agreement {
            Agreement::Accepted => self.accepted += 1,
            Agreement::Refused => self.refused += 1,
            Agreement::Stricter(kind) => *self.stricter.entry(kind).or_default() += 1,
            Agreement::Known(divergence) => *self.known.entry(divergence).or_default() += 1,
            Agreement::Laxer(words) => {
                let changes = mutant.changes.join(", ");
                self.laxer
                    .push(format!("mutant {number} ({changes}): {words}"));
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        for (kind, count) in other.stricter {
            *self.stricter.entry(kind).or_default() += count;
        }
        for (divergence, count) in other.known {
            *self.known.entry(divergence).or_default() += count;
        }
        self.laxer.extend(other.laxer);
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stricter: u32 = self.stricter.values().sum();
        let known: u32 = self.known.values().sum();
        writeln!(f, "{} mutants", self.all())?;
        writeln!(f, "both accept            {:6}", self.accepted)?;
        writeln!(f, "both refuse            {:6}", self.refused)?;
        writeln!(f, "only OpenSSL accepts   {stricter:6}")?;
        for (kind, count) in &self.stricter {
            writeln!(f, "  {kind:20} {count:6}")?;
        }
        writeln!(f, "only ours, as listed   {known:6}")?;
        for (divergence, count) in &self.known {
            writeln!(f, "  {:20} {count:6}", format!("{divergence:?}"))?;
        }
        writeln!(f, "only ours, not listed  {:6}", self.laxer.len())?;
        for mutant in &self.laxer {
            writeln!(f, "  {mutant}")?;
        }
        Ok(())
    }
}
