//! What a line asks for.

use crate::Failure;
use std::path::PathBuf;

/// What `/help` prints.
pub(super) const HELP: &str = "\
TEXT          says something; \\n in it begins a new line
/retry        draws another reply to the last message
/reset        begins anew
/fork NAME    goes on in a copy of this conversation
/switch NAME  goes on in another conversation
/switch       lists conversations
/save FILE    writes what the model remembers to a file
/load FILE    goes on from such a file
/help         prints this
/quit         ends, as Ctrl-D does";

/// A line of input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Say(String),
    Retry,
    Reset,
    Fork(String),
    Switch(String),
    List,
    Save(PathBuf),
    Load(PathBuf),
    Help,
    Quit,
    /// An empty line.
    Nothing,
}

impl Command {
    /// Reads a line.
    pub(super) fn parse(line: &str) -> Result<Self, Failure> {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return Ok(if line.is_empty() { Self::Nothing } else { Self::Say(line.replace("\\n", "\n")) });
        };
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let argument = argument.trim();
        let needs = |what: &str| match argument {
            "" => Err(Failure(format!("/{name} needs {what}"))),
            argument => Ok(argument.to_owned()),
        };
        let alone = |command: Self| match argument {
            "" => Ok(command),
            argument => Err(Failure(format!("/{name} takes nothing after it, found {argument:?}"))),
        };
        match name {
            "retry" => alone(Self::Retry),
            "reset" => alone(Self::Reset),
            "fork" => needs("a name").map(Self::Fork),
            "switch" if argument.is_empty() => Ok(Self::List),
            "switch" => Ok(Self::Switch(argument.to_owned())),
            "save" => needs("a file").map(|file| Self::Save(file.into())),
            "load" => needs("a file").map(|file| Self::Load(file.into())),
            "help" => alone(Self::Help),
            "quit" => alone(Self::Quit),
            _ => Err(Failure(format!("there is no command /{name}; /help lists them"))),
        }
    }
}
