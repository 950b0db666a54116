//! A small run of training: its text, configuration and model, and what can be said of it.
#![allow(dead_code, reason = "not every test file uses all of it")]

use rwkv_core::checkpoint;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::tokenizer::{AnyTokenizer, CharTokenizer, Tokenizer};
use rwkv_train::config::RunConfig;
use rwkv_train::data::{Dataset, Sample, Samples, Tokens, WindowOptions};
use rwkv_train::error::Result;
use rwkv_train::metrics::Metrics;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const TEXT: &str = "She sells sea shells on the sea shore; the shells that she sells are sea shells for sure.\n";
const BASE: &str = "[model]\nn_layer = 2\nn_embd = 16\n[train]\nsteps = 6\nbatch_size = 2\nctx_len = 12\nlr_init = 5e-3\n\
                    warmup_steps = 2\nlog_every = 1\nval_every = 3\nval_windows = 5\n";

pub fn tokenizer() -> AnyTokenizer {
    CharTokenizer::from_text(TEXT).into()
}

/// [`BASE`] with keys changed: `section.key = value` lines.
pub fn config(changes: &str) -> RunConfig {
    let mut table: toml::Table = toml::from_str(BASE).expect("valid");
    for line in changes.lines() {
        let changed: toml::Table = toml::from_str(line).expect("a line of TOML");
        for (section, keys) in changed {
            let toml::Value::Table(keys) = keys else { panic!("{line}") };
            let whole = table.entry(section).or_insert_with(|| toml::Table::new().into());
            whole.as_table_mut().expect("a section").extend(keys);
        }
    }
    RunConfig::from_toml(&table.to_string()).expect("valid")
}

pub fn dataset(config: &RunConfig) -> Dataset {
    let tokens = tokenizer().encode(&TEXT.repeat(8)).expect("own text");
    let newline = tokenizer().encode("\n").expect("own text")[0];
    let options = WindowOptions {
        ctx_len: config.train.ctx_len,
        order: config.data.order,
        document_reset: config.data.document_reset,
        seed: config.train.seed,
    };
    Dataset::split(Tokens::from(tokens).with_end_of_document(newline), config.data.val_fraction, options)
        .expect("long enough")
}

pub fn fresh<B: RwkvBackend>(config: &RunConfig) -> Rwkv<B> {
    Rwkv::new(&config.model_config(tokenizer().vocab_size()), config.train.seed, &Default::default())
}

/// What of a row of metrics does not depend on the clock: step, losses, rate, norm, tokens, and whether there is an MFU.
pub type Row = (usize, f64, Option<f64>, f64, f64, u64, bool);

pub fn row(m: &Metrics) -> Row {
    (m.step, m.loss, m.val_loss, m.lr, m.grad_norm, m.tokens, m.mfu.is_some())
}

/// The numbers of a model, by name, through a file.
pub fn weights<C: burn::tensor::backend::Backend>(model: &Rwkv<C>) -> BTreeMap<String, Vec<f32>> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let plain = model.clone().remove_lora();
    checkpoint::save(&plain, &path).expect("saved");
    let file = std::fs::read(&path).expect("read");
    let file = safetensors::SafeTensors::deserialize(&file).expect("safetensors");
    let numbers = |bytes: &[u8]| bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
    file.iter().map(|(name, tensor)| (name.to_owned(), numbers(tensor.data()))).collect()
}

/// Samples some of whose targets weigh what is no number, and with them loss and gradient.
pub struct Broken {
    pub whole: Arc<dyn Samples>,
    pub broken: Range<u64>,
}

impl Samples for Broken {
    fn ctx_len(&self) -> usize {
        self.whole.ctx_len()
    }

    fn sample(&self, index: u64) -> Sample {
        let weights = self.broken.contains(&index).then(|| vec![f32::NAN; self.ctx_len()]);
        Sample { weights, ..self.whole.sample(index) }
    }

    fn with_ctx_len(&self, ctx_len: usize) -> Result<Arc<dyn Samples>> {
        self.whole.with_ctx_len(ctx_len)
    }

    fn len(&self) -> usize {
        self.whole.len()
    }

    fn in_order(&self, i: usize) -> Sample {
        self.whole.in_order(i)
    }
}

/// A run in which the steps `bad`, counted from 1, are broken.
pub fn broken_at(config: &RunConfig, bad: Range<usize>) -> Dataset {
    let Dataset { train, val } = dataset(config);
    let first = |step: usize| config.samples_before(step - 1, 1);
    Dataset { train: Arc::new(Broken { whole: train, broken: first(bad.start)..first(bad.end) }), val }
}
