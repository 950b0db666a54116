//! Where a text ends.

/// Why a generator ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// As many tokens were written as were asked for.
    Length,
    /// This stop token was drawn.
    StopToken(u32),
    /// The text came to contain this stop string.
    StopString(String),
}

/// Finds stop strings in a text that comes in pieces.
///
/// The string that ends first counts, as if the text came character by character: how a tokenizer cuts it makes no
/// difference. Of several that end at one place the longest counts.
#[derive(Debug, Clone, Default)]
pub(super) struct StopStrings {
    strings: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
}

impl StopStrings {
    pub(super) fn new(strings: Vec<String>) -> Self {
        Self { strings, held: String::new() }
    }

    /// Takes more text; returns the text that cannot become part of a stop string any more, and the stop string that
    /// came after it, if one did.
    pub(super) fn push(&mut self, text: &str) -> (String, Option<&str>) {
        self.held.push_str(text);
        let found = self.strings.iter().filter_map(|string| {
            let start = self.held.find(string.as_str())?;
            Some((start + string.len(), start, string))
        });
        if let Some((_, start, string)) = found.min_by_key(|&(end, start, _)| (end, start)) {
            let mut before = std::mem::take(&mut self.held);
            before.truncate(start);
            return (before, Some(string));
        }
        let hold = self.strings.iter().map(|string| overlap(&self.held, string)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - hold);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// The text that was held back, at the end of the stream.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The length of the longest end of `text` that is a beginning of `string`, but not all of it.
fn overlap(text: &str, string: &str) -> usize {
    let beginnings = string.char_indices().map(|(length, _)| length).rev();
    beginnings.into_iter().find(|&length| text.ends_with(&string[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of pieces, piece by piece, and the stop string.
    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<String>) {
        let mut stop = StopStrings::new(stops.iter().map(|&s| s.to_owned()).collect());
        let mut out = Vec::new();
        for piece in pieces {
            let (text, found) = stop.push(piece);
            out.push(text);
            if let Some(found) = found {
                return (out, Some(found.to_owned()));
            }
        }
        out.push(stop.finish());
        (out, None)
    }

    #[test]
    fn text_that_may_become_a_stop_string_waits() {
        let (out, found) = run(&["\n\n"], &["a\n", "b\n", "\nc"]);
        assert_eq!((out, found.as_deref()), (vec!["a".into(), "\nb".into(), String::new()], Some("\n\n")));
        let (out, found) = run(&["\n\n"], &["a\n"]);
        assert_eq!((out, found), (vec!["a".to_owned(), "\n".into()], None));
        let (out, found) = run(&["User:"], &["Us", "e", "U", "ser", ": hi"]);
        assert_eq!(out, ["", "", "Use", "", ""]);
        assert_eq!(found.as_deref(), Some("User:"));
        assert_eq!(run(&[], &["a", "b"]).0, ["a", "b", ""]);
    }

    #[test]
    fn the_stop_string_that_ends_first_counts() {
        assert_eq!(run(&["abc", "b"], &["xabc"]), (vec!["xa".to_owned()], Some("b".to_owned())));
        assert_eq!(run(&["b", "ab"], &["xab"]), (vec!["x".to_owned()], Some("ab".to_owned())));
        assert_eq!(run(&["é"], &["caf", "és"]), (vec!["caf".to_owned(), String::new()], Some("é".to_owned())));
    }

    #[test]
    fn how_the_text_is_cut_makes_no_difference() {
        let text = "aabéabaabcabéé";
        for stops in [&["aabc"][..], &["éa", "baab"], &["bc", "aab"], &["abéé"], &["x"], &["éé", "béé"]] {
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let whole = run(stops, &letters.iter().map(String::as_str).collect::<Vec<_>>());
            for size in 1..letters.len() {
                let pieces: Vec<String> = letters.chunks(size).map(<[String]>::concat).collect();
                let cut = run(stops, &pieces.iter().map(String::as_str).collect::<Vec<_>>());
                assert_eq!((cut.0.concat(), cut.1), (whole.0.concat(), whole.1.clone()), "{stops:?} by {size}");
            }
        }
    }
}
