//! Percent-escapes: how anything that is not plain ASCII stands on a line of `known_peers`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Appends `text`, escaping every byte that could end a field, an item or a line, begin a comment
/// or a marker, or be taken for an escape.
pub(crate) fn escape_into(line: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'%' | b',' | b'#' | b'@' | b'"' | b'\\') {
            line.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _infallible = write!(line, "%{byte:02X}");
        }
    }
}

/// What an escape stands for; the position is that of the offending byte.
///
/// Control characters are refused in escapes too: what is read here is printed to terminals.
pub(crate) fn unescape(text: &str) -> Result<Cow<'_, str>, usize> {
    let Some(first) = text.find('%') else {
        return Ok(Cow::Borrowed(text));
    };
    let bytes = text.as_bytes();
    let mut plain = bytes[..first].to_vec();
    let mut at = first;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            plain.push(hex_pair(bytes.get(at + 1..at + 3)).ok_or(at)?);
            at += 3;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    let plain = String::from_utf8(plain).map_err(|_| first)?;
    if plain.chars().any(char::is_control) {
        return Err(first);
    }
    Ok(Cow::Owned(plain))
}

fn hex_pair(digits: Option<&[u8]>) -> Option<u8> {
    let [high, low] = digits? else { return None };
    let value = |digit: &u8| {
        char::from(*digit)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    Some(value(high)? << 4 | value(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut line = String::new();
        escape_into(&mut line, text);
        line
    }

    #[test]
    fn escaped_text_is_one_field_and_reads_back() {
        for text in [
            "plain-1.2_3",
            "büro",
            "a b",
            "50%",
            "a,b",
            "#x",
            "@ca",
            "😀",
            "x=y",
        ] {
            let field = escaped(text);
            assert!(
                field.bytes().all(|b| b.is_ascii_graphic() && b != b','),
                "{field}"
            );
            assert_eq!(unescape(&field).as_deref(), Ok(text));
        }
    }

    #[test]
    fn broken_escapes_and_control_characters_are_refused() {
        for (text, position) in [
            ("a%", 1),
            ("%2", 0),
            ("%zz", 0),
            ("%+1", 0),
            ("ab%ff", 2),
            ("%0A", 0),
            ("%00", 0),
            ("%C2%85", 0),
        ] {
            assert_eq!(unescape(text), Err(position), "{text}");
        }
    }
}
