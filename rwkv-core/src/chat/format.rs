//! The texts around a message, as the models were trained on them.

use crate::config::{PILE_VOCAB, WORLD_VOCAB};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a message is put to a model.
///
/// No prompt ends in a blank: the reply begins with it.
///
/// The official chat program differs in three places: it never draws token 0 in a Raven conversation, where here that token
/// ends the reply; it forbids to repeat one of four full-width punctuation marks at once; and it puts a newline before
/// an instruction, which here is the introduction's matter.
///
/// # Source
/// The official chat program's `README.md`, `v2/chat.py` and demos; the model cards of Raven and World.
///
/// # Example
/// ```
/// use rwkv_core::chat::Format;
/// assert_eq!(Format::World.prompt("Hello!", ""), "User: Hello!\n\nAssistant:");
/// assert_eq!("raven".parse::<Format>().unwrap().prompt("Hello!", ""), "Bob: Hello!\n\nAlice:");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Raven: a conversation of Bob, the user, and Alice.
    Raven,
    /// Raven: an instruction and its response.
    RavenInstruct,
    /// World: a conversation of a user and an assistant.
    World,
    /// World: a question and its answer.
    WorldQuestion,
    /// World: an instruction and its response.
    WorldInstruct,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] =
        [Self::Raven, Self::RavenInstruct, Self::World, Self::WorldQuestion, Self::WorldInstruct];

    /// The name that [`str::parse`] takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raven => "raven",
            Self::RavenInstruct => "raven-instruct",
            Self::World => "world",
            Self::WorldQuestion => "world-question",
            Self::WorldInstruct => "world-instruct",
        }
    }

    /// The conversation that a model with this vocabulary was trained on, where the vocabulary is a published one.
    #[must_use]
    pub fn of_vocab_size(vocab_size: usize) -> Option<Self> {
        match vocab_size {
            PILE_VOCAB => Some(Self::Raven),
            WORLD_VOCAB => Some(Self::World),
            _ => None,
        }
    }

    /// Who writes the message and who the reply.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Raven => ("Bob", "Alice"),
            Self::World => ("User", "Assistant"),
            Self::WorldQuestion => ("Question", "Answer"),
            Self::RavenInstruct | Self::WorldInstruct => ("Instruction", "Response"),
        }
    }

    /// The prompt for a message, up to where the reply begins. `input` is what an instruction is about, or empty; only
    /// the formats with instructions have a place for it, in the others it follows the message on a line of its own.
    /// Both texts go through [`clean`].
    #[must_use]
    pub fn prompt(self, message: &str, input: &str) -> String {
        let (message, input) = (clean(message), clean(input));
        let (user, bot) = self.names();
        match (self, input.is_empty()) {
            (Self::RavenInstruct, true) => format!(
                "Below is an instruction that describes a task. Write a response that appropriately completes the \
                 request.\n\n# Instruction:\n{message}\n\n# Response:\n"
            ),
            (Self::RavenInstruct, false) => format!(
                "Below is an instruction that describes a task, paired with an input that provides further context. \
                 Write a response that appropriately completes the request.\n\n# Instruction:\n{message}\n\n\
                 # Input:\n{input}\n\n# Response:\n"
            ),
            (Self::WorldInstruct, false) => format!("{user}: {message}\n\nInput: {input}\n\n{bot}:"),
            (_, true) => format!("{user}: {message}\n\n{bot}:"),
            (_, false) => format!("{user}: {message}\n{input}\n\n{bot}:"),
        }
    }

    /// What a model is to answer to a prompt, as training shows it: from where [`Self::prompt`] ends, with the blank that a
    /// reply begins with after a name, to the end of the [stop string](Self::stop), where there is one. Where it would end a
    /// reply too early, an empty line in the reply becomes a newline.
    ///
    /// # Example
    /// ```
    /// use rwkv_core::chat::Format;
    /// assert_eq!(Format::World.reply("One.\n\nTwo. "), " One.\nTwo.\n\n");
    /// assert_eq!(Format::RavenInstruct.reply("One.\n\nTwo. "), "One.\n\nTwo."); // then the end of the text
    /// ```
    #[must_use]
    pub fn reply(self, reply: &str) -> String {
        match self.stop() {
            Some(stop) => format!(" {}{stop}", clean(reply)),
            None => reply.trim().replace("\r\n", "\n"),
        }
    }

    /// What a conversation usually begins with: for World a first exchange that sets the tone, else nothing.
    #[must_use]
    pub fn introduction(self) -> &'static str {
        match self {
            Self::World => {
                "User: hi\n\nAssistant: Hi. I am your assistant and I will provide expert full response in full \
                 details. Please feel free to ask any question and I will always answer it.\n\n"
            }
            Self::Raven | Self::RavenInstruct | Self::WorldQuestion | Self::WorldInstruct => "",
        }
    }

    /// The text that ends a reply: an empty line, except after Raven's instructions, whose responses may have
    /// paragraphs. The token that ends a text always ends a reply, too.
    #[must_use]
    pub fn stop(self) -> Option<&'static str> {
        match self {
            Self::RavenInstruct => None,
            Self::Raven | Self::World | Self::WorldQuestion | Self::WorldInstruct => Some("\n\n"),
        }
    }
}

impl std::str::FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| Error::config("prompt-format", format!("one of {known}"), name))
    }
}

/// A message as a prompt can hold it: no blanks around it, lines that end in LF, and no empty line, since an empty line
/// ends a turn. The official programs replace pairs of newlines once, which leaves one of every three; here none stays.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut text = text.trim().replace("\r\n", "\n");
    while text.contains("\n\n") {
        text = text.replace("\n\n", "\n");
    }
    text
}

/// A text to begin a conversation with, such as a description of who talks and a few exchanges: lines without blanks
/// around them, a newline before it and an empty line after it. Nothing for an empty text.
///
/// # Source
/// `v2/chat.py`, where it reads its prompt file.
#[must_use]
pub fn introduction(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
    if lines.is_empty() { String::new() } else { format!("\n{}\n\n", lines.join("\n")) }
}

/// The prompt for a question to a Pile model, which knows no conversations.
///
/// # Source
/// RWKV-LM's `README.md`.
#[must_use]
pub fn pile_question(question: &str) -> String {
    format!("\nQ & A\n\nQuestion:\n{}\n\nDetailed Expert Answer:\n", clean(question))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_exact() {
        let prompt = |format: Format| format.prompt("Why?", "");
        assert_eq!(prompt(Format::Raven), "Bob: Why?\n\nAlice:");
        assert_eq!(prompt(Format::World), "User: Why?\n\nAssistant:");
        assert_eq!(prompt(Format::WorldQuestion), "Question: Why?\n\nAnswer:");
        assert_eq!(prompt(Format::WorldInstruct), "Instruction: Why?\n\nResponse:");
        assert_eq!(
            prompt(Format::RavenInstruct),
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\
             \n\n# Instruction:\nWhy?\n\n# Response:\n"
        );
        assert_eq!(pile_question(" Why?\n"), "\nQ & A\n\nQuestion:\nWhy?\n\nDetailed Expert Answer:\n");
    }

    #[test]
    fn instructions_have_a_place_for_their_input() {
        let prompt = |format: Format| format.prompt("Sort.", "b\n\na ");
        assert_eq!(
            prompt(Format::RavenInstruct),
            "Below is an instruction that describes a task, paired with an input that provides further context. Write \
             a response that appropriately completes the request.\n\n# Instruction:\nSort.\n\n# Input:\nb\na\n\n\
             # Response:\n"
        );
        assert_eq!(prompt(Format::WorldInstruct), "Instruction: Sort.\n\nInput: b\na\n\nResponse:");
        assert_eq!(prompt(Format::World), "User: Sort.\nb\na\n\nAssistant:");
    }

    #[test]
    fn messages_are_cleaned() {
        for (text, cleaned) in [
            ("  hi \n", "hi"),
            ("a\r\nb", "a\nb"),
            ("a\r\n\r\nb", "a\nb"),
            ("a\n\nb", "a\nb"),
            ("a\n\n\nb", "a\nb"),
            ("a\n\n\n\n\n\nb\n \nc", "a\nb\n \nc"),
            ("a  b\tc", "a  b\tc"),
            (" \n\n ", ""),
        ] {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
        assert_eq!(Format::World.prompt(" a\r\n\r\nb\n", ""), "User: a\nb\n\nAssistant:");
    }

    #[test]
    fn introductions_end_in_an_empty_line() {
        assert_eq!(
            Format::World.introduction(),
            "User: hi\n\nAssistant: Hi. I am your assistant and I will provide expert full response in full details. \
             Please feel free to ask any question and I will always answer it.\n\n"
        );
        assert_eq!(Format::Raven.introduction(), "");
        assert_eq!(introduction("\n Two friends talk. \r\n\n Bob: Hi.\n"), "\nTwo friends talk.\n\nBob: Hi.\n\n");
        assert_eq!(introduction(" \n"), "");
    }

    #[test]
    fn names_and_vocabularies_find_their_format() {
        for format in Format::ALL {
            assert_eq!(format.name().parse::<Format>().expect("its own name"), format);
            assert_eq!(serde_json::to_string(&format).expect("a name"), format!("{:?}", format.name()));
        }
        let said = "alpaca".parse::<Format>().expect_err("unknown").to_string();
        assert!(said.contains("alpaca") && said.contains("raven-instruct"), "{said}");
        assert_eq!(Format::of_vocab_size(50_277), Some(Format::Raven));
        assert_eq!(Format::of_vocab_size(65_536), Some(Format::World));
        assert_eq!(Format::of_vocab_size(256), None);
    }
}
