//! Keys whose values are one of a few words.

use rwkv_core::error::Error;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An enum whose values go by lower-case names, in files and on the command line.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $key:literal: $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// The value's name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self, Error> {
                match name {
                    $($word => Ok(Self::$variant),)*
                    other => Err(Error::config($key, [$($word),*].join(" or "), other)),
                }
            }
        }
    };
}

choice!(
    /// The phase of a pretraining.
    Stage, "stage":
    /// `time_decay` at twice the rate, `time_first` at three times.
    #[default]
    Main = "main",
    /// All parameters of time at five times the rate: the official stage 2, a short phase before the main one.
    Time = "time",
);

choice!(
    /// The numbers of the forward and backward pass.
    Precision, "precision":
    /// Everything in `f32`.
    #[default]
    F32 = "f32",
    /// Matrices, their products and the residual stream in `bf16`; master weights, optimizer, WKV, norms and loss in `f32`.
    Bf16 = "bf16",
);

choice!(
    /// What happens to the gradient between chunks of a long sample.
    Bptt, "bptt":
    /// It is carried through all chunks: the gradients are those of the whole sample.
    #[default]
    Exact = "exact",
    /// It is cut: the state goes on, the gradient does not.
    Truncated = "truncated",
);

choice!(
    /// What of a model learns.
    TuneMethod, "method":
    /// All of it.
    #[default]
    Full = "full",
    /// Small matrices beside frozen ones.
    Lora = "lora",
    /// The state before the first token, and nothing of the model.
    State = "state",
);

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum TokenizerKind {
    /// One token per distinct character of the training text.
    #[default]
    Char,
    /// One token per byte.
    Byte,
    /// A published vocabulary.
    File(PathBuf),
}

impl From<String> for TokenizerKind {
    fn from(name: String) -> Self {
        match name.as_str() {
            "char" => Self::Char,
            "byte" => Self::Byte,
            _ => Self::File(name.into()),
        }
    }
}

impl From<TokenizerKind> for String {
    fn from(kind: TokenizerKind) -> Self {
        match kind {
            TokenizerKind::Char => "char".to_owned(),
            TokenizerKind::Byte => "byte".to_owned(),
            TokenizerKind::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl std::str::FromStr for TokenizerKind {
    type Err = std::convert::Infallible;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(name.to_owned().into())
    }
}
