//! Conversations: where replies end, what the state is then, and that retries and forks are exact.

use burn::backend::Flex;
use burn::module::Param;
use burn::tensor::Tensor;
use rwkv_core::chat::{Conversation, Ending, Format, Partner, Reply, Settings, newline_bias};
use rwkv_core::config::RwkvConfig;
use rwkv_core::error::{Error, Result};
use rwkv_core::generate::SamplerConfig;
use rwkv_core::generate::prefill;
use rwkv_core::model::{Projection, Rwkv};
use rwkv_core::state::State;
use rwkv_core::tokenizer::{ByteTokenizer, Tokenizer, WorldTokenizer};
use std::path::Path;

type B = Flex;

fn model(vocab_size: usize) -> Rwkv<B> {
    Rwkv::new(&RwkvConfig::new(vocab_size, 2, 16), 7, &Default::default())
}

/// A model whose logits are these whatever it reads, and 0 for every other token.
fn stubborn(vocab_size: usize, logits: &[(u32, f32)]) -> Rwkv<B> {
    let mut model = model(vocab_size);
    let device = Default::default();
    let width = model.config().n_embd;
    let mut row = vec![0.0; vocab_size];
    for &(token, logit) in logits {
        row[token as usize] = logit / width as f32;
    }
    // The last norm gives ones, so a logit is the sum of its column.
    model.ln_out.gamma = Param::from_tensor(Tensor::zeros([width], &device));
    model.ln_out.beta = Some(Param::from_tensor(Tensor::ones([width], &device)));
    let row = Tensor::<B, 1>::from_floats(row.as_slice(), &device).unsqueeze::<2>();
    model.head = Some(Projection::from_weight(Param::from_tensor(row.repeat_dim(0, width))));
    model
}

fn greedy(max_tokens: usize) -> Settings {
    Settings { sampler: SamplerConfig::greedy(), max_tokens, newline_bias: false, ..Settings::default() }
}

fn drawn(seed: u64) -> Settings {
    Settings { sampler: SamplerConfig::plain(1.0, 1.0, 0), max_tokens: 12, seed, ..Settings::default() }
}

fn begin(partner: &Partner<'_, B>) -> Conversation<B> {
    Conversation::new(partner, Format::World, "User: hi\n\nAssistant: Hi.\n\n").expect("bytes")
}

fn say(conversation: &mut Conversation<B>, partner: &Partner<'_, B>, message: &str) -> Reply {
    conversation.say(partner, message, |_| Ok::<(), Error>(())).expect("a reply")
}

fn retry(conversation: &mut Conversation<B>, partner: &Partner<'_, B>) -> Reply {
    conversation.retry(partner, |_| Ok::<(), Error>(())).expect("a reply")
}

/// Every number of a state, to the last bit.
fn bits(state: &State<B>) -> Vec<u32> {
    let layer = |layer: &rwkv_core::state::LayerState<B>| -> Vec<f32> {
        let vectors =
            [layer.att_x.clone().into_data(), layer.ffn_x.clone().into_data(), layer.memory.clone().into_data()];
        vectors.iter().flat_map(|data| data.iter::<f32>().collect::<Vec<_>>()).collect()
    };
    state.layers.iter().flat_map(layer).map(f32::to_bits).collect()
}

/// The state after texts that are read one by one.
fn after(model: &Rwkv<B>, tokenizer: &dyn Tokenizer, texts: &[&str]) -> State<B> {
    texts.iter().fold(model.zero_state(1), |state, text| {
        prefill(model, state, &tokenizer.encode(text).expect("bytes")).expect("tokens").1
    })
}

#[test]
fn a_reply_ends_at_an_empty_line_which_the_model_has_read() {
    let model = stubborn(256, &[(u32::from(b'\n'), 1.0)]);
    let partner = Partner::new(&model, &ByteTokenizer {}, greedy(50)).expect("fits");
    let mut conversation = Conversation::new(&partner, Format::Raven, "").expect("no text");
    let reply = say(&mut conversation, &partner, "hi");
    assert_eq!(reply, Reply { text: String::new(), tokens: vec![10, 10], ending: Ending::Stop });
    let expected = after(&model, &ByteTokenizer {}, &["Bob: hi\n\nAlice:", "\n", "\n"]);
    assert_eq!(bits(conversation.state()), bits(&expected));
}

#[test]
fn instructions_are_answered_in_paragraphs() {
    let model = stubborn(256, &[(u32::from(b'\n'), 1.0)]);
    let partner = Partner::new(&model, &ByteTokenizer {}, greedy(5)).expect("fits");
    let mut conversation = Conversation::new(&partner, Format::RavenInstruct, "").expect("no text");
    let reply = say(&mut conversation, &partner, "hi");
    assert_eq!((reply.tokens.len(), reply.ending), (5, Ending::Length));
}

#[test]
fn newlines_wait_for_their_time() {
    assert_eq!([0, 1].map(newline_bias), [f32::NEG_INFINITY; 2]);
    assert_eq!([2, 21, 41, 42, 151, 152, 163, 900].map(newline_bias), [-3.9, -2.0, 0.0, 0.0, 0.0, 0.25, 3.0, 3.0]);
    // The newline is ahead by 0.55, so it wins once its bias is above -0.55: when 36 tokens are written.
    let model = stubborn(256, &[(u32::from(b'\n'), 1.0), (u32::from(b'x'), 0.45)]);
    let settings = Settings { newline_bias: true, ..greedy(99) };
    let partner = Partner::new(&model, &ByteTokenizer {}, settings).expect("fits");
    let mut conversation = begin(&partner);
    let reply = say(&mut conversation, &partner, "hi");
    assert_eq!((reply.text, reply.tokens.len(), reply.ending), ("x".repeat(36), 38, Ending::Stop));
}

#[test]
fn the_end_of_a_text_ends_a_reply_and_is_not_read() {
    let file: String = (0..=255).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1)).collect();
    let tokenizer = WorldTokenizer::from_file(Path::new("world.txt"), file.as_bytes()).expect("a vocabulary");
    let model = stubborn(257, &[(0, 1.0)]);
    let partner = Partner::new(&model, &tokenizer, greedy(50)).expect("fits");
    let mut conversation = Conversation::new(&partner, Format::World, "").expect("no text");
    let reply = say(&mut conversation, &partner, "hi");
    assert_eq!(reply, Reply { text: String::new(), tokens: vec![], ending: Ending::EndOfText });
    let expected = after(&model, &tokenizer, &["User: hi\n\nAssistant:", "\n\n"]);
    assert_eq!(bits(conversation.state()), bits(&expected), "the next turn begins after an empty line");
}

#[test]
fn a_reply_that_is_cut_ends_in_an_empty_line_for_the_model() {
    for (byte, separator) in [(b'x', "\n\n"), (b'\n', "\n")] {
        let model = stubborn(256, &[(byte.into(), 1.0)]);
        let partner = Partner::new(&model, &ByteTokenizer {}, greedy(1)).expect("fits");
        let mut conversation = Conversation::new(&partner, Format::World, "").expect("no text");
        let reply = say(&mut conversation, &partner, "hi");
        assert_eq!((reply.tokens, reply.ending), (vec![byte.into()], Ending::Length));
        let written = char::from(byte).to_string();
        let expected = after(&model, &ByteTokenizer {}, &["User: hi\n\nAssistant:", &written, separator]);
        assert_eq!(bits(conversation.state()), bits(&expected));
    }
}

#[test]
fn unused_rows_of_the_model_are_never_drawn() {
    let model = stubborn(300, &[(299, 9.0), (u32::from(b'x'), 1.0)]);
    let partner = Partner::new(&model, &ByteTokenizer {}, greedy(4)).expect("fits");
    assert_eq!(say(&mut begin(&partner), &partner, "hi").text, "xxxx");
}

#[test]
fn blanks_around_a_reply_are_not_shown_and_pieces_make_the_text() {
    let model = stubborn(256, &[(u32::from(b' '), 1.0)]);
    let partner = Partner::new(&model, &ByteTokenizer {}, greedy(4)).expect("fits");
    let mut pieces: Vec<String> = Vec::new();
    let show = |piece: &str| {
        pieces.push(piece.to_owned());
        Ok::<(), Error>(())
    };
    assert_eq!(begin(&partner).say(&partner, "hi", show).expect("a reply").text, "");
    assert!(pieces.is_empty(), "{pieces:?}");

    let (model, mut pieces) = (self::model(256), String::new());
    let partner = Partner::new(&model, &ByteTokenizer {}, drawn(1)).expect("fits");
    let show = |piece: &str| {
        pieces += piece;
        Ok::<(), Error>(())
    };
    let reply = begin(&partner).say(&partner, "hi", show).expect("a reply");
    assert_eq!((reply.text.as_str(), reply.tokens.len()), (pieces.trim_end(), 12));
}

#[test]
fn a_retry_is_as_if_the_first_reply_had_never_been() {
    let model = model(256);
    // With the same draws: the same reply, the same state.
    let partner = Partner::new(&model, &ByteTokenizer {}, greedy(12)).expect("fits");
    let mut conversation = begin(&partner);
    let first = say(&mut conversation, &partner, "one");
    let state = bits(conversation.state());
    assert_eq!(retry(&mut conversation, &partner), first);
    assert_eq!(bits(conversation.state()), state);
    assert_eq!(retry(&mut conversation, &partner), first, "any number of times");

    // With the next draws: what a new conversation with those draws says.
    let partner = Partner::new(&model, &ByteTokenizer {}, drawn(3)).expect("fits");
    let mut conversation = begin(&partner);
    let first = say(&mut conversation, &partner, "one");
    let second = retry(&mut conversation, &partner);
    assert_ne!(first, second);
    let other = Partner::new(&model, &ByteTokenizer {}, drawn(4)).expect("fits");
    let mut fresh = begin(&other);
    assert_eq!(say(&mut fresh, &other, "one"), second);
    assert_eq!(bits(fresh.state()), bits(conversation.state()));
}

#[test]
fn forks_know_nothing_of_each_other() {
    let model = model(256);
    let partner = Partner::new(&model, &ByteTokenizer {}, drawn(5)).expect("fits");
    let talk = |interrupted: bool| -> (Vec<Reply>, Vec<u32>) {
        let mut conversation = begin(&partner);
        let mut replies = vec![say(&mut conversation, &partner, "one")];
        if interrupted {
            let mut fork = conversation.clone();
            say(&mut fork, &partner, "something else");
            retry(&mut fork, &partner);
        }
        replies.push(retry(&mut conversation, &partner));
        replies.push(say(&mut conversation, &partner, "two"));
        (replies, bits(conversation.state()))
    };
    assert_eq!(talk(true), talk(false));
}

#[test]
fn a_saved_state_goes_on_like_the_conversation() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.safetensors");
    let model = model(256);
    let partner = Partner::new(&model, &ByteTokenizer {}, greedy(12)).expect("fits");
    let mut conversation = begin(&partner);
    say(&mut conversation, &partner, "one");
    conversation.state().save(&file, &model.fingerprint()).expect("saved");
    let state = State::load(&file, &model.fingerprint(), &Default::default()).expect("loaded");
    let mut loaded = Conversation::from_state(Format::World, state);
    assert_eq!(say(&mut loaded, &partner, "two"), say(&mut conversation, &partner, "two"));
    assert_eq!(bits(loaded.state()), bits(conversation.state()));
}

#[test]
fn a_failure_leaves_the_conversation_as_it_was() {
    let model = model(256);
    let partner = Partner::new(&model, &ByteTokenizer {}, greedy(12)).expect("fits");
    let mut conversation = begin(&partner);
    let before = bits(conversation.state());
    let failed: Result<Reply> = conversation.retry(&partner, |_| Ok(()));
    assert!(failed.expect_err("nothing said").to_string().contains("retry"));
    let failed: Result<Reply> = conversation.say(&partner, " \n ", |_| Ok(()));
    assert!(failed.expect_err("no text").to_string().contains("message"));
    let failed: Result<Reply> = conversation.say(&partner, "hi", |_| Err(Error::config("stdout", "open", "closed")));
    assert!(failed.expect_err("not shown").to_string().contains("stdout"));
    assert_eq!(bits(conversation.state()), before);
    let failed: Result<Reply> = conversation.retry(&partner, |_| Ok(()));
    assert!(failed.is_err(), "nothing was said");
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let model = model(200);
    let refusal =
        |settings: Settings| Partner::new(&model, &ByteTokenizer {}, settings).expect_err("refused").to_string();
    let said = refusal(greedy(1));
    assert!(said.contains("200") && said.contains("256"), "{said}");
    let model = self::model(256);
    let refusal =
        |settings: Settings| Partner::new(&model, &ByteTokenizer {}, settings).expect_err("refused").to_string();
    assert!(refusal(Settings { sampler: SamplerConfig::plain(1.0, 2.0, 0), ..greedy(1) }).contains("top_p"));
    assert!(refusal(Settings { sampler: SamplerConfig::plain(-1.0, 1.0, 0), ..greedy(1) }).contains("temperature"));
}
