//! Training texts are what a chat reads to the model, and what it wants to hear.

use burn::backend::Flex;
use rwkv_core::chat::{Conversation, Format, Partner, Settings, StopText, clean, introduction};
use rwkv_core::config::RwkvConfig;
use rwkv_core::error::{Error, Result};
use rwkv_core::model::Rwkv;
use rwkv_core::tokenizer::{ByteTokenizer, Tokenizer};
use rwkv_train::data::instructions::{Example, Piece, Template, Tokens, Turn};
use std::sync::Mutex;

/// Remembers what it was asked to encode for the model.
#[derive(Debug, Default)]
struct Listener(Mutex<Vec<String>>);

impl Tokenizer for Listener {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        ByteTokenizer {}.encode(text)
    }

    fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.0.lock().expect("alone").push(text.to_owned());
        self.encode(text)
    }

    fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        ByteTokenizer {}.decode(ids)
    }

    fn vocab_size(&self) -> usize {
        256
    }

    fn end_of_text(&self) -> Option<u32> {
        Some(0)
    }
}

fn example(system: Option<&str>) -> Example {
    let turn = |message: &str, reply: &str| Turn { message: message.into(), input: String::new(), reply: reply.into() };
    let turns = vec![
        turn(" What is\r\n\r\nthis?", "A thing.\n\nOr two.\n"),
        turn("Bob: no\n\n\n\nyes", " \u{1F600}"),
        turn("Bye", "Bye."),
    ];
    Example { system: system.map(str::to_owned), turns }
}

#[test]
fn the_model_reads_what_a_chat_reads_to_it() {
    let model = Rwkv::<Flex>::new(&RwkvConfig::new(256, 1, 8), 0, &Default::default());
    for format in Format::ALL {
        for system in [None, Some(" Be brief.\r\n\n  And kind. ")] {
            let example = example(system);
            let template = Template { introduction: format.introduction().to_owned(), ..Template::new(format) };
            let begin = system.map_or_else(|| format.introduction().to_owned(), introduction);

            // The model says some byte or other, which a chat follows with an empty line where it must.
            let listener = Listener::default();
            let settings = Settings { max_tokens: 1, ..Settings::default() };
            let partner = Partner::new(&model, &listener, settings).expect("fits");
            let mut conversation = Conversation::new(&partner, format, &begin).expect("bytes");
            for turn in &example.turns {
                conversation.say(&partner, &turn.message, |_| Ok::<_, Error>(())).expect("a reply");
            }
            let mut heard = listener.0.into_inner().expect("alone");
            if format.stop().is_some() {
                heard.retain(|text| !text.trim().is_empty());
            } else {
                assert_eq!(heard.pop().expect("the last separator").trim(), "", "the example ends before it");
            }

            let pieces = template.render(&example);
            let read = pieces.iter().filter_map(|piece| match piece {
                Piece::Read(text) => Some(text.as_str()),
                _ => None,
            });
            assert!(read.eq(heard.iter()), "{format:?}: {heard:?}\n{pieces:?}");
        }
    }
}

#[test]
fn a_chat_takes_what_is_learnt_for_the_reply_and_stops_at_its_last_token() {
    for format in Format::ALL {
        let example = example(None);
        let pieces = Template::new(format).render(&example);
        let learnt = pieces.iter().filter_map(|piece| match piece {
            Piece::Learn(text) => Some(text.as_str()),
            _ => None,
        });
        for (text, turn) in learnt.zip(&example.turns) {
            let mut stop = StopText::new(format.stop());
            let letters: Vec<String> = text.chars().map(String::from).collect();
            for (i, letter) in letters.iter().enumerate() {
                assert!(!stop.is_stopped(), "{format:?}: {} letters of {text:?} after the stop", letters.len() - i);
                stop.push(letter);
            }
            assert_eq!(stop.is_stopped(), format.stop().is_some(), "{format:?}: {text:?}");
            let said = stop.finish().0;
            let wanted = if format.stop().is_some() { clean(&turn.reply) } else { turn.reply.trim().to_owned() };
            assert_eq!(said.trim(), wanted);
        }
        assert_eq!(pieces.last() == Some(&Piece::End), format.stop().is_none());
    }
}

#[test]
fn pieces_are_encoded_by_themselves() {
    let listener = Listener::default();
    let pieces = Template::new(Format::RavenInstruct).render(&example(None));
    let tokens = Tokens::encode(&listener, &pieces).expect("bytes");
    let heard = listener.0.into_inner().expect("alone");
    assert_eq!(tokens.ids.len(), heard.concat().len() + 1);
    assert_eq!(tokens.ids.last(), Some(&0), "the end of the text");
    let learnt = pieces.iter().filter(|piece| matches!(piece, Piece::Learn(_))).count();
    assert_eq!((heard.len(), learnt), (pieces.len() - 1, 3));
    assert_eq!(tokens.count_learnt(), "A thing.\n\nOr two.\u{1F600}Bye.".len() + 1);
}
