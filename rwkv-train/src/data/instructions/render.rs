//! Examples as the texts of a chat.

use super::Example;
use rwkv_core::chat::{Format, introduction};

/// How examples are put to the model: as [`Partner`](rwkv_core::chat::Partner) and
/// [`Conversation`](rwkv_core::chat::Conversation) put messages to it, byte for byte.
///
/// # Example
/// ```
/// use rwkv_core::chat::Format;
/// use rwkv_train::data::instructions::{Example, Piece, Template, Turn};
/// let turn = Turn { message: "Why?".into(), reply: "Because.".into(), ..Turn::default() };
/// let pieces = Template::new(Format::World).render(&Example { system: None, turns: vec![turn] });
/// assert_eq!(pieces, [Piece::Read("User: Why?\n\nAssistant:".into()), Piece::Learn(" Because.\n\n".into())]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The prompts.
    pub format: Format,
    /// What an example without a text of its own begins with, as it goes to the model; often nothing. A model that will
    /// be talked to by a chat with its usual introduction may have [`Format::introduction`] here.
    pub introduction: String,
}

/// A text that is encoded by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The model reads it.
    Read(String),
    /// The model learns to write it.
    Learn(String),
    /// The model learns to end the text: the tokenizer's token for that, which stands for no characters.
    End,
}

impl Template {
    /// Prompts of this format, and no introduction.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, introduction: String::new() }
    }

    /// The texts of an example, in order: those that a chat reads to the model, and those that it wants of it.
    ///
    /// Where an empty line ends a reply, the model learns to write it. Where a reply may have empty lines, as after Raven's
    /// instructions, the model learns to end the text after the last one; after the others it reads what the chat
    /// reads to it there.
    #[must_use]
    pub fn render(&self, example: &Example) -> Vec<Piece> {
        let begin = example.system.as_deref().map_or_else(|| self.introduction.clone(), introduction);
        let mut pieces = Vec::new();
        if !begin.is_empty() {
            pieces.push(Piece::Read(begin));
        }
        for (i, turn) in example.turns.iter().enumerate() {
            pieces.push(Piece::Read(self.format.prompt(&turn.message, &turn.input)));
            pieces.push(Piece::Learn(self.format.reply(&turn.reply)));
            match self.format.stop() {
                Some(_) => {}
                None if i + 1 == example.turns.len() => pieces.push(Piece::End),
                None => pieces.push(Piece::Read("\n\n".to_owned())),
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::super::Turn;
    use super::*;

    fn example(system: Option<&str>) -> Example {
        let turn =
            |message: &str, reply: &str| Turn { message: message.into(), input: String::new(), reply: reply.into() };
        Example { system: system.map(str::to_owned), turns: vec![turn("Why?", "So.\n\nThus. "), turn("Oh?", "Yes.")] }
    }

    fn read(text: &str) -> Piece {
        Piece::Read(text.to_owned())
    }

    fn learn(text: &str) -> Piece {
        Piece::Learn(text.to_owned())
    }

    #[test]
    fn an_empty_line_ends_a_reply() {
        let pieces = Template::new(Format::Raven).render(&example(None));
        let expected =
            [read("Bob: Why?\n\nAlice:"), learn(" So.\nThus.\n\n"), read("Bob: Oh?\n\nAlice:"), learn(" Yes.\n\n")];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn the_end_of_the_text_ends_an_answer_with_paragraphs() {
        let pieces = Template::new(Format::RavenInstruct).render(&example(None));
        assert_eq!(pieces[1..3], [learn("So.\n\nThus."), read("\n\n")]);
        assert_eq!(pieces[4..], [learn("Yes."), Piece::End]);
    }

    #[test]
    fn a_system_takes_the_introductions_place() {
        let template =
            Template { introduction: Format::World.introduction().to_owned(), ..Template::new(Format::World) };
        assert_eq!(template.render(&example(None))[0], read(Format::World.introduction()));
        assert_eq!(template.render(&example(Some(" Be brief.\n")))[0], read("\nBe brief.\n\n"));
    }
}
