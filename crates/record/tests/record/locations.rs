//! Where bundles can be fetched.

use comity_identity::NodeId;
use comity_record::limits::MAX_LOCATION;
use comity_record::{Location, ParseLocationError};

#[test]
fn a_location_is_read_in_parts_and_written_in_one_spelling() {
    let id = NodeId::from_bytes([7; 32]);
    let hex = id.to_hex();
    for (text, host, port, path, node, canonical) in [
        (
            "https://ca.example/bundle".to_owned(),
            "ca.example",
            443,
            "/bundle",
            None,
            "https://ca.example/bundle".to_owned(),
        ),
        (
            "https://CA.Example:443/".to_owned(),
            "ca.example",
            443,
            "/",
            None,
            "https://ca.example/".to_owned(),
        ),
        (
            format!("https://192.0.2.1:7117/a/b?c=d&e#{hex}"),
            "192.0.2.1",
            7117,
            "/a/b?c=d&e",
            Some(id),
            format!("https://192.0.2.1:7117/a/b?c=d&e#{id}"),
        ),
        (
            "https://[2001:DB8::0001]:8443/x".to_owned(),
            "2001:db8::1",
            8443,
            "/x",
            None,
            "https://[2001:db8::1]:8443/x".to_owned(),
        ),
    ] {
        let location: Location = text.parse().expect("a location");
        assert_eq!(location.host(), host);
        assert_eq!(location.port(), port);
        assert_eq!(location.path(), path);
        assert_eq!(location.node(), node);
        assert_eq!(location.to_string(), canonical);
        assert_eq!(canonical.parse(), Ok(location));
    }
}

#[test]
fn what_is_no_location_is_refused() {
    let id = NodeId::from_bytes([7; 32]);
    let short = format!("https://a.example/#{}", id.short());
    for text in [
        "",
        "https://",
        "https:///",
        "https://a.example",
        "http://a.example/",
        "HTTPS://a.example/",
        "ftp://a.example/",
        "https://user@a.example/",
        "https://user:word@a.example/",
        "https://a.example:0/",
        "https://a.example:65536/",
        "https://a.example:+1/",
        "https://a.example:080/",
        "https://a.example:/",
        "https://*.example/",
        "https://a..example/",
        "https://a.example./",
        "https://127.1/",
        "https://0x7f.0.0.1/",
        "https://1.2.3.4.5/",
        "https://[::1/",
        "https://[::1]x/",
        "https://[fe80::1%25eth0]/",
        "https://[127.0.0.1]/",
        "https://a.example/ b",
        "https://a.example/\n",
        "https://a.example/\u{e9}",
        "https://a.example/<",
        "https://a.example/#",
        "https://a.example/#anchor",
        &short,
        &format!("https://a.example/#{id}#{id}"),
        " https://a.example/",
    ] {
        let parsed = text.parse::<Location>();
        assert_eq!(parsed, Err(ParseLocationError), "{text:?}");
    }
}

#[test]
fn its_length_is_limited_exactly() {
    let of = |length: usize| {
        let start = "https://a.example/";
        format!("{start}{}", "p".repeat(length - start.len()))
    };
    assert!(of(MAX_LOCATION).parse::<Location>().is_ok());
    assert!(of(MAX_LOCATION + 1).parse::<Location>().is_err());
}
