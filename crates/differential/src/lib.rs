//! Our certificate validator against OpenSSL's, on chains that are nearly good.
//!
//! 1. A good chain of the corpus of seed 004 is changed in one to three ways.
//! 2. What was changed is signed again with the right key, so that the verdict depends on what the
//!    certificates say and not on a broken signature.
//! 3. Both judge it at one time. Ours refuses more, by intent. It must never accept what OpenSSL
//!    refuses, apart from the [`Divergence`]s, each of which has a reason and a proof: OpenSSL
//!    itself accepts when it is asked the question that we ask.

mod compare;
mod corpus;
mod der;
mod mutate;
mod random;
mod verdicts;

pub use compare::{Agreement, Count, Divergence, compare, judge, show};
pub use corpus::Corpus;
pub use verdicts::{Presented, Question, openssl, ours};
