//! The published vocabularies, where the environment names them: they are no part of the repository.

use rwkv_core::chat::{Format, introduction};
use rwkv_core::tokenizer::{AnyTokenizer, NeoxTokenizer, TokenStream, Tokenizer};
use std::io::Write;
use std::path::PathBuf;

/// The file that an environment variable names; otherwise a loud skip.
fn file(variable: &str) -> Option<PathBuf> {
    let file = std::env::var_os(variable).map(PathBuf::from);
    if file.is_none() {
        // Past the test harness, which keeps what tests that pass print.
        let line = format!("SKIPPED: set {variable} to the published file to test its known ids");
        writeln!(std::io::stderr(), "{line}").expect("stderr is open");
    }
    file
}

fn check(tokenizer: &dyn Tokenizer, vectors: &[(&str, &[u32])]) {
    for (text, ids) in vectors {
        assert_eq!(&tokenizer.encode(text).expect("encodes"), ids, "{text:?}");
    }
}

#[test]
fn the_20b_tokenizer_gives_the_known_ids() {
    let Some(file) = file("RWKV_20B_TOKENIZER") else { return };
    let tokenizer = NeoxTokenizer::load(&file).expect("loads");
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (50_277, Some(0)));
    check(
        &tokenizer,
        &[
            ("a  b", &[66, 50_276, 67]),
            ("x\n  y", &[89, 187, 50_276, 90]),
            ("\t\tx", &[186, 186, 89]),
            ("\t\t", &[623]), // at the end of a text only, as with newlines
            ("\n", &[187]),
            ("\nIn a", &[187, 688, 247]),
            ("\nThe following is a", &[187, 510, 1563, 310, 247]),
            ("a\n\nb", &[66, 187, 187, 67]),
            ("a\n\n", &[66, 535]),
            ("\r\n", &[2379]),
            ("don't", &[9903, 626]),
            ("😀", &[14_931, 235, 211]),
            ("日本", &[49_868]),
            ("e\u{301}", &[860]),
            ("Bob: hi\n\nAlice:", &[26_845, 27, 14_260, 187, 187, 2422, 547, 27]),
        ],
    );
    check(&tokenizer, &[(&" ".repeat(30), &[50_254, 50_272]), (&" ".repeat(24), &[50_254])]);
    assert_eq!(tokenizer.encode_prompt("a\n\n").expect("encodes"), [66, 187, 187]);
    assert_eq!(tokenizer.decode(&[245]).expect("known"), b"  ");
    assert_eq!(tokenizer.decode(&[0, 1]).expect("known"), b"");
    assert!(tokenizer.decode(&[50_277]).is_err());
    assert_eq!(streamed(&tokenizer, &[14_931, 235, 211]), ["", "", "😀"]);

    assert!(!tokenizer.encode("<|endoftext|>").expect("encodes").contains(&0));
    let official = tokenizer.with_control_tokens_in_text(true);
    assert_eq!(official.encode("<|endoftext|>").expect("encodes"), [0]);
}

/// A conversation is read turn by turn, and must be to the model what its whole text would be.
#[test]
fn turns_encode_like_the_whole_conversation() {
    let introduction = introduction("Bob and Alice are friends.\n\nBob: Hi.\n\nAlice: Hello! How are you?");
    for (variable, formats) in [
        ("RWKV_20B_TOKENIZER", [(Format::Raven, introduction.as_str()), (Format::RavenInstruct, "")]),
        ("RWKV_WORLD_VOCAB", [(Format::World, Format::World.introduction()), (Format::WorldQuestion, "")]),
    ] {
        let Some(file) = file(variable) else { continue };
        let tokenizer = AnyTokenizer::load(&file).expect("loads");
        for (format, introduction) in formats {
            let prompt = format.prompt("Why is\nthe sky blue? 😀", "");
            let turns = [introduction, &prompt, " It scatters.", "\n\n", &prompt];
            let ids = turns.map(|turn| tokenizer.encode_prompt(turn).expect("encodes")).concat();
            assert_eq!(ids, tokenizer.encode_prompt(&turns.concat()).expect("encodes"), "{}", format.name());
        }
    }
}

#[test]
fn the_world_vocabulary_gives_the_known_ids() {
    let Some(file) = file("RWKV_WORLD_VOCAB") else { return };
    let tokenizer = AnyTokenizer::load(&file).expect("loads");
    assert_eq!((tokenizer.name(), tokenizer.vocab_size(), tokenizer.end_of_text()), ("world", 65_530, Some(0)));
    check(
        &tokenizer,
        &[
            ("<|endoftext|>", &[61, 125, 25_258, 7588, 2318, 125, 63]),
            ("2023", &[640, 643]),
            ("100", &[630, 49]),
            ("\n", &[11]),
            ("\n\n", &[261]),
            ("\n\n\n", &[3328]),
            ("\n\n\t", &[3327]),
            (" \n\n", &[3336]),
            ("\r\n", &[263]),
            (" ", &[33]),
            ("  ", &[267]),
            ("User", &[24_281]),
            ("Assistant", &[5585, 41_693]),
            (":", &[59]),
            ("User: hi\n\nAssistant:", &[24_281, 59, 4571, 261, 5585, 41_693, 59]),
            ("😀", &[3319, 153, 129]),
            ("日本語", &[13_053, 13_205, 16_592]),
            ("e\u{301}", &[102, 2672]),
        ],
    );
    let AnyTokenizer::World(world) = &tokenizer else { panic!("a World vocabulary") };
    assert_eq!(world.encode_bytes(b"\xff\xfe"), [256, 255]);
    for byte in 0..=255u8 {
        assert_eq!(world.encode_bytes(&[byte]), [u32::from(byte) + 1]);
    }
    // Every token is what its own bytes begin with, so it encodes to itself.
    for id in 1..65_530 {
        assert_eq!(world.encode_bytes(&world.decode(&[id]).expect("known")), [id]);
    }
    assert_eq!(world.decode(&[65_529]).expect("known").len(), 128);
    assert!(world.decode(&[65_530]).is_err());
    assert_eq!(world.encode_prompt("a\n\n").expect("encodes"), world.encode("a\n\n").expect("encodes"));
    tokenizer.check_fits(65_536).expect("the models have more rows");
    assert_eq!(streamed(&tokenizer, &[3319, 153, 129]), ["", "", "😀"]);

    // The other published copy of the file ends its lines with CRLF.
    let crlf = std::fs::read_to_string(&file).expect("read").replace("\r\n", "\n").replace('\n', "\r\n");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("crlf.txt");
    std::fs::write(&path, crlf).expect("written");
    let crlf = AnyTokenizer::load(&path).expect("loads");
    let ids: Vec<u32> = (1..65_530).collect();
    assert_eq!(crlf.decode(&ids).expect("known"), tokenizer.decode(&ids).expect("known"));
}

fn streamed(tokenizer: &dyn Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = TokenStream::new(tokenizer);
    ids.iter().map(|&id| stream.push(id).expect("known")).collect()
}
