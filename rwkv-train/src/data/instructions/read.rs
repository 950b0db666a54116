//! Examples from JSONL files, one a line, in the two shapes that such data is published in.

use crate::error::Result;
use rwkv_core::error::Error;
use serde::Deserialize;
use std::path::Path;

/// A conversation, or an instruction and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Example {
    /// What the conversation begins with: a description of the assistant or its task.
    pub system: Option<String>,
    /// Messages with their replies; at least one.
    pub turns: Vec<Turn>,
}

/// A message and the reply to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Turn {
    /// What the user says.
    pub message: String,
    /// What an instruction is about, apart from it; often empty.
    pub input: String,
    /// What the model is to answer.
    pub reply: String,
}

/// The fields of either shape; others are left aside.
#[derive(Deserialize)]
struct Line {
    instruction: Option<String>,
    input: Option<String>,
    output: Option<String>,
    system: Option<String>,
    #[serde(alias = "messages", alias = "conversation")]
    conversations: Option<Vec<Message>>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(alias = "role")]
    from: String,
    #[serde(alias = "content")]
    value: String,
}

/// Who says something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    User,
    Model,
}

/// Reads a JSONL file: its examples, and how many lines had no reply to learn.
///
/// A line is an object in Alpaca's shape, `{"instruction": …, "input": …, "output": …}` with or without an input, or in
/// ShareGPT's, `{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}, …]}`. Conversations may also
/// be called `messages`, of `role` and `content`, and a user and a model `user` and `assistant`; messages of a `system`, or a
/// field of that name, say what the conversation begins with. Other fields are left aside, and so are empty lines.
///
/// Messages of one speaker in a row become one, with a newline between them. What the model says before anyone asked, and
/// a last message without a reply, are left out.
///
/// # Errors
/// [`Error::Io`], or [`Error::Format`] that names the file and the line.
///
/// # Example
/// ```
/// use rwkv_train::data::instructions::read;
/// let folder = tempfile::tempdir().unwrap();
/// let file = folder.path().join("data.jsonl");
/// std::fs::write(&file, r#"{"instruction": "Name a colour.", "output": "Red."}"#).unwrap();
/// let (examples, unanswered) = read(&file).unwrap();
/// assert_eq!((examples[0].turns[0].reply.as_str(), unanswered), ("Red.", 0));
/// ```
pub fn read(path: &Path) -> Result<(Vec<Example>, usize)> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    if text.trim_start().starts_with('[') {
        let problem = "is one JSON array; examples are read from JSONL, one object a line (jq -c '.[]' makes it)";
        return Err(Error::format(path, problem).into());
    }
    let mut examples = Vec::new();
    let mut unanswered = 0;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let example =
            example(line).map_err(|problem| Error::format(path, format!("line {}: {problem}", number + 1)))?;
        if example.turns.is_empty() {
            unanswered += 1;
        } else {
            examples.push(example);
        }
    }
    Ok((examples, unanswered))
}

/// The example in a line, or what is wrong with it.
fn example(line: &str) -> std::result::Result<Example, String> {
    let Line { instruction, input, output, system, conversations } = serde_json::from_str(line).map_err(|error| {
        let sentence = error.to_string();
        // The parser counts lines of what it was given, which is one.
        let sentence = sentence.split(" at line ").next().unwrap_or_default();
        format!("{sentence}, at column {}", error.column())
    })?;
    let system = system.filter(|text| !text.trim().is_empty());
    match (instruction, output, conversations) {
        (Some(message), Some(reply), None) => {
            let turns = vec![Turn { message, input: input.unwrap_or_default(), reply }];
            Ok(Example { system, turns: turns.into_iter().filter(is_whole).collect() })
        }
        (None, None, Some(messages)) => conversation(system, messages),
        (Some(_), None, None) => Err("an instruction without an output".to_owned()),
        (None, Some(_), None) => Err("an output without an instruction".to_owned()),
        (None, None, None) => Err("neither an instruction with an output nor conversations".to_owned()),
        (_, _, Some(_)) => Err("both conversations and an instruction or output".to_owned()),
    }
}

fn is_whole(turn: &Turn) -> bool {
    !turn.message.trim().is_empty() && !turn.reply.trim().is_empty()
}

fn conversation(mut system: Option<String>, messages: Vec<Message>) -> std::result::Result<Example, String> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut last = None;
    let join = |text: &mut String, more: String| {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&more);
    };
    for Message { from, value } in messages {
        let speaker = match from.as_str() {
            "human" | "user" => Speaker::User,
            "gpt" | "assistant" => Speaker::Model,
            "system" => {
                join(system.get_or_insert_default(), value);
                continue;
            }
            other => {
                return Err(format!(
                    "a message of {other:?}; known are human, gpt and system, or user, assistant and system"
                ));
            }
        };
        match (speaker, turns.last_mut()) {
            (Speaker::User, Some(turn)) if last == Some(Speaker::User) => join(&mut turn.message, value),
            (Speaker::User, _) => turns.push(Turn { message: value, ..Turn::default() }),
            (Speaker::Model, Some(turn)) => join(&mut turn.reply, value),
            (Speaker::Model, None) => {}
        }
        last = Some(speaker);
    }
    Ok(Example { system, turns: turns.into_iter().take_while(is_whole).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(message: &str, input: &str, reply: &str) -> Turn {
        Turn { message: message.into(), input: input.into(), reply: reply.into() }
    }

    fn turns(line: &str) -> Vec<Turn> {
        example(line).expect("an example").turns
    }

    #[test]
    fn alpaca() {
        let line = r#"{"instruction": "Add.", "input": "1 and 2", "output": "3", "id": 7}"#;
        assert_eq!(turns(line), [turn("Add.", "1 and 2", "3")]);
        assert_eq!(turns(r#"{"instruction": "Hi", "input": null, "output": "Ho"}"#), [turn("Hi", "", "Ho")]);
        assert!(turns(r#"{"instruction": "Hi", "output": " "}"#).is_empty(), "nothing to learn");
    }

    #[test]
    fn share_gpt_and_messages() {
        let line = r#"{"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "a"},
            {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]}"#;
        let found = example(line).expect("an example");
        assert_eq!(found.system.as_deref(), Some("Be brief."));
        assert_eq!(found.turns, [turn("a", "", "b"), turn("c", "", "d")]);
        let line = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
        assert_eq!(turns(line), [turn("a", "", "b")]);
    }

    #[test]
    fn talk_that_does_not_alternate() {
        let says = |who: &[(&str, &str)]| {
            let messages = who.iter().map(|(from, value)| Message { from: (*from).into(), value: (*value).into() });
            conversation(None, messages.collect()).expect("an example").turns
        };
        let joined = says(&[("gpt", "x"), ("human", "a"), ("human", "b"), ("gpt", "c"), ("gpt", "d"), ("human", "e")]);
        assert_eq!(joined, [turn("a\nb", "", "c\nd")], "an early reply and a last message are left out");
        assert!(says(&[("human", "a")]).is_empty());
        assert_eq!(
            says(&[("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", ""), ("human", "d"), ("gpt", "e")]).len(),
            1
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("data.jsonl");
        let said = |text: &str| {
            std::fs::write(&file, text).expect("written");
            let said = read(&file).expect_err("refused").to_string();
            assert!(said.contains("data.jsonl") && !said.contains('\n'), "{said}");
            said
        };
        let good = "{\"instruction\": \"Hi\", \"output\": \"Ho\"}\n\n";
        for (line, words) in [
            (r#"{"instruction": "Hi"}"#, "without an output"),
            (r#"{"output": "Hi"}"#, "without an instruction"),
            (r#"{"text": "Hi"}"#, "neither"),
            (r#"{"instruction": "Hi", "output": "Ho", "messages": []}"#, "both"),
            (r#"{"instruction": 3, "output": "Ho"}"#, "at column"),
            (r#"{"instruction": "Hi", "#, "at column"),
            (r#"{"messages": [{"role": "tool", "content": "x"}]}"#, "\"tool\""),
            (r#"{"messages": [{"role": "user"}]}"#, "value"),
        ] {
            let said = said(&format!("{good}{line}"));
            assert!(said.contains("line 3: ") && said.contains(words), "{said}");
        }
        assert!(said("[{}]").contains("JSON array"));
        std::fs::write(&file, format!("{good}{good}{{\"instruction\": \"Hi\", \"output\": \"\"}}")).expect("written");
        let (examples, unanswered) = read(&file).expect("good");
        assert_eq!((examples.len(), unanswered), (2, 1));
    }
}
