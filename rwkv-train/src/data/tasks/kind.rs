//! All tasks as a value of the configuration.

use super::{Copying, Generator, Induction, ModularArithmetic, Mqar, Needle, Parity, SelectiveCopying};
use crate::error::Result;
use rwkv_core::error::Error;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The enum, from one line a task.
macro_rules! tasks {
    ($($(#[$doc:meta])* $task:ident = $name:literal),* $(,)?) => {
        /// A task of the configuration, by its name alone or with some of its numbers.
        ///
        /// # Example
        /// ```
        /// use rwkv_train::config::RunConfig;
        /// use rwkv_train::data::tasks::{Mqar, Task};
        /// let task = |line: &str| RunConfig::from_toml(&format!("[data]\ntask = {line}")).map(|config| config.data.task.unwrap());
        /// assert_eq!(task("\"mqar\"").unwrap(), Task::Mqar(Mqar::default()));
        /// assert_eq!(task("{ mqar = { pairs = 4 } }").unwrap(), Task::Mqar(Mqar { pairs: 4, ..Mqar::default() }));
        /// assert!(task("\"mqrr\"").unwrap_err().ends_with("did you mean `mqar`?"));
        /// ```
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub enum Task {
            $($(#[$doc])* #[serde(rename = $name)] $task($task),)*
        }

        /// A task with some of its numbers.
        #[derive(Deserialize)]
        enum Detailed {
            $(#[serde(rename = $name)] $task($task),)*
        }

        impl From<Detailed> for Task {
            fn from(detailed: Detailed) -> Self {
                match detailed { $(Detailed::$task(task) => Self::$task(task),)* }
            }
        }

        impl Task {
            /// The names of all tasks.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The task of this name, with numbers that suit small models and short rows.
            fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$task($task::default())),)* _ => None }
            }

            /// The task's name.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$task(_) => $name,)* }
            }

            /// What makes its puzzles.
            #[must_use]
            pub fn generator(&self) -> Arc<dyn Generator> {
                match self { $(Self::$task(task) => Arc::new(task.clone()),)* }
            }
        }
    };
}

tasks!(
    /// Multi-query associative recall.
    Mqar = "mqar",
    /// What followed the last time?
    Induction = "induction",
    /// A string, once more.
    Copying = "copying",
    /// Scattered tokens, in order.
    SelectiveCopying = "selective-copying",
    /// Odd or even?
    Parity = "parity",
    /// An expression's value.
    ModularArithmetic = "modular-arithmetic",
    /// A value, some distance after it was told.
    Needle = "needle",
);

impl Task {
    /// Checks its numbers, and that they fit into rows of `ctx_len` inputs.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn validate(&self, ctx_len: usize) -> Result<()> {
        super::generated::check(self.generator().as_ref(), ctx_len)
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> std::result::Result<Self, Error> {
        Self::named(name).ok_or_else(|| Error::config("task", format!("one of {}", Self::NAMES.join(", ")), name))
    }
}

impl<'de> Deserialize<'de> for Task {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Task;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a task's name, or a table of the name and the task's numbers")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<Task, E> {
                Task::named(name).ok_or_else(|| E::unknown_variant(name, Task::NAMES))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Task, A::Error> {
                Detailed::deserialize(MapAccessDeserializer::new(map)).map(Task::from)
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}
