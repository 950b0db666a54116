//! A context and its continuation as tokens.

use crate::error::Result;
use crate::request::TokenRequest;
use rwkv_core::error::Error;
use rwkv_core::tokenizer::Tokenizer;
use std::fmt;
use std::str::FromStr;

/// The token that stands where there is no context: `<|endoftext|>` of the Pile vocabulary.
const NO_CONTEXT: u32 = 0;

/// What the model reads before the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContextStart {
    /// Nothing, as the reference harness has it; an empty context becomes token 0.
    #[default]
    Harness,
    /// A newline, as the official evaluation script has it. Published scores of RWKV-4 were made like that.
    Reference,
}

impl ContextStart {
    /// The name that programs use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Harness => "harness",
            Self::Reference => "reference",
        }
    }
}

impl fmt::Display for ContextStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ContextStart {
    type Err = Error;

    fn from_str(name: &str) -> std::result::Result<Self, Error> {
        [Self::Harness, Self::Reference]
            .into_iter()
            .find(|start| start.name() == name)
            .ok_or_else(|| Error::config("context_start", "harness or reference", name))
    }
}

/// Why a pair has no tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairProblem {
    /// The context has characters, and all of them are white space.
    BlankContext,
    /// Nothing is left to be scored.
    NoContinuation,
}

impl fmt::Display for PairProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlankContext => "the context is nothing but white space",
            Self::NoContinuation => "the continuation has no token of its own",
        })
    }
}

/// White space as Python's `str.isspace` and `str.strip` have it: Unicode's, and the four separators U+001C to U+001F.
#[must_use]
pub fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Tokens of a context and of its continuation.
///
/// White space at the context's end moves to the continuation; both are encoded as one text, and the context alone; what
/// the whole has beyond as many tokens as the context alone is the continuation. An empty context is token 0, or the
/// continuation's own first token where that is token 0.
///
/// With [`ContextStart::Reference`] the tokens of a newline come first, in the place of token 0 where there is no context.
///
/// # Errors
/// The tokenizer's; the inner result says why a pair cannot be scored.
///
/// # Source
/// `LM._encode_pair` and `loglikelihood` of lm-evaluation-harness 0.4; the official `ChatRWKV`'s `run_lm_eval.py` for the newline.
///
/// # Example
/// ```
/// use rwkv_core::tokenizer::ByteTokenizer;
/// use rwkv_eval::encode::{ContextStart, encode_pair};
/// let pair = encode_pair(&ByteTokenizer::default(), "a \u{1f}", " b", ContextStart::Harness).unwrap().unwrap();
/// assert_eq!((pair.context, pair.continuation), (b"a".map(u32::from).to_vec(), b" \x1f b".map(u32::from).to_vec()));
/// ```
pub fn encode_pair(
    tokenizer: &dyn Tokenizer,
    context: &str,
    continuation: &str,
    start: ContextStart,
) -> Result<std::result::Result<TokenRequest, PairProblem>> {
    let newline = match start {
        ContextStart::Harness => Vec::new(),
        ContextStart::Reference => tokenizer.encode("\n")?,
    };
    let trimmed = context.trim_end_matches(is_python_space);
    if trimmed.is_empty() && !context.is_empty() {
        return Ok(Err(PairProblem::BlankContext));
    }
    let mut whole = tokenizer.encode(&format!("{context}{continuation}"))?;
    let mut before = tokenizer.encode(trimmed)?;
    let continuation = whole.split_off(before.len().min(whole.len()));
    let (context, continuation) = match (newline.is_empty(), context.is_empty()) {
        (true, true) if continuation.first() == Some(&NO_CONTEXT) => (vec![NO_CONTEXT], continuation[1..].to_vec()),
        (true, true) => (vec![NO_CONTEXT], continuation),
        _ => {
            let mut context = newline;
            context.append(&mut before);
            (context, continuation)
        }
    };
    Ok(if continuation.is_empty() {
        Err(PairProblem::NoContinuation)
    } else {
        Ok(TokenRequest { context, continuation })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rwkv_core::tokenizer::ByteTokenizer;

    /// Bytes, but `" b"` and `"cd"` are one token each, and `<>` is token 0.
    #[derive(Debug)]
    struct Pairs;

    impl Tokenizer for Pairs {
        fn name(&self) -> &'static str {
            "pairs"
        }

        fn encode(&self, text: &str) -> rwkv_core::error::Result<Vec<u32>> {
            let (mut ids, mut rest) = (Vec::new(), text);
            while let Some(c) = rest.chars().next() {
                let known =
                    [(" b", 1000), ("cd", 1001), ("<>", 0)].into_iter().find(|(token, _)| rest.starts_with(token));
                let (id, length) = known.map_or((c as u32, c.len_utf8()), |(token, id)| (id, token.len()));
                ids.push(id);
                rest = &rest[length..];
            }
            Ok(ids)
        }

        fn decode(&self, _: &[u32]) -> rwkv_core::error::Result<Vec<u8>> {
            Ok(Vec::new())
        }

        fn vocab_size(&self) -> usize {
            0x11_0000
        }
    }

    fn encode(context: &str, continuation: &str, start: ContextStart) -> (Vec<u32>, Vec<u32>) {
        let pair = encode_pair(&Pairs, context, continuation, start).expect("encoded").expect("a pair");
        (pair.context, pair.continuation)
    }

    fn codes(text: &str) -> Vec<u32> {
        text.chars().map(u32::from).collect()
    }

    #[test]
    fn white_space_moves_to_the_continuation() {
        for space in [" ", "\n", "\t", "\u{1f}", "\u{1c}", "\u{85}", "\u{a0}", "\u{3000}", " \u{1f}\n"] {
            let found = encode(&format!("a{space}"), "x", ContextStart::Harness);
            assert_eq!(found, (codes("a"), codes(&format!("{space}x"))), "{space:?}");
        }
        // No space in Python's eyes.
        for other in ["\u{200b}", "\u{feff}", "\u{180e}"] {
            let found = encode(&format!("a{other}"), "x", ContextStart::Harness);
            assert_eq!(found, (codes(&format!("a{other}")), codes("x")), "{other:?}");
        }
    }

    #[test]
    fn both_are_encoded_as_one_text_and_cut() {
        assert_eq!(encode("a ", "b", ContextStart::Harness), (codes("a"), vec![1000]));
        // `c` and `d` become one token together: the cut is after as many tokens as the context has alone.
        assert_eq!(encode("ac", "de", ContextStart::Harness), (codes("ac"), codes("e")));
    }

    #[test]
    fn an_empty_context_is_token_zero() {
        assert_eq!(encode("", " b", ContextStart::Harness), (vec![0], vec![1000]));
        assert_eq!(encode("", "<>x", ContextStart::Harness), (vec![0], codes("x")), "it brings its own");
        assert_eq!(encode("", "<>x", ContextStart::Reference), (codes("\n"), vec![0, u32::from('x')]));
    }

    #[test]
    fn the_reference_has_a_newline_first() {
        assert_eq!(encode("a", " b", ContextStart::Reference), (codes("\na"), vec![1000]));
        assert_eq!(encode("", "x", ContextStart::Reference), (codes("\n"), codes("x")));
    }

    #[test]
    fn what_cannot_be_scored_says_why() {
        let problem = |context, continuation| {
            let pair = encode_pair(&ByteTokenizer::default(), context, continuation, ContextStart::Harness);
            pair.expect("encoded").expect_err("a problem")
        };
        assert_eq!(problem(" \u{1f}", "x"), PairProblem::BlankContext);
        assert_eq!(problem("a", ""), PairProblem::NoContinuation);
    }
}
