//! Examples as tokens, each with whether it is to be learnt.

use super::{Piece, Template, read};
use crate::error::Result;
use chacha20::ChaCha8Rng;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rwkv_core::error::Error;
use rwkv_core::tokenizer::Tokenizer;
use std::path::Path;
use std::sync::Arc;

/// One example.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// The ids.
    pub ids: Vec<u32>,
    /// Which of them the model is to learn.
    pub learnt: Vec<bool>,
}

impl Tokens {
    /// Encodes every piece by itself, as a chat does.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], and [`Error::Config`] for a [`Piece::End`] where the tokenizer has no token for it.
    pub fn encode(tokenizer: &dyn Tokenizer, pieces: &[Piece]) -> std::result::Result<Self, Error> {
        let mut tokens = Self::default();
        for piece in pieces {
            let (ids, learnt) = match piece {
                Piece::Read(text) => (tokenizer.encode_prompt(text)?, false),
                Piece::Learn(text) => (tokenizer.encode_prompt(text)?, true),
                Piece::End => {
                    let expected = "a format whose replies end in an empty line";
                    let found =
                        || format!("one whose replies end with a token that the {} tokenizer lacks", tokenizer.name());
                    (vec![tokenizer.end_of_text().ok_or_else(|| Error::config("prompt", expected, found()))?], true)
                }
            };
            tokens.learnt.resize(tokens.learnt.len() + ids.len(), learnt);
            tokens.ids.extend(ids);
        }
        Ok(tokens)
    }

    /// How many tokens are to be learnt.
    #[must_use]
    pub fn count_learnt(&self) -> usize {
        self.learnt.iter().filter(|&&learnt| learnt).count()
    }
}

/// All examples of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examples {
    /// The examples.
    pub list: Vec<Arc<Tokens>>,
    /// How many lines had no reply to learn.
    pub unanswered: usize,
}

impl Examples {
    /// [Reads](read) a JSONL file and encodes its examples.
    ///
    /// # Errors
    /// As [`read`], and [`Error::Format`] that names the file when an example cannot be encoded, or there is none.
    pub fn load(path: &Path, tokenizer: &dyn Tokenizer, template: &Template) -> Result<Self> {
        let (examples, unanswered) = read(path)?;
        if examples.is_empty() {
            return Err(Error::format(path, "holds no example with a reply").into());
        }
        let encode = |(i, example)| match Tokens::encode(tokenizer, &template.render(example)) {
            Ok(tokens) => Ok(Arc::new(tokens)),
            // It is the choice of the format that is wrong, and no example.
            Err(error @ Error::Config { .. }) => Err(error),
            Err(error) => {
                Err(Error::format(path, format!("has an example, number {}, that cannot be encoded: {error}", i + 1)))
            }
        };
        let list = examples.iter().enumerate().map(encode).collect::<std::result::Result<_, _>>()?;
        Ok(Self { list, unanswered })
    }

    /// Holds a share of the examples out, which ones by the seed: those to learn from and those to measure with, both in
    /// the file's order.
    ///
    /// # Errors
    /// [`Error::Config`] when a part would be empty.
    pub fn split(self, val_fraction: f64, seed: u64) -> Result<(Self, Self)> {
        let count = self.list.len();
        let held_out = ((count as f64 * val_fraction).round() as usize).max(1);
        if held_out >= count {
            let expected = format!("a share that leaves some of {count} examples on either side");
            return Err(Error::config("val_fraction", expected, val_fraction).into());
        }
        let mut is_held_out: Vec<bool> = (0..count).map(|i| i < held_out).collect();
        is_held_out.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for (tokens, held_out) in self.list.into_iter().zip(is_held_out) {
            if held_out { val.push(tokens) } else { train.push(tokens) }
        }
        Ok((Self { list: train, unanswered: self.unanswered }, Self { list: val, unanswered: 0 }))
    }

    /// How many tokens the examples have, and how many of them are to be learnt.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let tokens = self.list.iter().map(|tokens| tokens.ids.len()).sum();
        (tokens, self.list.iter().map(|tokens| tokens.count_learnt()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rwkv_core::chat::Format;
    use rwkv_core::tokenizer::{ByteTokenizer, CharTokenizer};

    fn load(lines: &str, tokenizer: &dyn Tokenizer, format: Format) -> Result<Examples> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("data.jsonl");
        std::fs::write(&file, lines).expect("written");
        Examples::load(&file, tokenizer, &Template::new(format))
    }

    #[test]
    fn answers_are_learnt_and_nothing_else() {
        let lines = r#"{"instruction": "Hi", "output": "Ho"}"#;
        let examples = load(lines, &ByteTokenizer {}, Format::World).expect("good");
        let tokens = &examples.list[0];
        let text = "User: Hi\n\nAssistant: Ho\n\n";
        assert_eq!(tokens.ids, text.bytes().map(u32::from).collect::<Vec<_>>());
        let learnt = tokens.learnt.iter().map(|&learnt| if learnt { '1' } else { '0' }).collect::<String>();
        assert_eq!(learnt, "0".repeat(text.len() - 5) + "11111");
        assert_eq!(examples.count(), (text.len(), 5));
    }

    #[test]
    fn what_cannot_be_encoded_is_told() {
        let said = |lines: &str, tokenizer: &dyn Tokenizer, format| {
            load(lines, tokenizer, format).expect_err("refused").to_string()
        };
        let lines = r#"{"instruction": "Hi", "output": "Ho"}"#;
        let chars = CharTokenizer::from_text("User: Hi\n\nAssistant:");
        assert!(said(lines, &chars, Format::World).contains("number 1"), "{}", said(lines, &chars, Format::World));
        let no_end = said(lines, &ByteTokenizer {}, Format::RavenInstruct);
        assert!(no_end.contains("byte") && no_end.contains("empty line"), "{no_end}");
        assert!(said(r#"{"instruction": "Hi", "output": ""}"#, &chars, Format::World).contains("no example"));
    }

    #[test]
    fn a_seed_holds_the_same_examples_out() {
        let lines: String = (0..20).map(|i| format!("{{\"instruction\": \"Hi {i}\", \"output\": \"Ho\"}}\n")).collect();
        let examples = load(&lines, &ByteTokenizer {}, Format::World).expect("good");
        let (train, val) = examples.clone().split(0.2, 3).expect("enough");
        assert_eq!((train.list.len(), val.list.len()), (16, 4));
        let mut all = [train.list.clone(), val.list.clone()].concat();
        let mut expected = examples.list.clone();
        all.sort_by(|x, y| x.ids.cmp(&y.ids));
        expected.sort_by(|x, y| x.ids.cmp(&y.ids));
        assert_eq!(all, expected);
        assert_eq!(examples.clone().split(0.2, 3).expect("enough"), (train, val.clone()));
        assert_ne!(examples.clone().split(0.2, 4).expect("enough").1, val);
        assert!(examples.split(0.999, 0).is_err());
    }
}
