use super::{neox_json, world_file};
use rwkv_core::error::Error;
use rwkv_core::tokenizer::{AnyTokenizer, ByteTokenizer, CharTokenizer, Tokenizer};
use std::path::PathBuf;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join("tokenizer");
        std::fs::write(&path, content).expect("written");
        path
    }
}

#[test]
fn the_content_says_which_tokenizer_a_file_holds() {
    let folder = Folder::new();
    let load = |content: &str| AnyTokenizer::load(&folder.file(content)).expect("loads");
    assert!(matches!(load(r#"{"type":"byte"}"#), AnyTokenizer::Byte(_)));
    let chars = load(r#" {"type":"char","chars":["a","b"]}"#);
    assert_eq!((chars.name(), chars.vocab_size(), chars.end_of_text()), ("char", 2, None));
    let world = load(&world_file(&["'ab' 2"]));
    assert_eq!((world.name(), world.vocab_size(), world.end_of_text()), ("world", 258, Some(0)));
    let neox = load(&neox_json().to_string());
    assert_eq!((neox.name(), neox.vocab_size(), neox.end_of_text()), ("20b", 265, Some(0)));
    assert_ne!(neox.encode("a\n\n").expect("encodes"), neox.encode_prompt("a\n\n").expect("encodes"));
}

#[test]
fn a_saved_tokenizer_is_read_back() {
    let folder = Folder::new();
    let text = "aab  a\n\na é 日本\0\u{7f}'\"\\";
    for content in [world_file(&["'a ' 2", r"b'\xe6\x97' 2"]), neox_json().to_string()] {
        let first = AnyTokenizer::load(&folder.file(content)).expect("loads");
        let path = folder.0.path().join("again");
        first.save(&path).expect("saved");
        let second = AnyTokenizer::load(&path).expect("loads");
        assert_eq!((second.name(), second.vocab_size()), (first.name(), first.vocab_size()));
        let ids = first.encode(text).expect("encodes");
        assert_eq!(second.encode(text).expect("encodes"), ids);
        assert_eq!(second.decode(&ids).expect("known"), text.as_bytes());
    }
    // The form of small tokenizers is that of run directories and does not change.
    for (tokenizer, stored) in [
        (AnyTokenizer::from(ByteTokenizer {}), r#"{"type":"byte"}"#),
        (AnyTokenizer::from(CharTokenizer::from_text("ba")), r#"{"type":"char","chars":["a","b"]}"#),
    ] {
        let path = folder.0.path().join("small");
        tokenizer.save(&path).expect("saved");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), stored);
    }
}

#[test]
fn anything_else_is_refused_by_name() {
    let folder = Folder::new();
    for (content, what) in [
        (&b""[..], "no tokenizer"),
        (b"hello", "no tokenizer"),
        (b"\x80\x02", "no tokenizer"),
        (b"{", "not a tokenizer of this library"),
        (b"{}", "type"),
        (br#"{"type":"word"}"#, "word"),
        (br#"{"type":"char","chars":["a"],"more":1}"#, "more"),
        (br#"{"type":"char","chars":["b","a"]}"#, "out of order"),
        (br#"{"model":{"type":"BPE"}}"#, "tokenizer.json"),
        (b"1 'a' 2", "line 1"),
    ] {
        let path = folder.file(content);
        let error = AnyTokenizer::load(&path).expect_err("refused");
        let said = error.to_string();
        assert!(matches!(error, Error::Format { .. }), "{said}");
        assert!(said.starts_with(&path.display().to_string()) && said.contains(what), "{said}");
    }
    let error = AnyTokenizer::load(&folder.0.path().join("nothing")).expect_err("refused");
    assert!(matches!(error, Error::Io { .. }), "{error}");
}
