//! Names: matched by RFC 9525, shown escaped.

use comity_certs::limits::{MAX_DNS_NAME, MAX_SHOWN_NAME, MAX_URI};
use comity_certs::{PresentedChain, SanName, escape};
use comity_identity::Algorithm;
use rustls_pki_types::ServerName;

use crate::certificates::{Foreign, RawCertificate, TestKey, tlv};

#[test]
fn only_the_subject_alternative_name_is_matched() {
    // T06, T08, T09
    let chain = with(Foreign {
        common_name: Some("cn.example".into()),
        dns: vec![
            "db1.example".into(),
            "*.wild.example".into(),
            "xn--bcher-kva.example".into(),
        ],
        ips: vec![
            "192.0.2.7".parse().expect("v4"),
            "2001:db8::7".parse().expect("v6"),
        ],
        uris: vec!["https://uri.example/".into()],
        ..Foreign::default()
    });
    for (name, matches) in [
        ("db1.example", true),
        ("DB1.Example", true),
        ("db1.example.", true),
        ("db2.example", false),
        ("example", false),
        ("x.db1.example", false),
        ("cn.example", false),
        ("uri.example", false),
        ("a.wild.example", true),
        ("wild.example", false),
        ("a.b.wild.example", false),
        ("xn--bcher-kva.example", true),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("2001:db8::7", true),
        ("2001:0db8:0:0:0:0:0:7", true),
        ("2001:db8::8", false),
        ("::ffff:192.0.2.7", false),
    ] {
        let name = ServerName::try_from(name).expect("a server name");
        assert_eq!(chain.matches_name(&name), matches, "{name:?}");
    }
}

#[test]
fn an_address_written_as_a_dns_name_does_not_match_the_address() {
    let chain = with(Foreign {
        dns: vec!["192.0.2.7".into()],
        ..Foreign::default()
    });
    let address = ServerName::try_from("192.0.2.7").expect("an address");
    assert!(!chain.matches_name(&address));
}

#[test]
fn a_certificate_without_names_matches_nothing() {
    // T24: no common name, empty subject
    let chain = with(Foreign {
        common_name: None,
        ..Foreign::default()
    });
    assert_eq!(chain.leaf().common_name, None);
    assert_eq!(chain.leaf().names, []);
    assert!(!chain.matches_name(&ServerName::try_from("a.example").expect("a name")));
}

#[test]
fn common_names_are_shown_escaped_and_bounded() {
    // T24
    for (name, shown) in [
        ("two words", "two words"),
        ("line\nbreak", "line\\u{a}break"),
        ("a#b@c", "a#b@c"),
        ("nul\0", "nul\\u{0}"),
        ("back\\slash", "back\\\\slash"),
        ("\u{202e}gnp.exe", "\\u{202e}gnp.exe"),
        ("\u{1b}[2J", "\\u{1b}[2J"),
        ("🦀", "\\u{1f980}"),
        ("аpple", "\\u{430}pple"),
    ] {
        let chain = with(Foreign {
            common_name: Some(name.into()),
            ..Foreign::default()
        });
        assert_eq!(chain.leaf().common_name.as_deref(), Some(shown));
    }
    let long = with(Foreign {
        common_name: Some("x".repeat(6_000)),
        ..Foreign::default()
    });
    let shown = long.leaf().common_name.clone().expect("a name");
    assert_eq!(shown, format!("{}…", "x".repeat(MAX_SHOWN_NAME)));
}

#[test]
fn a_common_name_that_is_not_utf8_is_shown_without_its_bytes() {
    let mut certificate = RawCertificate::of(&Foreign::default().self_signed().chain[0]);
    let attribute = tlv(0x30, &[&[6, 3, 0x55, 4, 3], &tlv(0x14, &[b"caf\xe9"])]);
    certificate.subject = tlv(0x30, &[&tlv(0x31, &[&attribute])]);
    let chain = PresentedChain::parse(&[sign(&certificate)]).expect("sound");
    assert_eq!(chain.leaf().common_name.as_deref(), Some("caf\\u{fffd}"));
}

#[test]
fn escaping_stops_at_the_limit_and_never_inside_an_escape() {
    let fits = "x".repeat(MAX_SHOWN_NAME);
    assert_eq!(escape(&fits), fits);
    assert_eq!(escape(&format!("{fits}y")), format!("{fits}…"));
    let cut = format!("{}\u{202e}", "x".repeat(MAX_SHOWN_NAME - 7));
    assert_eq!(escape(&cut), format!("{}…", "x".repeat(MAX_SHOWN_NAME - 7)));
}

#[test]
fn names_with_characters_that_have_no_business_there_are_left_out() {
    let names: [(u8, &[u8]); 12] = [
        (0x82, b"Good.Example"),
        (0x82, b"two words.example"),
        (0x82, b"nul\0.example"),
        (0x82, b"line\nbreak"),
        (0x82, b"caf\xc3\xa9.example"),
        (0x82, b""),
        (0x82, b"a..example"),
        (0x81, b"mail@a.example"),
        (0x86, b"spiffe://a.example/x y"),
        (0x86, b"https://good.example/?q=1"),
        (0x87, &[192, 0, 2]),
        (0x87, &[192, 0, 2, 7]),
    ];
    let names: Vec<Vec<u8>> = names.iter().map(|(tag, name)| tlv(*tag, &[name])).collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let mut certificate = RawCertificate::of(&Foreign::default().self_signed().chain[0]);
    certificate
        .extensions
        .push((vec![0x55, 0x1d, 17], false, tlv(0x30, &names)));
    let chain = PresentedChain::parse(&[sign(&certificate)]).expect("sound");
    let expected = [
        SanName::Dns("good.example".into()),
        SanName::Uri("https://good.example/?q=1".into()),
        SanName::Ip("192.0.2.7".parse().expect("an address")),
    ];
    assert_eq!(chain.leaf().names, expected);
}

#[test]
fn dns_names_and_uris_are_bounded() {
    let label = "a".repeat(63);
    let longest = [label.as_str(), &label, &label, &label[..61]].join(".");
    assert_eq!(longest.len(), MAX_DNS_NAME);
    assert!(SanName::dns(&longest).is_some());
    assert!(SanName::dns(&format!("{longest}a")).is_none());
    assert!(SanName::dns(&format!("{label}a.example")).is_none());
    assert!(SanName::dns(&format!("{label}.example")).is_some());
    for bad in [
        "", ".", "a.", ".a", "*", "*.", "a.*.b", "**.a", "a b", "a/b",
    ] {
        assert!(SanName::dns(bad).is_none(), "{bad:?}");
    }
    let longest = format!("x:{}", "a".repeat(MAX_URI - 2));
    assert!(SanName::uri(&longest).is_some());
    assert!(SanName::uri(&format!("{longest}a")).is_none());
    for bad in ["", "a", ":", "1:a", "a b:c", "a:b\\c", "a:\"", "a:é", "a:<"] {
        assert!(SanName::uri(bad).is_none(), "{bad:?}");
    }
}

fn with(foreign: Foreign) -> PresentedChain {
    PresentedChain::parse(&foreign.self_signed().chain).expect("a sound certificate")
}

fn sign(certificate: &RawCertificate) -> Vec<u8> {
    certificate.sign(&TestKey::generate(Algorithm::EcdsaP256))
}
