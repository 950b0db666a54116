use super::{world, world_file};
use proptest::prelude::*;
use rwkv_core::error::Error;
use rwkv_core::tokenizer::{Tokenizer, WorldTokenizer};
use std::path::Path;

/// Why a file is refused.
fn refusal(file: &[u8]) -> String {
    let error = WorldTokenizer::from_file(Path::new("world.txt"), file).expect_err("refused");
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.starts_with("world.txt "), "{said}");
    said
}

#[test]
fn the_longest_token_wins_from_left_to_right() {
    let tokenizer = world(&["'ab' 2", "'abcd' 4", "'bc' 2", "'bcd' 3"]);
    let encode = |text: &str| tokenizer.encode(text).expect("any text");
    let byte = |byte: u8| u32::from(byte) + 1;
    assert_eq!(encode("abcd"), [258]);
    assert_eq!(encode("abc"), [257, byte(b'c')], "greedy: not a|bc");
    assert_eq!(encode("bcde"), [260, byte(b'e')]);
    assert_eq!(encode("abcabcd"), [257, byte(b'c'), 258]);
    assert_eq!(encode(""), Vec::<u32>::new());
    assert_eq!(encode("é"), [byte(0xc3), byte(0xa9)]);
    assert_eq!(tokenizer.encode_bytes(b"\xff\xfe"), [256, 255]);
}

#[test]
fn literals_are_what_python_reads() {
    let tokenizer = world(&[
        "'  two  spaces  ' 15",
        r"b'\xe6\x97' 2",
        r"'\u65e5' 3",
        "'日本' 6",
        r#"'say "hi" \'\\' 11"#,
        r"'\x80' 2",
        r"'\n\n' 2",
        r#""it's" 4"#,
    ]);
    let bytes = |id: u32| tokenizer.decode(&[id]).expect("known");
    assert_eq!(bytes(257), b"  two  spaces  ");
    assert_eq!(bytes(258), b"\xe6\x97");
    assert_eq!(bytes(259), "日".as_bytes());
    assert_eq!(bytes(260), "日本".as_bytes());
    assert_eq!(bytes(261), br#"say "hi" '\"#);
    assert_eq!(bytes(262), "\u{80}".as_bytes());
    assert_eq!(bytes(263), b"\n\n");
    assert_eq!(bytes(264), b"it's");
    assert_eq!(tokenizer.encode("日本日").expect("any text"), [260, 259]);
}

#[test]
fn line_ends_do_not_matter() {
    let file = world_file(&[r"'\r\n' 2", "'x ' 2"]);
    let crlf = file.replace('\n', "\r\n");
    let unfinished = file.trim_end();
    for file in [crlf.as_str(), unfinished] {
        let tokenizer = WorldTokenizer::from_file(Path::new("world.txt"), file.as_bytes()).expect("a vocabulary");
        assert_eq!(tokenizer.vocab_size(), 259);
        assert_eq!(tokenizer.encode("x \r\n").expect("any text"), [258, 257]);
    }
}

#[test]
fn a_bad_line_is_named() {
    let line_257 = |line: &str| {
        let said = refusal(format!("{}{line}\n", world_file(&[])).as_bytes());
        assert!(said.contains("line 257: "), "{line}: {said}");
        said
    };
    assert!(line_257("").contains("an id, a literal and a length"));
    assert!(line_257("257").contains("an id, a literal and a length"));
    assert!(line_257("257 'ab'").contains("an id, a literal and a length"));
    assert!(line_257("258 'ab' 2").contains("expected the id 257, found \"258\""));
    assert!(line_257("x 'ab' 2").contains("expected the id 257"));
    assert!(line_257("-1 'ab' 2").contains("expected the id 257"));
    assert!(line_257("257 ab 2").contains("quotation mark"));
    assert!(line_257("257 'ab 2").contains("quotation mark"));
    assert!(line_257(r"257 '\q' 1").contains(r"\q"));
    assert!(line_257("257 'é' 1").contains("2 bytes"));
    assert!(line_257("257 'ab' two").contains("\"two\""));
    assert!(line_257("257 'ab' 99999999999999999999999").contains("length"));
    assert!(line_257("257 '' 0").contains("empty"));
    assert!(line_257("257 'A' 1").contains("line 66"), "the byte A has the token already");
    let broken = [world_file(&["'ab' 2"]).as_bytes(), b"258 '\xff' 1\n"].concat();
    assert!(refusal(&broken).contains("line 258: is not UTF-8"));
}

#[test]
fn a_vocabulary_without_some_byte_is_refused() {
    let file: String = (0..=254).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1)).collect();
    assert!(refusal(file.as_bytes()).contains("0xff"));
    assert!(refusal(b"").contains("0x00"));
    // A longer token that begins with it does not make up for it.
    assert!(refusal(format!("{file}256 b'\\xff\\xff' 2\n").as_bytes()).contains("0xff"));
}

#[test]
fn the_end_of_a_text_is_never_encoded_and_decodes_to_nothing() {
    let tokenizer = world(&["'<|' 2"]);
    assert_eq!(tokenizer.end_of_text(), Some(0));
    assert!(!tokenizer.encode("<|endoftext|>\0").expect("any text").contains(&0));
    assert_eq!(tokenizer.decode(&[0, 66, 0]).expect("known"), b"A");
    let error = tokenizer.decode(&[66, 258]).expect_err("unknown");
    assert!(matches!(error, Error::UnknownToken { token: 258, position: 1, vocab_size: 258 }), "{error:?}");
}

#[test]
fn unused_rows_of_the_model_are_fine_and_missing_ones_are_not() {
    let tokenizer = world(&[]);
    tokenizer.check_fits(257).expect("as many");
    tokenizer.check_fits(65_536).expect("more");
    let said = tokenizer.check_fits(256).expect_err("fewer").to_string();
    assert!(said.contains("256") && said.contains("257") && said.contains("world"), "{said}");
}

/// Tokens over few bytes, so that many begin one another.
fn vocabulary() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let token = prop::collection::vec(prop::sample::select(&b"ab \n\xe6\x97"[..]), 2..7);
    prop::collection::btree_set(token, 0..60).prop_map(|tokens| tokens.into_iter().collect())
}

/// Greedy longest match as its definition says it, in quadratic time.
fn greedy(vocabulary: &[Vec<u8>], mut bytes: &[u8]) -> Vec<u32> {
    let mut ids = Vec::new();
    while let Some(&first) = bytes.first() {
        let longest = (257..).zip(vocabulary).filter(|(_, token)| bytes.starts_with(token));
        let (id, length) = longest
            .max_by_key(|(_, token)| token.len())
            .map_or((u32::from(first) + 1, 1), |(id, token)| (id, token.len()));
        ids.push(id);
        bytes = &bytes[length..];
    }
    ids
}

fn tokenizer(vocabulary: &[Vec<u8>]) -> WorldTokenizer {
    let lines: Vec<String> = vocabulary
        .iter()
        .map(|token| {
            let escaped: String = token.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("b'{escaped}' {}", token.len())
        })
        .collect();
    world(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn the_trie_is_the_definition(
        vocabulary in vocabulary(),
        bytes in prop::collection::vec(prop::sample::select(&b"ab \n\xe6\x97z"[..]), 0..200),
    ) {
        prop_assert_eq!(tokenizer(&vocabulary).encode_bytes(&bytes), greedy(&vocabulary, &bytes));
    }

    #[test]
    fn any_text_comes_back(vocabulary in vocabulary(), text in any::<String>()) {
        let tokenizer = tokenizer(&vocabulary);
        let ids = tokenizer.encode(&text).expect("any text");
        prop_assert_eq!(tokenizer.decode(&ids).expect("own ids"), text.as_bytes());
    }

    #[test]
    fn no_file_makes_the_parser_panic(line in "\\PC{0,40}") {
        let _ = WorldTokenizer::from_file(Path::new("world.txt"), world_file(&[&line]).as_bytes());
    }
}
