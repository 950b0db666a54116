//! `tokenizer.json` files, as far as a byte-level BPE needs them.
//!
//! The crate `tokenizers` panics on some damaged files, so the parts are read and checked here and put together by its
//! constructors.

use crate::tokenizer::token_bytes::TokenBytes;
use serde::Deserialize;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// The file. What it says beside this changes no ids: cutting and filling up of texts, and tokens around them, are the
/// caller's business here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Part>,
    pre_tokenizer: Option<Part>,
    decoder: Option<Part>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    /// Of a byte-level pre-tokenizer.
    #[serde(default)]
    add_prefix_space: bool,
    #[serde(default = "yes")]
    use_regex: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Model {
    r#type: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    dropout: Option<f64>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// Two tokens that become one: older files write them as one string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

/// The tokenizer in a file, and the bytes of its tokens.
pub(super) fn read(json: &[u8]) -> Result<(Tokenizer, TokenBytes), String> {
    let file: File = serde_json::from_slice(json).map_err(|error| format!("is no tokenizer.json: {error}"))?;
    file.check()?;
    let tokens = file.token_bytes()?;
    let tokenizer = file.build().map_err(|error| format!("is no usable tokenizer.json: {error}"))?;
    Ok((tokenizer, tokens))
}

impl File {
    /// Refuses what this library does not do, rather than to give other ids than the file's author.
    fn check(&self) -> Result<(), String> {
        let kind = |part: &Option<Part>| part.as_ref().map_or("none", |part| part.r#type.as_str()).to_owned();
        let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).unwrap_or("none").to_owned();
        let model = &self.model;
        let checks: [(&str, &[&str], String); 9] = [
            ("decoder", &["ByteLevel"], kind(&self.decoder)),
            ("pre_tokenizer", &["ByteLevel"], kind(&self.pre_tokenizer)),
            ("normalizer", &["NFC", "none"], kind(&self.normalizer)),
            ("model.type", &["BPE", "none"], text(&model.r#type)),
            ("model.dropout", &["none"], model.dropout.map_or("none".to_owned(), |dropout| dropout.to_string())),
            ("model.unk_token", &["none"], text(&model.unk_token)),
            ("model.continuing_subword_prefix", &["none"], text(&model.continuing_subword_prefix)),
            ("model.end_of_word_suffix", &["none"], text(&model.end_of_word_suffix)),
            ("model.byte_fallback", &["false"], model.byte_fallback.to_string()),
        ];
        match checks.into_iter().find(|(_, expected, found)| !expected.contains(&found.as_str())) {
            None => Ok(()),
            Some((key, expected, found)) => {
                let expected = expected.join(" or ");
                Err(format!("is no tokenizer.json of a byte-level BPE: {key}: expected {expected}, found {found}"))
            }
        }
    }

    /// The bytes of every token, by id, and a check that ids count from 0.
    fn token_bytes(&self) -> Result<TokenBytes, String> {
        let mut by_id: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for Added { id, token } in &self.added_tokens {
            if token.content.is_empty() {
                return Err(format!("has an added token without text: {id}"));
            }
            // Control tokens are no text.
            by_id.insert(*id, if token.special { Vec::new() } else { token.content.clone().into_bytes() });
        }
        let mut spelled: HashMap<u32, &str> = HashMap::new();
        for (token, &id) in &self.model.vocab {
            if let Some(other) = spelled.insert(id, token) {
                return Err(format!("has two tokens with the id {id}: {other:?} and {token:?}"));
            }
            if let Entry::Vacant(entry) = by_id.entry(id) {
                let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
                let bytes = bytes.ok_or_else(|| format!("has a token that is not spelled in bytes: {id} {token:?}"))?;
                entry.insert(bytes);
            }
        }
        let mut tokens = TokenBytes::default();
        for (expected, (id, bytes)) in (0..).zip(by_id) {
            if id != expected {
                return Err(format!("has no token with the id {expected}"));
            }
            tokens.push(&bytes);
        }
        Ok(tokens)
    }

    fn build(self) -> Result<Tokenizer, String> {
        let Model { vocab, merges, ignore_merges, .. } = self.model;
        let mut pairs = Vec::with_capacity(merges.len());
        for merge in merges {
            let (left, right) = match merge {
                Merge::Pair(left, right) => (left, right),
                Merge::Joined(both) => {
                    let parts =
                        both.split_once(' ').ok_or_else(|| format!("the merge {both:?} is not of two tokens"))?;
                    (parts.0.to_owned(), parts.1.to_owned())
                }
            };
            for token in [&left, &right, &format!("{left}{right}")] {
                if !vocab.contains_key(token) {
                    return Err(format!("the merge of {left:?} and {right:?} needs {token:?}, which is no token"));
                }
            }
            pairs.push((left, right));
        }
        let vocab: Vocab = vocab.into_iter().collect();
        let model = BPE::builder().vocab_and_merges(vocab, pairs).ignore_merges(ignore_merges).build();
        let mut tokenizer = Tokenizer::new(model.map_err(|error| error.to_string())?);
        if self.normalizer.is_some() {
            tokenizer.with_normalizer(Some(NFC)).map_err(|error| error.to_string())?;
        }
        if let Some(Part { add_prefix_space, use_regex, .. }) = self.pre_tokenizer {
            tokenizer.with_pre_tokenizer(Some(ByteLevel::new(add_prefix_space, true, use_regex)));
        }
        tokenizer.with_decoder(Some(ByteLevel::default()));
        tokenizer
            .add_tokens(self.added_tokens.iter().map(|added| added.token.clone()))
            .map_err(|error| error.to_string())?;
        for Added { id, token } in &self.added_tokens {
            let found = tokenizer.token_to_id(&token.content);
            if found != Some(*id) {
                return Err(format!("the added token {:?} has the id {id}, but comes as {found:?}", token.content));
            }
        }
        Ok(tokenizer)
    }
}

/// The byte that a character of the byte-level alphabet stands for: itself where it prints in Latin-1, else the next
/// of the remaining bytes, from U+0100 on.
///
/// # Source
/// `bytes_to_unicode` of GPT-2.
fn byte_of(character: char) -> Option<u8> {
    let byte = match character {
        '!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}' => u32::from(character),
        '\u{100}'..='\u{120}' => u32::from(character) - 0x100, // 0 to 32
        '\u{121}'..='\u{142}' => u32::from(character) - 0x121 + 127, // 127 to 160
        '\u{143}' => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}
