use super::{neox_from, neox_json, world};
use proptest::prelude::*;
use rwkv_core::tokenizer::{ByteTokenizer, TokenStream, Tokenizer, Utf8Stream};

/// The text that `ids` make one by one, and its pieces.
fn pieces(tokenizer: &dyn Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = TokenStream::new(tokenizer);
    let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).expect("known")).collect();
    pieces.push(stream.finish());
    pieces
}

#[test]
fn no_piece_ends_inside_a_character() {
    let neox = neox_from(&neox_json()).expect("a tokenizer");
    let world = world(&[r"b' \xf0\x9f' 3"]);
    let text = "a 😀é日";
    for tokenizer in [&neox as &dyn Tokenizer, &world, &ByteTokenizer {}] {
        let ids = tokenizer.encode(text).expect("encodes");
        let pieces = pieces(tokenizer, &ids);
        assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{}: {pieces:?}", tokenizer.name());
        assert_eq!(pieces.concat(), text, "{}", tokenizer.name());
    }
}

#[test]
fn a_cut_character_is_shown_at_the_end_only() {
    let tokenizer = ByteTokenizer {};
    assert_eq!(pieces(&tokenizer, &[0x61, 0xf0, 0x9f]), ["a", "", "", "\u{fffd}"]);
    assert_eq!(pieces(&tokenizer, &[0xf0, 0x9f, 0x61]), ["", "", "\u{fffd}a", ""], "it can no longer become one");
}

#[test]
fn an_unknown_token_is_an_error_and_the_stream_goes_on() {
    let tokenizer = ByteTokenizer {};
    let mut stream = TokenStream::new(&tokenizer);
    assert_eq!(stream.push(0xc3).expect("a byte"), "");
    assert!(stream.push(256).is_err());
    assert_eq!(stream.push(0xa9).expect("a byte"), "é");
}

proptest! {
    #[test]
    fn pieces_of_any_text_make_the_text(text in any::<String>(), cuts in prop::collection::vec(1usize..5, 1..60)) {
        let mut stream = Utf8Stream::default();
        let (mut bytes, mut read) = (text.as_bytes(), String::new());
        for length in cuts.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
            read += &stream.push(piece);
            bytes = rest;
        }
        prop_assert_eq!(stream.finish(), "");
        prop_assert_eq!(read, text);
    }

    #[test]
    fn pieces_of_any_bytes_are_those_of_the_whole(bytes in any::<Vec<u8>>()) {
        let ids: Vec<u32> = bytes.iter().map(|&byte| byte.into()).collect();
        prop_assert_eq!(pieces(&ByteTokenizer {}, &ids).concat(), String::from_utf8_lossy(&bytes));
    }
}
