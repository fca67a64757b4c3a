//! The PROXY protocol, version 2: tells the backend who is at the other end.
//!
//! A backend behind the tunnel sees connections from this machine. With `--proxy-protocol v2` each
//! begins with a binary header (specification of HAProxy, section 2.2) that carries the remote
//! address and, in typed fields, the identity that the gate attested:
//!
//! | type | value |
//! |---|---|
//! | `0x20` (SSL) | a client certificate was presented and verified; sub-fields `0x21` (version) and `0x22` (CN): the peer's id |
//! | `0xE0` | the peer's id, as `comity id` prints it (foreign keys with `key:`) |
//! | `0xE1` | our label for it, if it has one |
//! | `0xE2` | attested networks, comma-separated |
//! | `0xE3` | attested roles, each as `network/role`, comma-separated |
//!
//! A role is sent with the network that attests it, by its label and, where an authority is known
//! here, by its full id: `admin` of one organisation is nobody in another. Only a role that local
//! entries give, and no network, stands alone.
//!
//! Claims of the peer never appear. A backend must accept the header from us alone, since anyone
//! who reaches its port can write one.

use std::net::{IpAddr, SocketAddr};

use comity_trust::Grants;

/// What the header says about a connection.
#[derive(Debug)]
pub struct ProxyHeader<'a> {
    /// The TLS version, as `TLSv1.3`.
    pub tls: &'a str,
    /// Where the connection comes from; `None` when that is not an IP connection.
    pub source: Option<SocketAddr>,
    /// Where it arrived.
    pub destination: Option<SocketAddr>,
    /// The peer's id as text.
    pub peer: &'a str,
    /// Our label for the peer.
    pub label: Option<&'a str>,
    /// What is attested: its networks, and its roles in them.
    pub attested: &'a Grants,
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, command PROXY.
const VERSION_COMMAND: u8 = 0x21;

const TYPE_SSL: u8 = 0x20;
const SUBTYPE_VERSION: u8 = 0x21;
const SUBTYPE_CN: u8 = 0x22;
const TYPE_ID: u8 = 0xe0;
const TYPE_LABEL: u8 = 0xe1;
const TYPE_NETWORKS: u8 = 0xe2;
const TYPE_ROLES: u8 = 0xe3;

/// Client flags: over TLS, with a certificate on this connection.
const CLIENT_SSL_CERT_CONN: u8 = 0x01 | 0x02;

/// The longest list that is passed on whole; a longer one is cut at an item's end. Names in our
/// store are far shorter than this together.
const MAX_LIST: usize = 4096;

impl ProxyHeader<'_> {
    /// The bytes to send before anything else.
    pub fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(256);
        let family = self.push_addresses(&mut content);
        let mut ssl = vec![CLIENT_SSL_CERT_CONN, 0, 0, 0, 0];
        push_field(&mut ssl, SUBTYPE_VERSION, self.tls.as_bytes());
        push_field(&mut ssl, SUBTYPE_CN, self.peer.as_bytes());
        push_field(&mut content, TYPE_SSL, &ssl);
        push_field(&mut content, TYPE_ID, self.peer.as_bytes());
        if let Some(label) = self.label {
            push_field(&mut content, TYPE_LABEL, label.as_bytes());
        }
        let networks: Vec<String> = self.attested.networks.iter().cloned().collect();
        for (kind, list) in [
            (TYPE_NETWORKS, networks),
            (TYPE_ROLES, roles(self.attested)),
        ] {
            if !list.is_empty() {
                push_field(&mut content, kind, join(&list).as_bytes());
            }
        }
        let mut header = SIGNATURE.to_vec();
        header.extend([VERSION_COMMAND, family]);
        push_length(&mut header, content.len());
        header.extend(content);
        header
    }

    fn push_addresses(&self, content: &mut Vec<u8>) -> u8 {
        let (Some(source), Some(destination)) = (self.source, self.destination) else {
            return 0x00;
        };
        let family = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                content.extend(from.octets());
                content.extend(to.octets());
                0x11
            }
            (from, to) => {
                content.extend(as_v6(from));
                content.extend(as_v6(to));
                0x21
            }
        };
        content.extend(source.port().to_be_bytes());
        content.extend(destination.port().to_be_bytes());
        family
    }
}

/// Roles with their networks. One that any network attests never stands alone, where it would read
/// as a role in every other network as well.
fn roles(attested: &Grants) -> Vec<String> {
    let pairs = &attested.memberships;
    let is_local = |role: &&String| pairs.iter().all(|(_, paired)| paired != *role);
    let local = attested.roles.iter().filter(is_local).cloned();
    let paired = pairs
        .iter()
        .map(|(network, role)| format!("{network}/{role}"));
    local.chain(paired).collect()
}

fn as_v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn join(list: &[String]) -> String {
    let mut joined = String::new();
    for item in list {
        if joined.len() + item.len() + 1 > MAX_LIST {
            break;
        }
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(item);
    }
    joined
}

fn push_field(to: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let value = &value[..value.len().min(MAX_LIST)];
    to.push(kind);
    push_length(to, value.len());
    to.extend_from_slice(value);
}

fn push_length(to: &mut Vec<u8>, length: usize) {
    let length = u16::try_from(length).expect("fields are bounded by MAX_LIST each");
    to.extend(length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    static NOTHING: Grants = Grants {
        services: BTreeSet::new(),
        roles: BTreeSet::new(),
        networks: BTreeSet::new(),
        memberships: BTreeSet::new(),
    };

    fn header<'a>(source: &str, destination: &str) -> ProxyHeader<'a> {
        ProxyHeader {
            tls: "TLSv1.3",
            source: Some(source.parse().expect("an address")),
            destination: Some(destination.parse().expect("an address")),
            peer: "ID",
            label: Some("ops"),
            attested: &NOTHING,
        }
    }

    #[test]
    fn a_v4_header_is_the_one_of_the_specification() {
        let bytes = header("192.0.2.1:1000", "192.0.2.2:2000").encode();
        assert_eq!(bytes[..12], SIGNATURE);
        assert_eq!(bytes[12..14], [0x21, 0x11]);
        assert_eq!(
            usize::from(u16::from_be_bytes([bytes[14], bytes[15]])),
            bytes.len() - 16
        );
        assert_eq!(bytes[16..28], [192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 7, 208]);
        assert_eq!(bytes[28..36], [0x20, 0, 20, 3, 0, 0, 0, 0]);
        assert_eq!(bytes[36..39], [0x21, 0, 7]);
        assert_eq!(bytes[39..46], *b"TLSv1.3");
        assert_eq!(bytes[46..51], [0x22, 0, 2, b'I', b'D']);
        assert_eq!(bytes[51..56], [0xe0, 0, 2, b'I', b'D']);
        assert_eq!(bytes[56..], [0xe1, 0, 3, b'o', b'p', b's']);
    }

    #[test]
    fn mixed_families_become_v6() {
        let bytes = header("192.0.2.1:1", "[2001:db8::1]:2").encode();
        assert_eq!(bytes[13], 0x21);
        assert_eq!(
            bytes[16..32],
            "192.0.2.1"
                .parse::<std::net::Ipv4Addr>()
                .expect("v4")
                .to_ipv6_mapped()
                .octets()
        );
    }

    #[test]
    fn without_addresses_the_identity_still_arrives() {
        let bytes = ProxyHeader {
            source: None,
            ..header("192.0.2.1:1", "192.0.2.2:2")
        }
        .encode();
        assert_eq!(bytes[13], 0x00);
        assert_eq!(bytes[16], TYPE_SSL);
    }

    /// The value of a field behind the addresses, which are those of a v4 header.
    fn field(bytes: &[u8], kind: u8) -> Option<String> {
        let mut rest = &bytes[28..];
        while let [found, high, low, after @ ..] = rest {
            let (value, next) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            if *found == kind {
                return Some(String::from_utf8(value.to_vec()).expect("text"));
            }
            rest = next;
        }
        None
    }

    #[test]
    fn an_admin_of_one_network_does_not_read_as_an_admin_of_another() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let pairs = [
            ("alpha", "reader"),
            ("beta", "admin"),
            ("ID-OF-BETA", "admin"),
        ];
        let attested = Grants {
            services: BTreeSet::new(),
            // `admin` by a local entry as well: it is not worth the doubt.
            roles: words(&["admin", "operator", "reader"]),
            networks: words(&["alpha", "beta", "ID-OF-BETA"]),
            memberships: pairs.map(|(n, r)| (n.to_owned(), r.to_owned())).into(),
        };
        let bytes = ProxyHeader {
            attested: &attested,
            ..header("192.0.2.1:1", "192.0.2.2:2")
        }
        .encode();
        assert_eq!(
            field(&bytes, TYPE_NETWORKS).as_deref(),
            Some("ID-OF-BETA,alpha,beta")
        );
        assert_eq!(
            field(&bytes, TYPE_ROLES).as_deref(),
            Some("operator,ID-OF-BETA/admin,alpha/reader,beta/admin")
        );
        let nothing = header("192.0.2.1:1", "192.0.2.2:2").encode();
        assert_eq!(field(&nothing, TYPE_ROLES), None);
    }

    #[test]
    fn endless_lists_are_cut_at_an_item() {
        let roles: Vec<String> = (0..10_000).map(|n| format!("role-{n}")).collect();
        let joined = join(&roles);
        assert!(joined.len() <= MAX_LIST);
        assert!(roles.contains(&joined.rsplit(',').next().expect("one").to_owned()));
    }
}
