//! Scores of texts do not depend on how they are read.

use burn::backend::Flex;
use burn::tensor::{Int, Tensor, TensorData};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::Rwkv;
use rwkv_core::tokenizer::{ByteTokenizer, CharTokenizer, NeoxTokenizer, Tokenizer, WorldTokenizer};
use rwkv_eval::perplexity::{Context, Scorer, TextScore, TextScorer, Total, score};
use std::path::Path;

const VOCAB: usize = 300;

fn model() -> Rwkv<Flex> {
    Rwkv::new(&RwkvConfig::new(VOCAB, 3, 32), 7, &Default::default())
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * i * 7 + 3 * i) % VOCAB as u32).collect()
}

/// Negative log-likelihood of the tokens from `first` on, from one pass over all of them.
fn by_definition(model: &Rwkv<Flex>, tokens: &[u32], first: usize) -> f64 {
    let ids: Vec<i32> = tokens.iter().map(|token| token.cast_signed()).collect();
    let ids = Tensor::<Flex, 2, Int>::from_data(TensorData::new(ids, [1, tokens.len()]), &Default::default());
    let logits: Vec<f64> = model.forward(ids, model.zero_state(1)).0.into_data().iter::<f64>().collect();
    let nll = |place: usize| {
        let row = &logits[(place - 1) * VOCAB..place * VOCAB];
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + row.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln() - row[tokens[place] as usize]
    };
    (first..tokens.len()).map(nll).sum()
}

fn in_pieces(model: &Rwkv<Flex>, tokens: &[u32], context: Context, chunk: usize, piece: usize) -> (f64, usize) {
    let mut scorer = Scorer::new(model, context, chunk).expect("a scorer");
    tokens.chunks(piece).for_each(|piece| scorer.push(piece).expect("known tokens"));
    let score = scorer.finish().expect("a score");
    (score.nll_nats, score.predicted_tokens)
}

#[test]
fn a_stream_has_the_score_of_one_pass_whatever_the_pieces() {
    let (model, tokens) = (model(), tokens(200));
    let whole = by_definition(&model, &tokens, 1);
    let mut worst: f64 = 0.0;
    for chunk in [1, 2, 63, 64, 198, 199, 200, 1000] {
        for piece in [1, 5, 200] {
            let (nll, count) = in_pieces(&model, &tokens, Context::Carried, chunk, piece);
            assert_eq!(count, 199);
            worst = worst.max((nll - whole).abs() / whole);
        }
        let scored = score(&model, &tokens, chunk).expect("a score").nll_nats;
        worst = worst.max((scored - whole).abs() / whole);
    }
    println!("largest relative difference {worst:e}");
    assert!(worst < 1e-6, "{worst}");
}

#[test]
fn windows_are_those_of_the_guide() {
    let model = model();
    let mut worst: f64 = 0.0;
    for (count, length, stride) in [
        (100, 16, 8),
        (100, 16, 15),
        (100, 16, 1),
        (97, 16, 5),
        (16, 16, 8),
        (17, 16, 8),
        (7, 16, 8),
        (100, 100, 50),
        (9, 2, 1),
    ] {
        let tokens = tokens(count);
        // The loop of the guide: windows by their beginnings, each scores what is new in it.
        let (mut expected, mut end_before, mut scored) = (0.0, 1, 0);
        for begin in (0..tokens.len()).step_by(stride) {
            let end = (begin + length).min(tokens.len());
            expected += by_definition(&model, &tokens[begin..end], end_before - begin);
            scored += end - end_before;
            end_before = end;
            if end == tokens.len() {
                break;
            }
        }
        assert_eq!(scored, tokens.len() - 1);
        for (chunk, piece) in [(1, 1), (3, 7), (64, 100)] {
            let (nll, predicted) = in_pieces(&model, &tokens, Context::Windows { length, stride }, chunk, piece);
            assert_eq!(predicted, scored, "{count} tokens in {length}, {stride}");
            worst = worst.max((nll - expected).abs() / expected);
        }
    }
    println!("largest relative difference {worst:e}");
    assert!(worst < 1e-6, "{worst}");
}

#[test]
fn windows_need_a_stride_that_leaves_context() {
    let model = model();
    for (length, stride) in [(16, 0), (16, 16), (16, 17), (1, 1), (0, 1)] {
        let said = Scorer::new(&model, Context::Windows { length, stride }, 8).expect_err("refused").to_string();
        assert!(said.starts_with("stride: ") && said.contains(&format!("windows of {length}")), "{said}");
    }
    assert!(Scorer::new(&model, Context::Carried, 0).is_err());
    assert!(score(&model, &[1], 8).expect_err("nothing to predict").to_string().contains("at least two"));
    assert!(score(&model, &[1, 300], 8).expect_err("unknown").to_string().contains("300"));
}

/// A text with all that a tokenizer may stumble over.
fn text() -> String {
    let line =
        "The dipper's nest, 3 m up; élan e\u{301} über  zwei   Räume,\tand (so) on.\n\n \u{a0}日本 の川 x 12 y  \n";
    line.repeat(40)
}

/// Every byte, then some words; tokens that begin with a space, and one that ends in one where asked for.
fn world(crossing: bool) -> WorldTokenizer {
    let mut file: String = (0..=255).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1)).collect();
    let mut lines = vec!["' nest' 5", "' zwei' 5", "'  ' 2", "'\\n\\n ' 3", "' a' 2", "' and' 4", "'so' 2", "' (' 2"];
    lines.extend(crossing.then_some("', and' 5"));
    for (id, line) in (257..).zip(lines) {
        file += &format!("{id} {line}\n");
    }
    WorldTokenizer::from_file(Path::new("world.txt"), file.as_bytes()).expect("a vocabulary")
}

fn neox() -> NeoxTokenizer {
    // The byte-level alphabet: printable bytes are themselves, the others follow U+0100.
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = 0x100..;
    let letter = |byte: u32| if printable(byte) { Some(byte) } else { others.next() };
    let mut tokens: Vec<String> = (0..=255).filter_map(letter).filter_map(char::from_u32).map(String::from).collect();
    let merges = ["Ġ n", "Ġ z", "e s", "Ġn es", "Ġ a", "Ġa n", "Ġan d", "Ċ Ċ", "Ġ Ġ"];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    tokens.push("<|endoftext|>".to_owned());
    let end = tokens.len() - 1;
    let vocab: serde_json::Map<String, serde_json::Value> =
        tokens.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    let byte_level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": {"type": "NFC"},
        "added_tokens": [{"id": end, "content": "<|endoftext|>", "special": true, "normalized": false,
                          "single_word": false, "lstrip": false, "rstrip": false}],
        "pre_tokenizer": byte_level, "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "vocab": vocab, "merges": merges},
    });
    NeoxTokenizer::from_file(Path::new("neox.json"), json.to_string().as_bytes()).expect("a tokenizer")
}

/// Gives few bytes at a time, so that a text is cut wherever it can be.
struct Drops<'a>(&'a [u8]);

impl std::io::Read for Drops<'_> {
    fn read(&mut self, block: &mut [u8]) -> std::io::Result<usize> {
        let (now, later) = self.0.split_at(self.0.len().min(block.len()).min(3));
        block[..now.len()].copy_from_slice(now);
        self.0 = later;
        Ok(now.len())
    }
}

#[test]
fn pieces_of_a_text_have_the_tokens_of_the_whole() {
    let model = model();
    let text = text();
    let chars = CharTokenizer::from_text(&text);
    let (neox, plain, crossing) = (neox(), world(false), world(true));
    let cases: [(&dyn Tokenizer, bool); 5] =
        [(&ByteTokenizer {}, true), (&chars, true), (&neox, true), (&plain, true), (&crossing, false)];
    for (tokenizer, cut) in cases {
        let scorer = TextScorer::new(&model, tokenizer, Context::Carried, None, 256).expect("a scorer");
        assert_eq!(scorer.reads_in_pieces(), cut, "{}", tokenizer.name());
        let mut heard = 0;
        let read = scorer.score("t", Drops(text.as_bytes()), &mut |_| heard += 1).expect("a score");
        assert_eq!(heard > 100, cut, "{}", tokenizer.name());
        let ids = tokenizer.encode(&text).expect("tokens");
        assert_eq!(read.predicted_tokens, ids.len() - 1, "{}", tokenizer.name());
        let whole = score(&model, &ids, 256).expect("a score").nll_nats;
        let apart = (read.nll_nats - whole).abs() / whole;
        assert!(apart < 1e-6, "{}: {} {whole}", tokenizer.name(), read.nll_nats);
        let first = tokenizer.decode(&ids[..1]).expect("bytes").len();
        assert_eq!(read.bytes, text.len() - first, "the first token is not predicted, so its bytes do not count");
    }
}

#[test]
fn a_token_before_the_text_makes_its_first_count() {
    let model = model();
    let scorer = TextScorer::new(&model, &ByteTokenizer {}, Context::Carried, Some(10), 256).expect("a scorer");
    let read = scorer.score("t", &b"one two\n"[..], &mut |_| ()).expect("a score");
    assert_eq!((read.predicted_tokens, read.bytes, read.words), (8, 8, 3));
    let ids: Vec<u32> = [10].into_iter().chain(b"one two\n".iter().map(|byte| u32::from(*byte))).collect();
    let whole = score(&model, &ids, 256).expect("a score").nll_nats;
    assert!((read.nll_nats - whole).abs() < 1e-6 * whole);
    let (bits, words) = (whole / 8.0 / 2f64.ln(), (whole / 3.0).exp());
    assert!((read.bits_per_byte() - bits).abs() < 1e-5 && (read.word_perplexity() / words - 1.0).abs() < 1e-5);
    let said = |text: &[u8]| scorer.score("t.txt", text, &mut |_| ()).expect_err("refused").to_string();
    assert_eq!(said(b""), "t.txt holds no text");
    assert_eq!(said(b"a\xff"), "t.txt is not UTF-8: byte 2 begins no character");
    let none = TextScorer::new(&model, &ByteTokenizer {}, Context::Carried, None, 256).expect("a scorer");
    let said = none.score("t.txt", &b"a"[..], &mut |_| ()).expect_err("one token").to_string();
    assert_eq!(said, "t.txt has one token only, and none before it");
}

#[test]
fn totals_are_sums_and_errors_are_over_texts() {
    let text = |nll_nats: f64, predicted_tokens: usize, bytes: usize| TextScore {
        name: String::new(),
        nll_nats,
        predicted_tokens,
        bytes,
        words: 1,
    };
    let texts = [text(20.0, 10, 40), text(90.0, 30, 100), text(40.0, 20, 90)];
    let total = Total::of(&texts).expect("texts");
    assert_eq!((total.documents, total.score.nll_nats, total.score.bytes), (3, 150.0, 230));
    assert_eq!(total.score.loss(), 2.5);
    // Residuals 20 − 25, 90 − 75, 40 − 50: √(3/2·(25 + 225 + 100))/60.
    let stderr = (1.5f64 * 350.0).sqrt() / 60.0;
    assert!((total.loss_stderr.expect("three texts") - stderr).abs() < 1e-12);
    assert_eq!(Total::of(&texts[..1]).expect("a text").loss_stderr, None);
    assert_eq!(Total::of(&[]), None);
    let equal = Total::of(&[texts[0].clone(), texts[0].clone()]).expect("texts");
    assert!(equal.loss_stderr.expect("two texts") < 1e-12);
}
