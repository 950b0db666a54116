//! The flags of `train` that override a run's configuration.

use crate::Failure;
use rwkv_train::config::{Precision, RunConfig, TokenizerKind, TuneMethod};
use rwkv_train::data::Order;
use rwkv_train::data::tasks::Task;
use rwkv_train::schedule::Decay;
use std::path::PathBuf;

/// Flags that override the configuration's fields of the same name.
#[derive(clap::Args)]
pub(crate) struct Recipe {
    /// Defaults of a published recipe: rwkv4-169m, 430m, 1b5, 3b, 7b or 14b.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    preset: Option<String>,
    /// Any key of the configuration, as in TOML: `train.ema_decay=0.999`. May be given often.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Training text, UTF-8.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Held-out text; without one the end of the training text is held out.
    #[arg(long, value_name = "FILE")]
    val_text: Option<PathBuf>,
    /// Share of the text that is held out [default: 0.1].
    #[arg(long)]
    val_fraction: Option<f64>,
    /// Token file made by `tokenize`, without .bin or .idx.
    #[arg(long, value_name = "PREFIX")]
    tokens: Option<PathBuf>,
    /// Held-out token file.
    #[arg(long, value_name = "PREFIX")]
    val_tokens: Option<PathBuf>,
    /// Instructions or conversations, JSONL.
    #[arg(long, value_name = "FILE")]
    instructions: Option<PathBuf>,
    /// Generated task instead of a file: mqar, induction, copying, selective-copying, parity, modular-arithmetic or needle.
    #[arg(long, value_name = "NAME")]
    task: Option<Task>,
    /// random, shuffled, `magic_prime` or sequential [default: random].
    #[arg(long)]
    order: Option<Order>,
    /// Checkpoint to go on from; its sizes are the model's.
    #[arg(long, value_name = "MODEL")]
    start_from: Option<PathBuf>,
    /// full, lora or state: what learns [default: full].
    #[arg(long)]
    method: Option<TuneMethod>,
    /// f32 or bf16 [default: f32].
    #[arg(long)]
    precision: Option<Precision>,
    /// char, byte, or a vocabulary file [default: char].
    #[arg(long)]
    tokenizer: Option<TokenizerKind>,
    /// Blocks [default: 4].
    #[arg(long)]
    n_layer: Option<usize>,
    /// Width [default: 128].
    #[arg(long)]
    n_embd: Option<usize>,
    /// Channels of the time-mix [default: the width].
    #[arg(long)]
    dim_att: Option<usize>,
    /// Hidden units of the channel-mix [default: four times the width].
    #[arg(long)]
    dim_ffn: Option<usize>,
    /// Half-width of the embedding's initial distribution [default: the initial learning rate].
    #[arg(long)]
    emb_init_scale: Option<f64>,
    /// Seed of weights and windows [default: 0].
    #[arg(long)]
    seed: Option<u64>,
    /// Optimizer steps [default: 2000].
    #[arg(long)]
    steps: Option<usize>,
    /// Windows per micro-batch [default: 12].
    #[arg(long)]
    batch_size: Option<usize>,
    /// Micro-batches per step [default: 1].
    #[arg(long)]
    accumulate: Option<usize>,
    /// Tokens per window [default: 64].
    #[arg(long)]
    ctx_len: Option<usize>,
    /// Learning rate after the warm-up [default: 1e-3].
    #[arg(long)]
    lr_init: Option<f64>,
    /// Learning rate at the end [default: 1e-4].
    #[arg(long)]
    lr_final: Option<f64>,
    /// Steps of warm-up [default: 50].
    #[arg(long)]
    warmup_steps: Option<usize>,
    /// constant, exponential, cosine, linear or wsd [default: cosine].
    #[arg(long)]
    lr_schedule: Option<Decay>,
    /// Adam's first coefficient [default: 0.9].
    #[arg(long)]
    beta_1: Option<f64>,
    /// Adam's second coefficient [default: 0.99].
    #[arg(long)]
    beta_2: Option<f64>,
    /// Adam's epsilon [default: 1e-8].
    #[arg(long)]
    epsilon: Option<f64>,
    /// Largest norm of the gradient [default: 1].
    #[arg(long)]
    grad_clip: Option<f64>,
    /// Steps between rows of metrics [default: 10].
    #[arg(long)]
    log_every: Option<usize>,
    /// Steps between validations; 0: at the end only [default: 250].
    #[arg(long)]
    val_every: Option<usize>,
    /// Held-out windows per validation, at most [default: 1000].
    #[arg(long)]
    val_windows: Option<usize>,
    /// Steps between checkpoints; 0: at the end only [default: 1000].
    #[arg(long)]
    save_every: Option<usize>,
    /// Checkpoints that stay; 0: all [default: 0].
    #[arg(long)]
    keep: Option<usize>,
}

impl Recipe {
    /// The configuration that a file, a preset and the flags make together.
    pub(crate) fn config(&self, file: Option<&std::path::Path>) -> Result<RunConfig, Failure> {
        let mut config = match (file, &self.preset) {
            (Some(file), _) => RunConfig::load(file)?,
            (None, Some(name)) => RunConfig::preset(name)?,
            (None, None) => RunConfig::default(),
        };
        for assignment in &self.set {
            config = set(&config, assignment)?;
        }
        macro_rules! apply {
            ($section:ident: $($field:ident),*) => {
                $(if let Some(value) = &self.$field { config.$section.$field = value.clone().into(); })*
            };
        }
        apply!(model: n_layer, n_embd, dim_att, dim_ffn, emb_init_scale, start_from);
        apply!(data: text, val_text, tokens, val_tokens, instructions, task, val_fraction, tokenizer, order);
        apply!(train: seed, steps, batch_size, accumulate, ctx_len, lr_init, lr_final, warmup_steps, lr_schedule);
        apply!(train: beta_1, beta_2, epsilon, grad_clip, precision, log_every, val_every, val_windows, save_every, keep);
        apply!(tune: method);
        Ok(config)
    }
}

/// A configuration with one key changed.
pub(crate) fn set(config: &RunConfig, assignment: &str) -> Result<RunConfig, Failure> {
    changed(config, assignment).map_err(|problem| Failure(format!("--set {assignment}: {problem}")))
}

/// The table that an assignment stands for, which alone is a valid configuration.
pub(crate) fn assigned(assignment: &str) -> Result<toml::Table, String> {
    let (key, value) = assignment.split_once('=').ok_or("write SECTION.KEY=VALUE")?;
    let (section, key) = key.trim().split_once('.').ok_or("write SECTION.KEY=VALUE")?;
    // The one line first, so that an error is about it and nothing else; a bare word is a string.
    let line = |value: &str| format!("[{section}]\n{key} = {value}");
    let value = match toml::from_str::<toml::Table>(&line(value)) {
        Ok(_) => value.to_owned(),
        Err(_) => toml::Value::String(value.to_owned()).to_string(),
    };
    RunConfig::from_toml(&line(&value))?;
    toml::from_str(&line(&value)).map_err(|error| error.to_string())
}

fn changed(config: &RunConfig, assignment: &str) -> Result<RunConfig, String> {
    let changed = assigned(assignment)?;
    let mut whole: toml::Table = toml::from_str(&config.to_toml()).map_err(|error| error.to_string())?;
    for (section, keys) in changed {
        match (whole.get_mut(&section), keys) {
            (Some(toml::Value::Table(whole)), toml::Value::Table(keys)) => whole.extend(keys),
            (_, keys) => drop(whole.insert(section, keys)),
        }
    }
    RunConfig::from_toml(&whole.to_string())
}
