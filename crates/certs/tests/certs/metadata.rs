//! The metadata extension.

use comity_certs::limits::{
    MAX_METADATA_BYTES, MAX_METADATA_LABEL, MAX_METADATA_NETWORKS, MAX_METADATA_PAIRS,
    MAX_METADATA_ROLES, MAX_METADATA_VALUE,
};
use comity_certs::{Metadata, MetadataError};

use crate::certificates::tlv;

#[test]
fn metadata_survives_its_encoding() {
    let metadata = Metadata::new(
        strings(&["fleet", "backup.example"]),
        strings(&["writer", "reader"]),
        vec![
            ("site".into(), "Zürich".into()),
            ("rack".into(), String::new()),
        ],
    )
    .expect("within limits");
    assert_eq!(metadata.networks(), ["backup.example", "fleet"]);
    assert_eq!(metadata.roles(), ["reader", "writer"]);
    assert_eq!(
        metadata.pairs()[1],
        ("site".to_owned(), "Zürich".to_owned())
    );
    let der = metadata.to_der().expect("within limits");
    assert_eq!(Metadata::from_der(&der), Ok(metadata));
    assert!(
        Metadata::from_der(&[0x30, 0])
            .expect("nothing is said")
            .is_empty()
    );
}

#[test]
fn every_list_has_its_limit() {
    let many = |count: usize| (0..count).map(|i| format!("x{i:03}")).collect::<Vec<_>>();
    let pairs = |count: usize| {
        many(count)
            .into_iter()
            .map(|k| (k, String::new()))
            .collect()
    };
    assert!(
        Metadata::new(
            many(MAX_METADATA_NETWORKS),
            many(MAX_METADATA_ROLES),
            pairs(MAX_METADATA_PAIRS)
        )
        .is_ok()
    );
    for (metadata, what, found) in [
        (
            Metadata::new(many(MAX_METADATA_NETWORKS + 1), vec![], vec![]),
            "networks",
            9,
        ),
        (
            Metadata::new(vec![], many(MAX_METADATA_ROLES + 1), vec![]),
            "roles",
            17,
        ),
        (
            Metadata::new(vec![], vec![], pairs(MAX_METADATA_PAIRS + 1)),
            "pairs",
            17,
        ),
    ] {
        assert_eq!(
            metadata,
            Err(MetadataError::Limit {
                what,
                found,
                limit: found - 1
            })
        );
    }
}

#[test]
fn the_whole_has_its_limit() {
    // Seven pairs with the longest values, and one that fills up to the limit.
    let with = |last: usize| {
        let value = |length| "v".repeat(length);
        let mut pairs: Vec<_> = (0..7)
            .map(|i| (format!("k{i}"), value(MAX_METADATA_VALUE)))
            .collect();
        pairs.push(("k7".to_owned(), value(last)));
        Metadata::new(vec![], vec![], pairs)
    };
    let length = with(130)
        .expect("small enough")
        .to_der()
        .expect("small enough")
        .len();
    let room = 130 + MAX_METADATA_BYTES - length;
    let full = with(room)
        .expect("at the limit")
        .to_der()
        .expect("at the limit");
    assert_eq!(full.len(), MAX_METADATA_BYTES);
    assert!(Metadata::from_der(&full).is_ok());
    let error = MetadataError::Limit {
        what: "bytes",
        found: MAX_METADATA_BYTES + 1,
        limit: MAX_METADATA_BYTES,
    };
    assert_eq!(with(room + 1), Err(error.clone()));
    assert_eq!(
        Metadata::from_der(&vec![0x30; MAX_METADATA_BYTES + 1]),
        Err(error)
    );
}

#[test]
fn labels_and_values_are_bounded_and_plain() {
    let role = |role: &str| Metadata::new(vec![], strings(&[role]), vec![]);
    for good in [
        "a",
        "0",
        "backup-1",
        "a_b.c",
        &"x".repeat(MAX_METADATA_LABEL),
    ] {
        assert!(role(good).is_ok(), "{good:?}");
    }
    for bad in [
        "",
        "-a",
        ".a",
        "A",
        "a b",
        "a,b",
        "é",
        "a\n",
        &"x".repeat(MAX_METADATA_LABEL + 1),
    ] {
        assert!(
            matches!(role(bad), Err(MetadataError::Label { .. })),
            "{bad:?}"
        );
    }
    let value = |value: String| Metadata::new(vec![], vec![], vec![("k".into(), value)]);
    assert!(value("v".repeat(MAX_METADATA_VALUE)).is_ok());
    for bad in [
        "v".repeat(MAX_METADATA_VALUE + 1),
        "a\nb".into(),
        "\0".into(),
        "\u{85}".into(),
    ] {
        assert_eq!(value(bad), Err(MetadataError::Value { key: "k".into() }));
    }
}

#[test]
fn nothing_is_said_twice() {
    let order = |text: &str| {
        Err(MetadataError::Order {
            text: text.to_owned(),
        })
    };
    assert_eq!(
        Metadata::new(strings(&["a", "a"]), vec![], vec![]),
        order("a")
    );
    let pairs = vec![("k".into(), "1".into()), ("k".into(), "2".into())];
    assert_eq!(Metadata::new(vec![], vec![], pairs), order("k"));
    // From the wire, the order must be right already.
    let [a, b] = [tlv(0x0c, &[b"a"]), tlv(0x0c, &[b"b"])];
    let list = |entries: &[&[u8]]| Metadata::from_der(&tlv(0x30, &[&tlv(0xa1, entries)]));
    assert!(list(&[&a, &b]).is_ok());
    assert_eq!(list(&[&b, &a]), order("a"));
    assert_eq!(list(&[&a, &a]), order("a"));
}

#[test]
fn anything_off_the_schema_is_malformed() {
    let a = tlv(0x0c, &[b"a"]);
    let list = |tag| tlv(tag, &[&a]);
    for (name, der) in [
        ("nothing", vec![]),
        ("another type", vec![5, 0]),
        ("trailing bytes", vec![0x30, 0, 0]),
        ("an empty list", tlv(0x30, &[&[0xa0, 0]])),
        ("an unknown list", tlv(0x30, &[&list(0xa3)])),
        ("a primitive list", tlv(0x30, &[&list(0x80)])),
        ("a universal list", tlv(0x30, &[&list(0x30)])),
        ("lists out of order", tlv(0x30, &[&list(0xa1), &list(0xa0)])),
        ("one list twice", tlv(0x30, &[&list(0xa0), &list(0xa0)])),
        (
            "another string type",
            tlv(0x30, &[&tlv(0xa0, &[&[0x13, 1, b'a']])]),
        ),
        ("not UTF-8", tlv(0x30, &[&tlv(0xa0, &[&[0x0c, 1, 0xff]])])),
        (
            "a pair of one",
            tlv(0x30, &[&tlv(0xa2, &[&tlv(0x30, &[&a])])]),
        ),
        (
            "a pair of three",
            tlv(0x30, &[&tlv(0xa2, &[&tlv(0x30, &[&a, &a, &a])])]),
        ),
        ("a pair that is none", tlv(0x30, &[&tlv(0xa2, &[&a])])),
        ("a long length", vec![0x30, 0x81, 0]),
    ] {
        assert_eq!(
            Metadata::from_der(&der),
            Err(MetadataError::Malformed),
            "{name}"
        );
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
