//! Text that ends where a stop string begins.

/// Collects text until a stop string, and says what of it may be shown already.
///
/// The stop string is looked for in the text and not among tokens, since many tokens hold it beside something else.
/// The end of the text is held back for as long as the stop string may begin there.
///
/// # Example
/// ```
/// use rwkv_core::chat::StopText;
/// let mut text = StopText::new(Some("\n\n"));
/// assert_eq!(text.push("one\n"), "one");
/// assert_eq!(text.push("two"), "\ntwo");
/// assert_eq!(text.push("\n\nUser"), "");
/// assert!(text.is_stopped());
/// assert_eq!(text.finish(), ("one\ntwo".to_owned(), String::new()));
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopText {
    stop: Option<String>,
    text: String,
    /// How many bytes of the text have been shown.
    shown: usize,
    stopped: bool,
}

impl StopText {
    /// A text without end, or with a stop string, which must not be empty to be found.
    #[must_use]
    pub fn new(stop: Option<&str>) -> Self {
        Self { stop: stop.filter(|stop| !stop.is_empty()).map(str::to_owned), ..Self::default() }
    }

    /// Adds a piece, and returns what may be shown now. Pieces after the stop string are dropped.
    pub fn push(&mut self, piece: &str) -> &str {
        let start = self.shown;
        if !self.stopped {
            self.text.push_str(piece);
            self.shown = self.text.len();
            if let Some(stop) = &self.stop {
                // What was shown before holds no beginning of the stop string.
                match self.text[start..].find(stop.as_str()) {
                    Some(at) => {
                        self.text.truncate(start + at);
                        self.stopped = true;
                    }
                    None => self.shown -= begun(&self.text[start..], stop),
                }
                self.shown = self.shown.min(self.text.len());
            }
        }
        &self.text[start..self.shown]
    }

    /// Whether the stop string has come.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The whole text without the stop string, and the end of it that was not shown yet.
    #[must_use]
    pub fn finish(self) -> (String, String) {
        let rest = self.text[self.shown..].to_owned();
        (self.text, rest)
    }
}

/// How many bytes at the end of `text` are a beginning of `stop`.
fn begun(text: &str, stop: &str) -> usize {
    let beginnings = stop.char_indices().map(|(length, _)| length).rev();
    beginnings.into_iter().find(|&length| text.ends_with(&stop[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown piece by piece, the whole text, and whether it stopped.
    fn run(stop: &str, pieces: &[&str]) -> (Vec<String>, String, bool) {
        let mut text = StopText::new(Some(stop));
        let mut shown: Vec<String> = pieces.iter().map(|piece| text.push(piece).to_owned()).collect();
        let stopped = text.is_stopped();
        let (whole, rest) = text.finish();
        shown.push(rest);
        assert_eq!(shown.concat(), whole);
        (shown, whole, stopped)
    }

    #[test]
    fn the_stop_string_is_found_wherever_pieces_break() {
        assert_eq!(run("\n\n", &["a\n", "\nb"]).1, "a");
        assert_eq!(run("\n\n", &["a \n\n\tb"]).1, "a ");
        assert_eq!(run("\n\n", &["\n\n"]).1, "");
        assert_eq!(run("STOP", &["xS", "T", "O", "P", "y"]).1, "x");
        assert!(run("STOP", &["xS", "T", "O", "P", "y"]).2);
    }

    #[test]
    fn text_is_held_back_only_while_it_may_be_the_stop_string() {
        assert_eq!(
            run("\n\n", &["a\n", "b\n"]),
            (["a", "\nb", "\n"].map(String::from).to_vec(), "a\nb\n".into(), false)
        );
        assert_eq!(run("STOP", &["aST", "x"]).0, ["a", "STx", ""]);
        assert_eq!(run("aab", &["aaa", "b"]).1, "a", "a second beginning inside the first");
        assert_eq!(run("é!", &["xé", "?"]).0, ["x", "é?", ""]);
    }

    #[test]
    fn nothing_comes_after_the_stop_string() {
        assert_eq!(run("\n\n", &["a\n\n", "b", "c"]).0, ["a", "", "", ""]);
    }

    #[test]
    fn without_a_stop_string_everything_is_shown() {
        let mut text = StopText::new(None);
        assert_eq!(text.push("a\n\nb"), "a\n\nb");
        assert!(!text.is_stopped());
        let mut text = StopText::new(Some(""));
        assert_eq!(text.push("a"), "a");
    }
}
