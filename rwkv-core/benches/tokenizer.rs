//! Speed of the tokenizers on a text of the user's, with the published vocabularies.
//!
//! `RWKV_TEXT=tinyshakespeare.txt RWKV_WORLD_VOCAB=rwkv_vocab_v20230424.txt RWKV_20B_TOKENIZER=20B_tokenizer.json
//! cargo bench -p rwkv-core --bench tokenizer`
#![allow(missing_docs)]

use divan::{Bencher, counter::BytesCount};
use rwkv_core::tokenizer::{AnyTokenizer, Tokenizer};
use std::path::PathBuf;

const VOCABULARIES: [&str; 2] = ["RWKV_WORLD_VOCAB", "RWKV_20B_TOKENIZER"];

fn main() {
    let missing: Vec<&str> =
        VOCABULARIES.into_iter().chain(["RWKV_TEXT"]).filter(|name| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        divan::main();
    } else {
        eprintln!("SKIPPED: no files are named by {}", missing.join(", "));
    }
}

fn file(variable: &str) -> PathBuf {
    std::env::var_os(variable).expect("main has looked").into()
}

fn tokenizer(variable: &str) -> AnyTokenizer {
    AnyTokenizer::load(&file(variable)).expect("a published vocabulary")
}

fn text() -> String {
    std::fs::read_to_string(file("RWKV_TEXT")).expect("a text")
}

#[divan::bench(args = VOCABULARIES, sample_count = 10)]
fn load(bencher: Bencher, variable: &str) {
    bencher.bench(|| tokenizer(variable));
}

#[divan::bench(args = VOCABULARIES, sample_count = 10)]
fn encode(bencher: Bencher, variable: &str) {
    let (tokenizer, text) = (tokenizer(variable), text());
    bencher.counter(BytesCount::of_str(&text)).bench(|| tokenizer.encode(&text).expect("encodes"));
}

#[divan::bench(args = VOCABULARIES, sample_count = 10)]
fn decode(bencher: Bencher, variable: &str) {
    let (tokenizer, text) = (tokenizer(variable), text());
    let ids = tokenizer.encode(&text).expect("encodes");
    bencher.counter(BytesCount::of_str(&text)).bench(|| tokenizer.decode(&ids).expect("own ids"));
}
