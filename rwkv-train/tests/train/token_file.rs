//! Token files: what another writer made, what ours makes, and what damage is told.

use rwkv_train::data::{Dataset, Order, TokenFile, TokenFileWriter, TokenType, Tokens, WindowOptions, Written};
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/binidx").join(name)
}

/// The documents of `make_binidx.py`.
fn documents(name: &str) -> (TokenType, Vec<Vec<u32>>) {
    match name {
        "uint8" => (TokenType::U8, vec![vec![1, 2, 255, 0], vec![0], vec![3, 0]]),
        "uint16" => {
            let long = (1..40).chain([0]).collect();
            (TokenType::U16, vec![vec![510, 65529, 65535, 7, 0], vec![0], vec![1, 256, 0], long])
        }
        _ => (TokenType::I32, vec![vec![70000, 0x7fff_ffff, 1, 0], vec![65536, 0]]),
    }
}

fn write(prefix: &Path, token_type: TokenType, documents: &[Vec<u32>]) -> Written {
    let mut writer = TokenFileWriter::create(prefix, token_type).expect("a new file");
    documents.iter().for_each(|document| writer.push(document).expect("ids that fit"));
    writer.finish().expect("written")
}

fn bytes(prefix: &Path) -> [Vec<u8>; 2] {
    ["bin", "idx"].map(|extension| std::fs::read(prefix.with_extension(extension)).expect("written"))
}

#[test]
fn files_of_another_writer_open_here_and_ours_are_the_same_bytes() {
    for name in ["uint8", "uint16", "int32"] {
        let (token_type, documents) = documents(name);
        let file = TokenFile::open(&fixture(name)).expect("a good file");
        let ids = documents.concat();
        assert_eq!((file.token_type(), file.len(), file.documents()), (token_type, ids.len(), documents.len()));
        assert_eq!(file.get(0, ids.len()), ids);
        assert_eq!(file.get(2, 3), ids[2..5]);
        let starts: Vec<usize> = documents
            .iter()
            .scan(0, |at, document| {
                *at += document.len();
                Some(*at - document.len())
            })
            .collect();
        assert_eq!(file.document_starts(0, ids.len()).collect::<Vec<_>>(), starts);
        assert_eq!(file.document_starts(1, ids.len() - 1).collect::<Vec<_>>(), starts[1..]);

        let folder = tempfile::tempdir().expect("a folder");
        let prefix = folder.path().join("ours");
        let written = write(&prefix, token_type, &documents);
        assert_eq!(written, Written { documents: documents.len() as u64, tokens: ids.len() as u64 });
        assert!(bytes(&prefix) == bytes(&fixture(name)), "{name}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left beside");
    }
    assert_eq!(TokenFile::open(&fixture("uint16.bin")).expect("by either name").len(), 49);
}

#[test]
fn a_writer_goes_on_where_it_was_synced() {
    let (token_type, documents) = documents("uint16");
    for lost in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = folder.path().join("ours");
        let mut writer = TokenFileWriter::create(&prefix, token_type).expect("a new file");
        documents[..2].iter().for_each(|document| writer.push(document).expect("fits"));
        let written = writer.sync().expect("synced");
        writer.push(&[9; 1000]).expect("fits");
        drop(writer);
        if lost {
            // As if the process had ended between the two renames of `finish`.
            std::fs::rename(folder.path().join("ours.bin.partial"), folder.path().join("ours.bin")).expect("renamed");
        }
        assert!(lost || TokenFileWriter::create(&prefix, token_type).is_err(), "what is there is not overwritten");
        let mut writer = TokenFileWriter::resume(&prefix, token_type, written).expect("all there");
        documents[2..].iter().for_each(|document| writer.push(document).expect("fits"));
        writer.finish().expect("written");
        assert!(bytes(&prefix) == bytes(&fixture("uint16")));
        assert!(TokenFileWriter::create(&prefix, token_type).is_err(), "a finished file is not overwritten");
        assert!(TokenFileWriter::resume(&prefix, token_type, written).is_err(), "or taken up again");
    }
}

#[test]
fn a_writer_refuses_what_the_format_cannot_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, token_type, id) in
        [("a", TokenType::U8, 256), ("b", TokenType::U16, 65_536), ("c", TokenType::I32, 0x8000_0000)]
    {
        let mut writer = TokenFileWriter::create(&folder.path().join(name), token_type).expect("a new file");
        writer.push(&[id - 1]).expect("the largest");
        let said = writer.push(&[1, id]).expect_err("too large").to_string();
        assert!(said.contains(&format!("token {id} at offset 2")), "{said}");
        writer.discard().expect("removed");
    }
    let said = TokenFileWriter::create(&folder.path().join("d"), TokenType::U8).expect("new").finish();
    assert!(said.expect_err("empty").to_string().contains("would have no tokens"));
}

/// A copy of a fixture with some bytes of its index replaced.
fn damaged(name: &str, at: usize, with: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let [bin, mut idx] = bytes(&fixture(name));
    idx[at..at + with.len()].copy_from_slice(with);
    std::fs::write(folder.path().join("x.bin"), bin).expect("written");
    std::fs::write(folder.path().join("x.idx"), idx).expect("written");
    TokenFile::open(&folder.path().join("x")).expect_err("damaged").to_string()
}

#[test]
fn every_number_of_the_index_is_checked() {
    // Of `uint16`: four sequences and five entries of documents; the tables begin at 34, 50 and 82.
    let cases: [(usize, &[u8], &str); 15] = [
        (0, b"TNTIDX", "magic"),
        (9, &[2], "version: expected 1, found 2"),
        (17, &[5], "found 5 (i64)"),
        (17, &[7], "found 7 (a float)"),
        (17, &[99], "found 99, which is no type"),
        (18, &[5], "byte 18: length of the file"),
        (18, &[255; 8], "byte 18: length of the file"),
        (26, &[255; 8], "byte 18: length of the file"),
        (34, &[6], "byte 58: beginning of a sequence: expected 12, where the one before ends, found 10"),
        (34, &[255; 4], "byte 34: length of a sequence: expected at most 49, what the .bin has left, found -1"),
        (46, &[41], "byte 46: length of a sequence: expected at most 40"),
        (46, &[39], "length of all sequences: expected 98 bytes, as the .bin has, found 96 bytes"),
        (50, &[2], "byte 50: beginning of a sequence: expected 0"),
        (90, &[5], "byte 90: first sequence of a document: expected 0 to 4, found 5"),
        (106, &[1], "byte 106: first sequence of a document: expected 2 to 4, found 1"),
    ];
    for (at, with, words) in cases {
        let said = damaged("uint16", at, with);
        assert!(said.contains(words) && said.contains("x.idx"), "{at}: {said}");
    }
    assert!(damaged("uint16", 17, &[4]).contains("beginning of a sequence"), "another width");
}

#[test]
fn no_damage_panics() {
    for name in ["uint8", "uint16", "int32"] {
        let [bin, idx] = bytes(&fixture(name));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("x.bin"), &bin).expect("written");
        let open = |idx: &[u8]| {
            std::fs::write(folder.path().join("x.idx"), idx).expect("written");
            if let Ok(file) = TokenFile::open(&folder.path().join("x")) {
                let _ = (file.get(0, file.len()), file.document_starts(0, file.len()).count());
            }
        };
        for at in 0..idx.len() {
            for value in [0, 3, 255] {
                let mut idx = idx.clone();
                idx[at] = value;
                open(&idx);
            }
            open(&idx[..at]);
        }
        for length in 0..bin.len() {
            std::fs::write(folder.path().join("x.bin"), &bin[..length]).expect("written");
            open(&idx);
        }
        assert!(TokenFile::open(&folder.path().join("y")).is_err());
    }
}

#[test]
fn ids_are_checked_once_and_the_first_bad_one_is_named() {
    let tokens = Tokens::open(&fixture("uint16")).expect("a good file");
    tokens.check_ids(65_536).expect("all inside");
    let said = tokens.check_ids(65_529).expect_err("two outside").to_string();
    assert!(said.contains("uint16.bin: token 65529 at offset 1 is outside the vocabulary of 65529"), "{said}");
    let said = tokens.slice(2..40).check_ids(300).expect_err("one outside").to_string();
    assert!(said.contains("token 65535 at offset 2 "), "offsets are the file's: {said}");

    // Long enough for several threads; the first of two is named whoever finds its own first.
    let mut ids = vec![1; 5 << 20];
    (ids[3 << 20], ids[(5 << 20) - 1]) = (8, 9);
    let said = Tokens::from(ids).check_ids(8).expect_err("two outside").to_string();
    assert!(said.contains("token 8 at offset 3145728 "), "{said}");

    // A negative number in an i32 file.
    let folder = tempfile::tempdir().expect("a folder");
    let [mut bin, idx] = bytes(&fixture("int32"));
    bin[4..8].copy_from_slice(&(-5i32).to_le_bytes());
    std::fs::write(folder.path().join("x.bin"), bin).expect("written");
    std::fs::write(folder.path().join("x.idx"), idx).expect("written");
    let tokens = Tokens::open(&folder.path().join("x")).expect("a good index");
    let said = tokens.check_ids(1 << 31).expect_err("negative").to_string();
    assert!(said.contains("token -5 at offset 1 "), "{said}");
}

#[test]
fn a_dataset_of_files_holds_out_a_tail_or_another_file() {
    let options = WindowOptions { order: Order::Sequential, document_reset: true, ..WindowOptions::new(4, 0) };
    let (train, val) = (fixture("uint16"), fixture("uint8"));
    let split = Dataset::from_files(&train, None, 0.5, 65_536, options).expect("long enough");
    assert_eq!((split.train.len(), split.val.len()), (5, 6));
    assert_eq!(split.val.in_order(0).tokens, [16, 17, 18, 19, 20], "the second half of 49 tokens");
    let first = split.train.sample(1);
    assert_eq!((first.tokens, first.resets), (vec![0, 0, 1, 256, 0], vec![1, 2]));
    assert_eq!(first.weights, Some(vec![0.0, 0.0, 1.0, 1.0]));
    let two = Dataset::from_files(&train, Some(&val), 0.5, 65_536, options).expect("long enough");
    assert_eq!((two.train.len(), two.val.len()), (12, 1));
    let said = Dataset::from_files(&train, None, 0.5, 65_535, options).err().expect("outside").to_string();
    assert!(said.contains("token 65535 at offset 2"), "{said}");
}
