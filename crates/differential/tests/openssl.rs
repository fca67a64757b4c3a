//! We never accept what OpenSSL refuses, apart from what is listed.

use comity_certs::Purpose;
use comity_differential::{Agreement, Corpus, Divergence, Presented, compare, judge, show};

/// Mutants in the ordinary test command. `cargo xtask differential` makes twenty thousand; their
/// counts are in `bench/README.md`.
const MUTANTS: u32 = 3000;

#[test]
fn what_openssl_refuses_is_refused_here_too_or_is_listed() {
    let corpus = Corpus::read().expect("the corpus of the workspace");
    let count = compare(&corpus, 1, MUTANTS);
    assert_eq!(count.laxer, Vec::<String>::new(), "{count}");
    assert_eq!(count.all(), MUTANTS);
    // Mutants that both refuse show little: a tenth has to be good enough for OpenSSL.
    assert!(count.openssl_accepted() * 10 >= MUTANTS, "{count}");
    assert!(count.accepted * 10 >= MUTANTS, "{count}");
    // An entry of the list that nothing needs any more is struck.
    for divergence in [
        Divergence::Order,
        Divergence::AnchorIssuer,
        Divergence::LastSecond,
        Divergence::LeafIdentifier,
    ] {
        assert!(
            count.known.contains_key(&divergence),
            "{divergence:?}: {count}"
        );
    }
}

#[test]
fn one_seed_makes_the_same_mutants_again() {
    let corpus = Corpus::read().expect("the corpus of the workspace");
    for number in 0..20 {
        let shown = || show(&corpus, 7, number).unwrap_or_default();
        assert_eq!(shown(), shown());
    }
    assert_ne!(
        show(&corpus, 7, 0).unwrap_or_default(),
        show(&corpus, 8, 0).unwrap_or_default()
    );
}

#[test]
fn good_chains_are_accepted_by_both_and_junk_in_front_of_the_path_by_us_alone() {
    for (id, purpose) in [
        ("g01-client-ca-to-aa", Purpose::Dial),
        ("g02-server-ca", Purpose::Serve),
        ("g07-junk-inter-after", Purpose::Dial),
        ("g16-selfissued-rollover", Purpose::Dial),
        ("g17-root-rekey-old-with-new", Purpose::Dial),
    ] {
        assert_eq!(
            judge(&Presented::of_case(id, purpose)),
            Agreement::Accepted,
            "{id}"
        );
    }
    let junk = Presented::of_case("g06-extra-junk-inter", Purpose::Dial);
    assert_eq!(judge(&junk), Agreement::Known(Divergence::Order));
}

#[test]
fn what_openssl_lets_pass_is_refused_here() {
    for (id, kind) in [
        ("b08-double-serial", "OtherSubject"),
        ("b30-peercert-without-nc", "OtherSubject"),
        ("b33-nc-noncritical-honest", "Unconstrained"),
        ("b70-nc-trailing", "Certificate"),
        ("g19-no-ku", "Missing"),
        ("g26-issuer-name-case", "UnknownIssuer"),
    ] {
        let agreement = judge(&Presented::of_case(id, Purpose::Dial));
        assert_eq!(agreement, Agreement::Stricter(kind.to_owned()), "{id}");
    }
}
