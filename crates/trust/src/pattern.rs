//! Names on a line of `known_peers`: exact names, patterns and negations.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use comity_certs::SanName;
use thiserror::Error;

use crate::name::{Name, NameError, canonical_host};

/// Most names on one line. More belong on another line: every name is compared or indexed.
pub const MAX_NAMES: usize = 64;

/// Longest pattern. The longest `host:port` has 259 characters, URIs of workloads some more.
pub const MAX_PATTERN_BYTES: usize = 512;

/// A glob over canonical names: `*` stands for any characters (dots included), `?` for one.
///
/// A negated pattern (`!`) excludes: a line with one that matches does not match at all.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pattern {
    glob: Arc<str>,
    negated: bool,
}

/// One item of the names of a line.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NameItem {
    /// Exactly this name.
    Exact(Name),
    /// Every name that the pattern matches, or none of them.
    Pattern(Pattern),
}

/// The names of a line: at least one, at most [`MAX_NAMES`], not only negations.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Names(Vec<NameItem>);

/// Why a list of names is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NamesError {
    /// An item that is neither a name nor a pattern.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No item at all.
    #[error("no names")]
    Empty,
    /// More items than a line may have.
    #[error("{found} names; a line has at most {MAX_NAMES}")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// Only negations match nothing.
    #[error("only negated patterns, which match nothing")]
    OnlyNegations,
    /// Longer than any name.
    #[error("a pattern of {found} characters; at most {MAX_PATTERN_BYTES}")]
    PatternTooLong {
        /// How long it is.
        found: usize,
    },
    /// A pattern for hosts that leaves the port out, on a line for peers: they are remembered per
    /// port.
    #[error("{pattern} has no port and matches no peer, write {pattern}:*")]
    PatternWithoutPort {
        /// The pattern.
        pattern: String,
    },
    /// A character that no canonical name contains.
    #[error("a pattern does not contain {found:?}; international names are written as A-labels")]
    PatternCharacter {
        /// The offending character.
        found: char,
    },
}

impl Pattern {
    /// Reads a pattern; a leading `!` negates it.
    ///
    /// # Errors
    /// When it is empty, too long, or has characters that no canonical name contains.
    pub fn parse(text: &str) -> Result<Self, NamesError> {
        let (glob, negated) = match text.strip_prefix('!') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        if glob.is_empty() {
            return Err(NameError::Empty.into());
        }
        if glob.len() > MAX_PATTERN_BYTES {
            return Err(NamesError::PatternTooLong { found: glob.len() });
        }
        let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '!' | ',' | '%' | '#' | '@');
        if let Some(found) = glob.chars().find(|&c| !allowed(c)) {
            return Err(NamesError::PatternCharacter { found });
        }
        // The path of a URI has case; nothing else that we match has.
        let glob = if glob.contains("://") {
            Arc::from(glob)
        } else {
            Arc::from(glob.to_ascii_lowercase())
        };
        Ok(Self { glob, negated })
    }

    /// Reads a pattern that is to match the names of peers, on a line that pins a key.
    ///
    /// # Errors
    /// As [`Pattern::parse`], and when it is meant for a host but leaves the port out: it would
    /// match no peer, or exclude none where it is negated.
    pub(crate) fn for_peers(text: &str) -> Result<Self, NamesError> {
        let pattern = Self::parse(text)?;
        let glob = &pattern.glob;
        if glob.contains('/') {
            return Err(NamesError::PatternCharacter { found: '/' });
        }
        if glob.contains(['.', '[']) && pattern.split_port().is_none() {
            return Err(NamesError::PatternWithoutPort {
                pattern: pattern.to_string(),
            });
        }
        Ok(pattern)
    }

    /// Whether it excludes what it matches.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// The pattern without its `!`.
    pub fn glob(&self) -> &str {
        &self.glob
    }

    fn matches(&self, text: &str) -> bool {
        glob_matches(self.glob.as_bytes(), text.as_bytes())
    }

    /// Against a host, at a port where there is one. A pattern without a port covers every port; a
    /// pattern with one covers a host without port only if its port is `*`. Negations lean the
    /// other way: one for a single port also excludes the host where no port is known.
    fn matches_host(&self, host: &str, port: Option<u16>) -> bool {
        match (self.split_port(), port) {
            (None, _) => self.matches(host),
            (Some(_), Some(port)) => self.matches(&format!("{host}:{port}")),
            (Some((pattern, at)), None) => {
                (at == "*" || self.negated) && glob_matches(pattern.as_bytes(), host.as_bytes())
            }
        }
    }

    fn split_port(&self) -> Option<(&str, &str)> {
        if self.glob.contains("://") {
            return None;
        }
        self.glob
            .rsplit_once(':')
            .filter(|(_, port)| !port.contains(']'))
    }

    /// Whether it lets every name through: `*` and `*:*`. One with `?` asks for a length.
    fn is_universal(&self) -> bool {
        let only_stars = |part: &str| !part.is_empty() && part.bytes().all(|b| b == b'*');
        let (host, port) = self.glob.split_once(':').unwrap_or((&self.glob, "*"));
        !self.negated && only_stars(host) && only_stars(port)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negated {
            f.write_str("!")?;
        }
        f.write_str(&self.glob)
    }
}

impl fmt::Display for NameItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// The items as people type them, separated by commas.
impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

/// Reads what people type: names in any spelling, and patterns, separated by commas.
impl FromStr for Names {
    type Err = NamesError;

    fn from_str(text: &str) -> Result<Self, NamesError> {
        let items = text.split(',').map(|item| {
            let item = item.trim();
            match item.contains(['*', '?', '!']) {
                true => Pattern::parse(item).map(NameItem::Pattern),
                false => Ok(NameItem::Exact(Name::parse(item)?)),
            }
        });
        Self::new(items.collect::<Result<_, _>>()?)
    }
}

impl Names {
    /// Collects items into the names of a line.
    ///
    /// # Errors
    /// When there are none, more than [`MAX_NAMES`], or only negations.
    pub fn new(items: Vec<NameItem>) -> Result<Self, NamesError> {
        let positive =
            |item: &NameItem| !matches!(item, NameItem::Pattern(pattern) if pattern.negated);
        if items.is_empty() {
            Err(NamesError::Empty)
        } else if items.len() > MAX_NAMES {
            Err(NamesError::TooMany { found: items.len() })
        } else if !items.iter().any(positive) {
            Err(NamesError::OnlyNegations)
        } else {
            Ok(Self(items))
        }
    }

    /// One exact name.
    pub fn one(name: Name) -> Self {
        Self(vec![NameItem::Exact(name)])
    }

    /// The items in their order.
    pub fn items(&self) -> &[NameItem] {
        &self.0
    }

    /// The exact names in their order.
    pub fn exact(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().filter_map(|item| match item {
            NameItem::Exact(name) => Some(name),
            NameItem::Pattern(_) => None,
        })
    }

    /// The first label.
    pub fn label(&self) -> Option<&Name> {
        self.exact().find(|name| name.is_label())
    }

    /// Whether the line speaks of this name.
    pub fn matches(&self, name: &Name) -> bool {
        self.decide(|item| match item {
            NameItem::Exact(exact) => exact == name,
            NameItem::Pattern(pattern) => pattern.matches(name.as_str()),
        })
    }

    /// Whether these names, as the scope of an authority, cover a host.
    pub(crate) fn cover_host(&self, host: &str, port: Option<u16>) -> bool {
        self.decide(|item| match item {
            NameItem::Exact(exact) => {
                port.is_some() && exact.host() == Some(host) && exact.port() == port
            }
            NameItem::Pattern(pattern) => pattern.matches_host(host, port),
        })
    }

    /// Whether these names, as the scope of an authority, cover a URI.
    fn cover_uri(&self, uri: &str) -> bool {
        self.decide(|item| match item {
            NameItem::Exact(_) => false,
            NameItem::Pattern(pattern) => {
                // A pattern for hosts such as `*.example` must not match the end of some URI.
                (pattern.glob.contains("://") || pattern.is_universal()) && pattern.matches(uri)
            }
        })
    }

    /// Whether these names, as the scope of an authority, exclude one of the names that a
    /// certificate has, whatever other names it has. A wildcard in a certificate stands for names
    /// that a negation may mean, so every negation excludes it.
    pub(crate) fn exclude(&self, name: &SanName) -> bool {
        self.negations().any(|pattern| match name {
            SanName::Dns(host) => host.starts_with("*.") || pattern.matches_host(host, None),
            SanName::Ip(address) => canonical_host(&address.to_string())
                .is_ok_and(|host| pattern.matches_host(&host, None)),
            SanName::Uri(uri) => pattern.matches(uri),
        })
    }

    /// Whether these names, as the scope of an authority, cover one of the names that a certificate
    /// has. There is no port in it.
    pub(crate) fn cover(&self, name: &SanName) -> bool {
        match name {
            SanName::Dns(host) => self.cover_host(host, None),
            SanName::Ip(address) => {
                canonical_host(&address.to_string()).is_ok_and(|host| self.cover_host(&host, None))
            }
            SanName::Uri(uri) => self.cover_uri(uri),
        }
    }

    /// Whether these names, as the scope of an authority, exclude nothing and nobody.
    pub(crate) fn are_unrestricted(&self) -> bool {
        self.mean_anybody() && self.negations().next().is_none()
    }

    /// Whether they let everybody through, save for exceptions: whoever writes so has not said whom
    /// an authority is for.
    pub(crate) fn mean_anybody(&self) -> bool {
        self.0
            .iter()
            .any(|item| matches!(item, NameItem::Pattern(pattern) if pattern.is_universal()))
    }

    fn negations(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter().filter_map(|item| match item {
            NameItem::Pattern(pattern) if pattern.negated => Some(pattern),
            NameItem::Pattern(_) | NameItem::Exact(_) => None,
        })
    }

    /// Whether every item is an exact name, so that an index by them finds all that match.
    pub(crate) fn are_exact(&self) -> bool {
        self.0.iter().all(|item| matches!(item, NameItem::Exact(_)))
    }

    /// Negations first: one that matches excludes the line, wherever it stands.
    fn decide(&self, matches: impl Fn(&NameItem) -> bool) -> bool {
        let negated =
            |item: &&NameItem| matches!(item, NameItem::Pattern(pattern) if pattern.negated);
        !self.0.iter().filter(negated).any(&matches)
            && self.0.iter().filter(|i| !negated(i)).any(&matches)
    }
}

/// Glob matching with a single point to return to: at most pattern times text steps, whatever the
/// pattern (a recursive matcher takes exponential time for `*a*a*a*b`).
fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match last_star {
                Some((star, covered)) => {
                    last_star = Some((star, covered + 1));
                    p = star + 1;
                    t = covered + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(items: &[&str]) -> Names {
        let item = |text: &&str| NameItem::Pattern(Pattern::parse(text).expect("pattern"));
        Names::new(items.iter().map(item).collect()).expect("names")
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, text, expected) in [
            ("*", "anything:1", true),
            ("*.example:*", "a.b.example:7117", true),
            ("*.example:*", "example:7117", false),
            ("db?.example:7117", "db1.example:7117", true),
            ("db?.example:7117", "db12.example:7117", false),
            ("db1", "db1", true),
            ("db1", "db12", false),
            ("*b*b", "abab", true),
            ("*b*b", "aba", false),
            ("a*", "a", true),
            ("[2001:db8::*]:22", "[2001:db8::7]:22", true),
        ] {
            assert_eq!(
                glob_matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn hostile_globs_take_no_exponential_time() {
        let pattern = "*a".repeat(MAX_PATTERN_BYTES / 2);
        assert!(!glob_matches(pattern.as_bytes(), &b"a".repeat(250)));
    }

    #[test]
    fn a_negation_excludes_the_line_wherever_it_stands() {
        let line = names(&["*.example:*", "!secret.example:*"]);
        assert!(line.matches(&Name::parse("db.example:1").expect("name")));
        assert!(!line.matches(&Name::parse("secret.example:1").expect("name")));
    }

    #[test]
    fn scopes_cover_hosts_with_and_without_ports() {
        for (pattern, host, port, expected) in [
            ("*.corp.example", "db.corp.example", Some(5432), true),
            ("*.corp.example", "db.corp.example", None, true),
            ("*.corp.example:5432", "db.corp.example", Some(5432), true),
            ("*.corp.example:5432", "db.corp.example", Some(22), false),
            ("*.corp.example:5432", "db.corp.example", None, false),
            ("*.corp.example:*", "db.corp.example", None, true),
            ("*.corp.example", "db.corp.example.evil", None, false),
            ("[2001:db8::*]", "[2001:db8::5]", Some(1), true),
        ] {
            assert_eq!(
                names(&[pattern]).cover_host(host, port),
                expected,
                "{pattern} {host} {port:?}"
            );
        }
    }

    #[test]
    fn a_negation_for_one_port_excludes_a_host_without_port() {
        let line = names(&["*.example", "!db.example:5432"]);
        assert!(line.cover_host("db.example", Some(22)));
        assert!(!line.cover_host("db.example", Some(5432)));
        assert!(!line.cover_host("db.example", None));
    }

    #[test]
    fn only_uri_patterns_cover_uris() {
        assert!(names(&["spiffe://corp/*"]).cover_uri("spiffe://corp/db"));
        assert!(!names(&["spiffe://corp/*"]).cover_uri("spiffe://other/db"));
        assert!(!names(&["*.corp.example"]).cover_uri("spiffe://x/y.corp.example"));
    }

    #[test]
    fn only_asterisks_are_universal_and_a_negation_restricts_them() {
        for (items, anybody, unrestricted) in [
            (&["*"][..], true, true),
            (&["*:*"], true, true),
            (&["**"], true, true),
            (&["*", "*.example"], true, true),
            (&["*", "!evil.example"], true, false),
            (&["*:*", "!evil.example"], true, false),
            (&["?"], false, false),
            (&["???"], false, false),
            (&["*?"], false, false),
            (&[":"], false, false),
            (&["::"], false, false),
            (&["*:"], false, false),
            (&[":*"], false, false),
            (&["*::*"], false, false),
            (&["*:*:*"], false, false),
            (&["*."], false, false),
            (&["*:22"], false, false),
        ] {
            let line = names(items);
            assert_eq!(line.mean_anybody(), anybody, "{items:?}");
            assert_eq!(line.are_unrestricted(), unrestricted, "{items:?}");
        }
    }

    #[test]
    fn a_negation_excludes_names_of_every_kind() {
        let line = names(&[
            "*",
            "!evil.example",
            "!192.0.2.*",
            "![2001:db8::*]:22",
            "!spiffe://x/*",
        ]);
        let dns = |name: &str| SanName::dns(name).expect("name");
        let ip = |address: &str| SanName::Ip(address.parse().expect("address"));
        let uri = |uri: &str| SanName::uri(uri).expect("URI");
        for (name, excluded) in [
            (dns("evil.example"), true),
            (dns("good.example"), false),
            (dns("*.example"), true),
            (ip("192.0.2.1"), true),
            (ip("198.51.100.1"), false),
            (ip("2001:db8::5"), true),
            (uri("spiffe://x/y"), true),
            (uri("spiffe://y/x"), false),
        ] {
            assert_eq!(line.exclude(&name), excluded, "{name}");
            assert_eq!(
                line.cover(&name),
                !excluded || name == dns("*.example"),
                "{name}"
            );
        }
        assert!(!names(&["*.example"]).exclude(&dns("*.example")));
    }

    #[test]
    fn lists_are_limited_and_never_only_negations() {
        let item = || NameItem::Pattern(Pattern::parse("a*").expect("pattern"));
        let list = |count: usize| (0..count).map(|_| item()).collect();
        assert!(Names::new(list(MAX_NAMES)).is_ok());
        assert_eq!(
            Names::new(list(MAX_NAMES + 1)),
            Err(NamesError::TooMany {
                found: MAX_NAMES + 1
            })
        );
        let negated = NameItem::Pattern(Pattern::parse("!a*").expect("pattern"));
        assert_eq!(Names::new(vec![negated]), Err(NamesError::OnlyNegations));
        assert_eq!(Names::new(vec![]), Err(NamesError::Empty));
    }

    #[test]
    fn patterns_are_bounded_ascii() {
        assert!(Pattern::parse(&"a".repeat(MAX_PATTERN_BYTES)).is_ok());
        assert_eq!(
            Pattern::parse(&"a".repeat(MAX_PATTERN_BYTES + 1)),
            Err(NamesError::PatternTooLong {
                found: MAX_PATTERN_BYTES + 1
            })
        );
        for found in ['ü', ' ', '\n', ',', '%'] {
            assert_eq!(
                Pattern::parse(&format!("*{found}")),
                Err(NamesError::PatternCharacter { found })
            );
        }
    }
}
