//! Where a bundle can be fetched.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use comity_certs::SanName;
use comity_identity::NodeId;
use thiserror::Error;

use crate::limits::MAX_LOCATION;

/// `https://host[:port]/path[#full id]`: an HTTPS address, and the node that serves it. Without an
/// id the server is trusted by the system's roots; a bundle proves itself either way.
///
/// In one spelling: lower-case host, no user, no port 443, the id in groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    host: Host,
    port: u16,
    path: String,
    node: Option<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Host {
    Name(String),
    Ip(IpAddr),
}

/// A text that is not a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "expected https://host[:port]/path, at most {MAX_LOCATION} bytes, perhaps with #<full node id>"
)]
pub struct ParseLocationError;

impl Location {
    /// A DNS name in lower case, or an IP address without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Ip(address) => address.to_string(),
        }
    }

    /// The TCP port; 443 where none is given.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path with its query, beginning with a slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The node that must serve it, if one is given.
    pub fn node(&self) -> Option<NodeId> {
        self.node
    }
}

impl FromStr for Location {
    type Err = ParseLocationError;

    fn from_str(text: &str) -> Result<Self, ParseLocationError> {
        if text.len() > MAX_LOCATION {
            return Err(ParseLocationError);
        }
        let rest = text.strip_prefix("https://").ok_or(ParseLocationError)?;
        let (address, node) = match rest.split_once('#') {
            None => (rest, None),
            Some((address, id)) => {
                let id = id.parse().map_err(|_| ParseLocationError)?;
                (address, Some(id))
            }
        };
        let slash = address.find('/').ok_or(ParseLocationError)?;
        let (authority, path) = address.split_at(slash);
        if !path.bytes().all(is_path) {
            return Err(ParseLocationError);
        }
        let (host, port) = parse_authority(authority).ok_or(ParseLocationError)?;
        Ok(Self {
            host,
            port,
            path: path.to_owned(),
            node,
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "https://{name}")?,
            Host::Ip(IpAddr::V4(address)) => write!(f, "https://{address}")?,
            Host::Ip(IpAddr::V6(address)) => write!(f, "https://[{address}]")?,
        }
        if self.port != 443 {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)?;
        match self.node {
            Some(node) => write!(f, "#{node}"),
            None => Ok(()),
        }
    }
}

/// Characters of path and query (RFC 3986), without those that are neither.
fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=%".contains(&byte)
}

fn parse_authority(text: &str) -> Option<(Host, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address = IpAddr::V6(address.parse().ok()?);
        let port = match port {
            "" => 443,
            port => parse_port(port.strip_prefix(':')?)?,
        };
        return Some((Host::Ip(address), port));
    }
    let (host, port) = match text.split_once(':') {
        None => (text, 443),
        Some((host, port)) => (host, parse_port(port)?),
    };
    Some((parse_host(host)?, port))
}

/// An IPv4 address, or a DNS name whose last label is no number: what looks like an address is one
/// or is refused.
fn parse_host(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse() {
        return Some(Host::Ip(IpAddr::V4(address)));
    }
    let last = text.rsplit('.').next()?;
    if text.contains('*') || last.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match SanName::dns(text)? {
        SanName::Dns(name) => Some(Host::Name(name)),
        _ => None,
    }
}

/// A port in its one spelling.
fn parse_port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port != 0 && port.to_string() == text).then_some(port)
}
