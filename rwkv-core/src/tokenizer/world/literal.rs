//! Python's string and bytes literals, as far as Python itself prints them.

use std::fmt::Write;
use std::str::Chars;

/// The UTF-8 bytes of a string literal, or the bytes of a bytes literal.
pub(super) fn parse(literal: &str) -> Result<Vec<u8>, String> {
    let bad = |what: &str| format!("the literal {literal} {what}");
    let (is_bytes, quoted) = literal.strip_prefix('b').map_or((false, literal), |rest| (true, rest));
    let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let quote = quote.ok_or_else(|| bad("does not begin with a quotation mark"))?;
    let body = quoted[1..].strip_suffix(quote).ok_or_else(|| bad("does not end with its quotation mark"))?;
    let mut bytes = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, is_bytes, &mut bytes).map_err(|what| bad(&what))?,
            c if c == quote => return Err(bad("goes on after its closing quotation mark")),
            c if is_bytes && !c.is_ascii() => return Err(bad("holds a character that bytes cannot")),
            c => push(c, &mut bytes),
        }
    }
    Ok(bytes)
}

/// What stands after a backslash.
fn escape(chars: &mut Chars<'_>, is_bytes: bool, bytes: &mut Vec<u8>) -> Result<(), String> {
    let kind = chars.next().ok_or("ends inside an escape")?;
    let byte = match kind {
        '\\' | '\'' | '"' => kind as u8,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'a' => 0x07,
        'b' => 0x08,
        'v' => 0x0b,
        'f' => 0x0c,
        'x' if is_bytes => hexadecimal(chars, 2)? as u8,
        'x' => return code_point(hexadecimal(chars, 2)?, bytes),
        'u' if !is_bytes => return code_point(hexadecimal(chars, 4)?, bytes),
        'U' if !is_bytes => return code_point(hexadecimal(chars, 8)?, bytes),
        other => return Err(format!("has the unknown escape \\{other}")),
    };
    bytes.push(byte);
    Ok(())
}

fn hexadecimal(chars: &mut Chars<'_>, digits: usize) -> Result<u32, String> {
    (0..digits).try_fold(0, |value: u32, _| {
        let digit = chars.next().and_then(|c| c.to_digit(16));
        Ok(value << 4 | digit.ok_or_else(|| format!("has an escape without its {digits} hexadecimal digits"))?)
    })
}

fn code_point(value: u32, bytes: &mut Vec<u8>) -> Result<(), String> {
    push(char::from_u32(value).ok_or_else(|| format!("names {value:#x}, which is no character"))?, bytes);
    Ok(())
}

fn push(c: char, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// A bytes literal with every byte as an escape.
pub(super) fn of_bytes(bytes: &[u8]) -> String {
    let mut literal = "b'".to_owned();
    for byte in bytes {
        let _ = write!(literal, "\\x{byte:02x}"); // writing to a string cannot fail
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escape_has_its_bytes() {
        for (literal, bytes) in [
            (r"'plain'", &b"plain"[..]),
            (r#""it's""#, b"it's"),
            (r#"'say "hi"'"#, b"say \"hi\""),
            (r"'it\'s'", b"it's"),
            (r#""\"""#, b"\""),
            (r"' a  b '", b" a  b "),
            (r"'\n\r\t\\'", b"\n\r\t\\"),
            (r"'\a\b\v\f'", b"\x07\x08\x0b\x0c"),
            (r"'\x00\x7f'", b"\x00\x7f"),
            (r"'\xe9'", "é".as_bytes()), // a code point in a string,
            (r"b'\xe9'", b"\xe9"),       // a byte in bytes
            (r"'\u65e5本'", "日本".as_bytes()),
            (r"'\U0001F600'", "😀".as_bytes()),
            (r"b'\xf0\x9f\'\n'", b"\xf0\x9f'\n"),
            (r#"b"'""#, b"'"),
            (r"''", b""),
        ] {
            assert_eq!(parse(literal).expect(literal), bytes, "{literal}");
        }
    }

    #[test]
    fn what_python_would_not_print_is_refused() {
        for (literal, what) in [
            ("", "begin"),
            ("word", "begin"),
            ("b", "begin"),
            ("u'a'", "begin"),
            ("'", "end"),
            ("'a", "end"),
            ("'a\"", "end"),
            (r"'\'", "inside an escape"),
            ("'a'b'", "goes on"),
            (r"'\q'", r"\q"),
            (r"'\x4'", "2 hexadecimal"),
            (r"'\u12g4'", "4 hexadecimal"),
            (r"'\U0001F60'", "8 hexadecimal"),
            (r"'\ud800'", "0xd800"),
            (r"'\U00110000'", "0x110000"),
            (r"b'\u0041'", r"\u"),
            ("b'é'", "bytes cannot"),
        ] {
            let said = parse(literal).expect_err(literal);
            assert!(said.contains(what), "{literal}: {said}");
        }
    }

    #[test]
    fn written_literals_are_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(parse(&of_bytes(&all)).expect("own literal"), all);
    }
}
