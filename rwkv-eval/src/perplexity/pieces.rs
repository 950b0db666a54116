//! Long texts in pieces: what is in memory is a piece, not the text.

use rwkv_core::error::{Error, Result};
use rwkv_core::tokenizer::Tokenizer;
use std::io::Read;
use std::path::Path;

/// Bytes that are read at once.
const BLOCK: usize = 1 << 16;

/// Whether the tokens of a text are those of its pieces, where it is cut before single spaces that letters follow and
/// something other than a space precedes.
///
/// They are when no token has a space after another character: then none reaches over such a cut. This is so for the
/// published vocabularies of the Pile and the World models.
pub(super) fn can_be_cut(tokenizer: &dyn Tokenizer) -> bool {
    let ids = 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    // An id without bytes reaches over nothing.
    ids.filter_map(|id| tokenizer.decode(&[id]).ok())
        .all(|bytes| bytes.windows(2).all(|pair| pair[1] != b' ' || pair[0].is_ascii_whitespace()))
}

/// Calls `each` with the pieces of a text, or with the whole of it where it must not be cut.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for bytes that are no UTF-8, which are named; and what `each` returns.
pub(super) fn each_piece(
    name: &Path,
    mut reader: impl Read,
    cut: bool,
    mut each: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let mut waiting = String::new();
    let mut bytes = Vec::new();
    let mut before = 0; // bytes of the text before `bytes`
    let mut block = vec![0; BLOCK];
    loop {
        let count = match reader.read(&mut block) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", name)(error)),
        };
        bytes.extend_from_slice(&block[..count]);
        let valid = match std::str::from_utf8(&bytes) {
            Ok(text) => text.len(),
            // A character may go on in the next block.
            Err(error) if error.error_len().is_none() && count > 0 => error.valid_up_to(),
            Err(error) => {
                let place = before + error.valid_up_to() + 1;
                return Err(Error::format(name, format!("is not UTF-8: byte {place} begins no character")));
            }
        };
        let searched = waiting.len();
        waiting.push_str(&String::from_utf8_lossy(&bytes[..valid]));
        bytes.drain(..valid);
        before += valid;
        if count == 0 {
            return if waiting.is_empty() { Ok(()) } else { each(&waiting) };
        }
        if let Some(place) = cut.then(|| last_cut(&waiting, searched)).flatten() {
            each(&waiting[..place])?;
            waiting.drain(..place);
        }
    }
}

/// The last place where a text can be cut before a letter at `from` or later, if there is one.
fn last_cut(text: &str, from: usize) -> Option<usize> {
    let mut letter = None;
    let mut characters = text.char_indices().rev().peekable();
    while let Some((place, character)) = characters.next() {
        let before = characters.peek().map(|(_, before)| *before);
        let fits = |before: char| !before.is_whitespace() && !before.is_control();
        if character == ' ' && letter.is_some_and(char::is_alphabetic) && before.is_some_and(fits) {
            return Some(place);
        }
        if place < from {
            return None; // searched before: a text without places to cut is not searched again and again
        }
        letter = Some(character);
    }
    None
}

/// Counts words as the reference harness does: pieces between runs of whitespace, so that a text which begins or ends with
/// whitespace has an empty word there, and an empty text has one.
///
/// # Source
/// lm-evaluation-harness, `wikitext`: `len(re.split(r"\s+", text))`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Words {
    gaps: usize,
    in_gap: bool,
}

impl Words {
    pub(super) fn read(&mut self, text: &str) {
        for character in text.chars() {
            // Python's whitespace has four separators more than Unicode's.
            let gap = character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character);
            self.gaps += usize::from(gap && !self.in_gap);
            self.in_gap = gap;
        }
    }

    pub(super) fn count(self) -> usize {
        self.gaps + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> usize {
        let mut words = Words::default();
        // A word may be cut.
        let half = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(place, _)| place);
        words.read(&text[..half]);
        words.read(&text[half..]);
        words.count()
    }

    #[test]
    fn words_are_those_of_the_harness() {
        // len(re.split(r"\s+", text)) in Python.
        for (text, count) in [
            ("", 1),
            ("one", 1),
            ("one two", 2),
            (" one  two\n", 4),
            ("a\u{a0}b\u{1f}c\u{3000}d", 4),
            ("\n", 2),
            ("zero\u{200b}width", 1),
        ] {
            assert_eq!(words(text), count, "{text:?}");
        }
    }

    #[test]
    fn cuts_are_before_single_spaces_and_letters() {
        assert_eq!(last_cut("one two three", 0), Some(7));
        for whole in ["", "one", "one  two", "one 2", " one", "one\n two", "one ", "one (two)"] {
            assert_eq!(last_cut(whole, 0), None, "{whole:?}");
        }
        assert_eq!(last_cut("é ü", 0), Some(2));
        assert_eq!(last_cut("one two three", 8), Some(7), "the letter is new");
        assert_eq!(last_cut("one two three", 9), None);
    }

    /// Gives a byte at a time.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, block: &mut [u8]) -> std::io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            (block[0], self.0) = (*first, rest);
            Ok(1)
        }
    }

    #[test]
    fn pieces_make_the_text_again() {
        let text = "Où est-ce? Là-bas, en 2020 peut-être.\n\n 日本 の 川  fin";
        for cut in [true, false] {
            let mut pieces = Vec::new();
            let read = each_piece(Path::new("t"), Drops(text.as_bytes()), cut, |piece| {
                pieces.push(piece.to_owned());
                Ok(())
            });
            read.expect("read");
            assert_eq!(pieces.concat(), text);
            assert_eq!(pieces.len() > 3, cut, "{pieces:?}");
        }
        let said = each_piece(Path::new("t"), &b"caf\xc3\xa9 \xe9 x"[..], true, |_| Ok(())).expect_err("Latin-1");
        assert_eq!(said.to_string(), "t is not UTF-8: byte 7 begins no character");
        let said = each_piece(Path::new("t"), Drops(b"caf\xc3"), true, |_| Ok(())).expect_err("cut").to_string();
        assert!(said.contains("byte 4"), "{said}");
    }
}
