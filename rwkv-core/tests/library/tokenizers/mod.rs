//! Tokenizers: exact ids, round trips, files of every kind, and what is wrong with bad ones.

mod files;
mod neox;
mod real_files;
mod stream;
mod world;

use rwkv_core::tokenizer::{NeoxTokenizer, WorldTokenizer};
use std::path::Path;

/// A World vocabulary: every byte, then these lines, whose ids go on from 257.
fn world_file(lines: &[&str]) -> String {
    let mut file: String = (0..=255).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1)).collect();
    for (id, line) in (257..).zip(lines) {
        file += &format!("{id} {line}\n");
    }
    file
}

fn world(lines: &[&str]) -> WorldTokenizer {
    WorldTokenizer::from_file(Path::new("world.txt"), world_file(lines).as_bytes()).expect("a vocabulary")
}

/// The parts of a small `tokenizer.json` like that of GPT-NeoX: two control tokens, every byte, a few merges, and runs
/// of two and three spaces as added tokens.
fn neox_json() -> serde_json::Value {
    let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut tokens = vec!["<|endoftext|>".to_owned(), "<|padding|>".to_owned()];
    tokens.extend(alphabet.iter().map(ToString::to_string));
    let merges = ["Ċ Ċ", "Ġ a", "h i", "ð Ł", "Ã ©"];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let model_tokens = tokens.len();
    let vocab: serde_json::Map<String, serde_json::Value> =
        tokens.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    let added = |id: usize, content: &str, special: bool| {
        serde_json::json!({
            "id": id, "content": content, "special": special, "normalized": !special,
            "single_word": false, "lstrip": false, "rstrip": false,
        })
    };
    let byte_level = serde_json::json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true });
    serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [
            added(0, "<|endoftext|>", true),
            added(1, "<|padding|>", true),
            added(model_tokens, "   ", false),
            added(model_tokens + 1, "  ", false),
        ],
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "vocab": vocab, "merges": merges,
        },
    })
}

fn neox_from(json: &serde_json::Value) -> rwkv_core::error::Result<NeoxTokenizer> {
    NeoxTokenizer::from_file(Path::new("neox.json"), json.to_string().as_bytes())
}
