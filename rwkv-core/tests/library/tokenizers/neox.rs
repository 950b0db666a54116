use super::{neox_from, neox_json};
use proptest::prelude::*;
use rwkv_core::error::Error;
use rwkv_core::tokenizer::{NeoxTokenizer, Tokenizer};
use std::path::Path;

fn tokenizer() -> NeoxTokenizer {
    neox_from(&neox_json()).expect("a tokenizer")
}

fn id(token: &str) -> u32 {
    let json = neox_json();
    let id = json["model"]["vocab"][token].as_u64().unwrap_or_else(|| panic!("{token} is in the vocabulary"));
    u32::try_from(id).expect("small")
}

#[test]
fn runs_of_spaces_are_tokens_and_take_no_part_in_words() {
    let tokenizer = tokenizer();
    let three = tokenizer.vocab_size() as u32 - 2;
    let two = three + 1;
    let encode = |text: &str| tokenizer.encode(text).expect("encodes");
    assert_eq!(encode("hi a"), [id("hi"), id("Ġa")]);
    assert_eq!(encode("hi  a"), [id("hi"), two, id("a")], "the second space is not the word's");
    assert_eq!(encode("     "), [three, two], "the longest run first");
    assert_eq!(tokenizer.decode(&[id("hi"), three, two]).expect("known"), b"hi     ");
}

#[test]
fn only_a_prompt_gets_two_newlines_at_its_end() {
    let tokenizer = tokenizer();
    let (one, two) = (id("Ċ"), id("ĊĊ"));
    assert_eq!(tokenizer.encode("a\n\na").expect("encodes"), [id("a"), one, one, id("a")]);
    assert_eq!(tokenizer.encode("a\n\n").expect("encodes"), [id("a"), two]);
    assert_eq!(tokenizer.encode_prompt("a\n\n").expect("encodes"), [id("a"), one, one]);
    assert_eq!(tokenizer.encode_prompt("a\n").expect("encodes"), [id("a"), one]);
    assert_eq!(tokenizer.encode_prompt("").expect("encodes"), Vec::<u32>::new());
}

#[test]
fn control_tokens_in_text_are_text_unless_asked_for() {
    let text = "hi<|endoftext|><|padding|>";
    let ids = tokenizer().encode(text).expect("encodes");
    assert!(!ids.contains(&0) && !ids.contains(&1), "{ids:?}");
    assert_eq!(tokenizer().decode(&ids).expect("known"), text.as_bytes());
    let ids = tokenizer().with_control_tokens_in_text(true).encode(text).expect("encodes");
    assert_eq!(ids, [id("hi"), 0, 1]);
    assert_eq!(tokenizer().decode(&ids).expect("known"), b"hi", "control tokens are no text");
    assert_eq!(tokenizer().end_of_text(), Some(0));
}

#[test]
fn text_is_composed_first() {
    assert_eq!(tokenizer().encode("e\u{301}").expect("encodes"), tokenizer().encode("é").expect("encodes"));
    assert_eq!(tokenizer().encode("é").expect("encodes"), [id("Ã©")]);
}

#[test]
fn a_token_inside_a_character_decodes_to_its_bytes() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("😀").expect("encodes");
    assert_eq!(ids[0], id("ðŁ"));
    let pieces: Vec<Vec<u8>> = ids.iter().map(|&id| tokenizer.decode(&[id]).expect("known")).collect();
    assert_eq!(pieces, [b"\xf0\x9f".to_vec(), b"\x98".to_vec(), b"\x80".to_vec()]);
    let all: Vec<u8> = (2..258).flat_map(|id| tokenizer.decode(&[id]).expect("known")).collect();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..=255).collect::<Vec<u8>>(), "every byte has its token");
    let error = tokenizer.decode(&[tokenizer.vocab_size() as u32]).expect_err("unknown");
    assert!(matches!(error, Error::UnknownToken { position: 0, .. }), "{error:?}");
}

/// The regular expression engine gives up on hard texts, and the rest would then be one word.
#[test]
fn long_runs_of_blanks_are_split_like_short_ones() {
    let tokenizer = tokenizer();
    for blanks in [1_000, 300_000] {
        let ids = tokenizer.encode(&format!("{}a", "\n".repeat(2 * blanks + 1))).expect("encodes");
        assert_eq!(ids.len(), blanks + 2, "pairs, the newline before the word, the word");
        assert_eq!(ids[..blanks], vec![id("ĊĊ"); blanks]);
        assert_eq!(ids[blanks..], [id("Ċ"), id("a")]);
    }
}

#[test]
fn a_file_that_would_cut_or_fill_texts_does_not() {
    let mut json = neox_json();
    json["truncation"] =
        serde_json::json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
    json["padding"] = serde_json::json!({
        "strategy": { "Fixed": 8 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 1, "pad_type_id": 0,
        "pad_token": "<|padding|>",
    });
    assert_eq!(neox_from(&json).expect("a tokenizer").encode("aaaa").expect("encodes"), [id("a"); 4]);
}

#[test]
fn other_tokenizers_are_refused() {
    let refusal = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = neox_json();
        change(&mut json);
        let said = neox_from(&json).expect_err("refused").to_string();
        assert!(said.starts_with("neox.json "), "{said}");
        said
    };
    let part = |kind: &str| serde_json::json!({ "type": kind });
    assert!(refusal(&|json| json["decoder"] = serde_json::Value::Null).contains("decoder"));
    assert!(refusal(&|json| json["decoder"] = part("Fuse")).contains("Fuse"));
    assert!(refusal(&|json| json["pre_tokenizer"] = part("Whitespace")).contains("Whitespace"));
    assert!(refusal(&|json| json["normalizer"] = part("NFKC")).contains("NFKC"));
    assert!(refusal(&|json| json["model"]["type"] = "WordLevel".into()).contains("WordLevel"));
    assert!(refusal(&|json| json["model"]["dropout"] = 0.1.into()).contains("model.dropout"));
    assert!(refusal(&|json| json["model"]["unk_token"] = "?".into()).contains("model.unk_token"));
    assert!(refusal(&|json| json["model"]["byte_fallback"] = true.into()).contains("model.byte_fallback"));
    assert!(refusal(&|json| json["model"] = serde_json::json!({})).contains("vocab"));
}

#[test]
fn files_that_contradict_themselves_are_refused() {
    let refusal = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = neox_json();
        change(&mut json);
        neox_from(&json).expect_err("refused").to_string()
    };
    assert!(refusal(&|json| json["model"]["vocab"]["日"] = 265.into()).contains("日"));
    assert!(refusal(&|json| json["model"]["vocab"]["zz"] = 263.into()).contains("added token"));
    assert!(refusal(&|json| json["model"]["vocab"]["zz"] = 9999.into()).contains("no token with the id 265"));
    assert!(refusal(&|json| json["model"]["vocab"]["zz"] = 7.into()).contains("two tokens with the id 7"));
    assert!(refusal(&|json| json["model"]["merges"] = serde_json::json!(["q"])).contains("two tokens"));
    assert!(refusal(&|json| json["model"]["merges"] = serde_json::json!(["q qq"])).contains("\"qq\""));
    assert!(refusal(&|json| json["model"]["merges"] = serde_json::json!([["q", "u"]])).contains("\"qu\""));
    assert!(refusal(&|json| json["added_tokens"][2]["content"] = "".into()).contains("263"));
    assert!(refusal(&|json| json["added_tokens"][2]["content"] = "hi".into()).contains("\"hi\""));
    assert!(refusal(&|json| json["added_tokens"][0]["id"] = "0".into()).contains("tokenizer.json"));
}

#[test]
fn merges_may_be_written_as_pairs_and_normalisation_left_out() {
    let mut json = neox_json();
    let merges = json["model"]["merges"].as_array().expect("merges").clone();
    let pairs = merges.iter().map(|merge| merge.as_str().expect("text").split(' ').collect::<Vec<_>>());
    json["model"]["merges"] = pairs.collect::<Vec<_>>().into();
    let text = "hi a\n\na  é😀";
    let same = neox_from(&json).expect("a tokenizer").encode(text).expect("encodes");
    assert_eq!(same, tokenizer().encode(text).expect("encodes"));
    json["normalizer"] = serde_json::Value::Null;
    let ids = neox_from(&json).expect("a tokenizer").encode("e\u{301}").expect("encodes");
    assert_eq!(ids, [id("e"), id("Ì"), id("ģ")]);
}

proptest! {
    /// Over characters that NFC leaves alone, whatever stands beside them.
    #[test]
    fn composed_text_comes_back(text in "[ \\t\\n\\x00-\\x7fäéßñжЯ日本語한글😀👍🏽]{0,80}") {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&text).expect("encodes");
        prop_assert_eq!(tokenizer.decode(&ids).expect("own ids"), text.as_bytes());
    }

    /// A damaged file is refused, or still a tokenizer that does its work.
    #[test]
    fn no_file_makes_the_parser_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut json = neox_json().to_string().into_bytes();
        for (place, byte) in damage {
            let place = place.index(json.len());
            json[place] = byte;
        }
        if let Some(cut) = cut {
            json.truncate(cut.index(json.len()));
        }
        if let Ok(tokenizer) = NeoxTokenizer::from_file(Path::new("neox.json"), &json) {
            let ids = tokenizer.encode("hi  a\n\n😀").expect("encodes");
            tokenizer.decode(&ids).expect("own ids");
        }
    }
}
