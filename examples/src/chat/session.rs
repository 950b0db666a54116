//! The conversations of one run of the program, by name.

use super::command::{Command, HELP};
use crate::{Failure, report};
use rwkv_core::chat::{Conversation, Format, Partner};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::{Fingerprint, State};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The conversation that the program begins with.
const FIRST: &str = "main";

pub(super) struct Session<'a, B: RwkvBackend> {
    partner: Partner<'a, B>,
    format: Format,
    /// What a conversation is after `/reset`.
    beginning: Conversation<B>,
    /// All conversations but the current one.
    others: BTreeMap<String, Conversation<B>>,
    name: String,
    current: Conversation<B>,
    label: String,
    /// Of the model, once a state file needs it: it takes a pass over the weights.
    fingerprint: OnceCell<Fingerprint>,
}

impl<'a, B: RwkvBackend> Session<'a, B> {
    pub(super) fn new(
        partner: Partner<'a, B>,
        format: Format,
        introduction: String,
        state: Option<&Path>,
    ) -> Result<Self, Failure> {
        let fingerprint = OnceCell::new();
        let beginning = match state {
            Some(file) => {
                let of_model = fingerprint.get_or_init(|| partner.model().fingerprint());
                Conversation::from_state(format, load(&partner, of_model, file)?)
            }
            None => Conversation::new(&partner, format, &introduction)
                .map_err(|error| Failure(format!("introduction: {error}; --introduction FILE gives another one")))?,
        };
        let (current, name) = (beginning.clone(), FIRST.to_owned());
        let (others, label) = (BTreeMap::new(), String::new());
        Ok(Self { partner, format, beginning, others, name, current, label, fingerprint })
    }

    fn fingerprint(&self) -> &Fingerprint {
        self.fingerprint.get_or_init(|| self.partner.model().fingerprint())
    }

    /// Shows before each reply who writes it.
    pub(super) fn label_replies(&mut self) {
        self.label = format!("{}: ", self.format.names().1);
    }

    /// Does what a line asks for; `false` to end.
    pub(super) fn run(&mut self, command: Command) -> Result<bool, Failure> {
        match command {
            Command::Nothing => {}
            Command::Quit => return Ok(false),
            Command::Help => report::say(HELP)?,
            Command::Say(message) => self.reply(Some(&message))?,
            Command::Retry => self.reply(None)?,
            Command::Reset => self.current = self.beginning.clone(),
            Command::Fork(name) => {
                if name == self.name || self.others.contains_key(&name) {
                    return Err(Failure(format!(
                        "there is a conversation {name:?} already; /switch {name} goes there"
                    )));
                }
                let copy = self.current.clone();
                self.go_to(name, copy);
            }
            Command::Switch(name) if name == self.name => {}
            Command::Switch(name) => match self.others.remove(&name) {
                Some(conversation) => self.go_to(name, conversation),
                None => return Err(Failure(format!("there is no conversation {name:?}; /switch lists them"))),
            },
            Command::List => {
                let mut names: Vec<(&str, &str)> = self.others.keys().map(|name| (name.as_str(), " ")).collect();
                names.push((&self.name, "*"));
                names.sort_unstable();
                for (name, mark) in names {
                    report::say(format!("{mark} {name}"))?;
                }
            }
            Command::Save(file) => self.current.state().save(&file, self.fingerprint())?,
            Command::Load(file) => {
                let state = load(&self.partner, self.fingerprint(), &file)?;
                self.current = Conversation::from_state(self.format, state);
            }
        }
        Ok(true)
    }

    /// Makes `conversation` the current one, and keeps the one before.
    fn go_to(&mut self, name: String, conversation: Conversation<B>) {
        let name = std::mem::replace(&mut self.name, name);
        let conversation = std::mem::replace(&mut self.current, conversation);
        self.others.insert(name, conversation);
    }

    /// Shows the reply to a message, or another one to the last, while it is written, and a newline after it.
    fn reply(&mut self, message: Option<&str>) -> Result<(), Failure> {
        let mut begun = false;
        let label = &self.label;
        let mut show = |piece: &str| -> Result<(), Failure> {
            let mut out = std::io::stdout();
            if !begun {
                out.write_all(label.as_bytes())?;
                begun = true;
            }
            out.write_all(piece.as_bytes())?;
            Ok(out.flush()?)
        };
        match message {
            Some(message) => self.current.say(&self.partner, message, &mut show)?,
            None => self.current.retry(&self.partner, &mut show)?,
        };
        if begun { report::say("") } else { report::say(label) }
    }
}

fn load<B: RwkvBackend>(partner: &Partner<'_, B>, fingerprint: &Fingerprint, file: &Path) -> Result<State<B>, Failure> {
    let state = State::load(file, fingerprint, &partner.model().device())?;
    match state.batch() {
        1 => Ok(state),
        batch => Err(Failure(format!("{} is a state of {batch} sequences, not of one conversation", file.display()))),
    }
}
