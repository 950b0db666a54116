//! Every mixer trains by the same loop, on text and on recall.

use burn::backend::{Autodiff, Flex};
use rwkv_core::model::{ChannelMixerKind, Mixers, Rwkv, SequenceMixerKind, TinyAttentionSettings};
use rwkv_core::tokenizer::{CharTokenizer, Tokenizer};
use rwkv_train::config::RunConfig;
use rwkv_train::data::{Dataset, Order, WindowOptions, encode};
use rwkv_train::metrics::Metrics;
use rwkv_train::trainer::{Observer, Trainer};

type B = Autodiff<Flex>;

const TEXT: &str = "the cat saw the dog and the dog saw the cat. then the bird sang to the cat and the dog. ";

#[derive(Default)]
struct Rows(Vec<Metrics>);

impl Observer<B> for Rows {
    fn on_metrics(&mut self, metrics: &Metrics) -> rwkv_train::error::Result<()> {
        self.0.push(metrics.clone());
        Ok(())
    }
}

/// Each sequence mixer between RWKV-4's other parts, each channel mixer, and RWKV-4a.
fn all() -> Vec<(&'static str, Mixers)> {
    let sequences = SequenceMixerKind::all().into_iter();
    let sequences = sequences.map(|sequence| (sequence.name(), Mixers { sequence, ..Mixers::default() }));
    let channels = ChannelMixerKind::all().into_iter();
    let channels = channels.map(|channel| (channel.name(), Mixers { channel, ..Mixers::default() }));
    let tiny_attention = Some(TinyAttentionSettings { size: 4, layer: 1 });
    let tiny = ("rwkv-4 with a tiny attention", Mixers { tiny_attention, ..Mixers::default() });
    sequences.chain(channels).chain([tiny]).collect()
}

fn config(mixers: Mixers, data: &str, ctx_len: usize) -> RunConfig {
    let toml = format!(
        "[model]\nn_layer = 2\nn_embd = 16\n{data}[train]\nctx_len = {ctx_len}\nsteps = 40\nbatch_size = 16\nlr_init = 1e-2\n\
         lr_final = 1e-3\nwarmup_steps = 5\nlog_every = 1\nval_every = 0\nsave_every = 0\nval_windows = 64"
    );
    let mut config = RunConfig::from_toml(&toml).expect("valid");
    config.model.mixers = mixers;
    config
}

/// The held-out loss before and after, and the metrics.
fn train(config: &RunConfig, dataset: Dataset, vocab_size: usize) -> (f64, f64, Vec<Metrics>) {
    let model = Rwkv::new(&config.model_config(vocab_size), 1, &Default::default());
    let mut trainer = Trainer::<B>::new(config.clone(), dataset, model, Default::default()).expect("valid");
    let before = trainer.validate(64).loss;
    let mut rows = Rows::default();
    trainer.run(&mut rows).expect("trains");
    (before, rows.0.last().and_then(|row| row.val_loss).expect("measured"), rows.0)
}

#[test]
fn every_mixer_learns_text() {
    let text = TEXT.repeat(20);
    let tokenizer = CharTokenizer::from_text(&text);
    for (name, mixers) in all() {
        let config = config(mixers, "", 16);
        let options = WindowOptions { ctx_len: 16, order: Order::Random, document_reset: false, seed: 0 };
        let tokens = encode(&tokenizer, &text).expect("known characters");
        let dataset = Dataset::split(tokens, 0.2, options).expect("long enough");
        let (before, after, rows) = train(&config, dataset, tokenizer.vocab_size());
        println!("{name}: {before:.3} to {after:.3}");
        assert!(after < 0.8 * before, "{name}: {before} to {after}");
        assert!(rows.iter().all(|row| row.val_accuracy.is_none()));
    }
}

#[test]
fn every_mixer_trains_on_recall() {
    for (name, mixers) in all() {
        let config = config(mixers, "[data]\ntask = { mqar = { pairs = 2, keys = 4, values = 4 } }\n", 8);
        let generator = config.data.task.as_ref().expect("a task").generator();
        let vocab_size = generator.vocab_size();
        let dataset = Dataset::of_task(generator, 8, 0).expect("fits");
        let (before, after, rows) = train(&config, dataset, vocab_size);
        let accuracy = rows.last().and_then(|row| row.val_accuracy).expect("answers are scored");
        println!("{name}: {before:.3} to {after:.3}, {accuracy:.2} right");
        // To know the row's two values is to be right half of the time; chance is a quarter.
        assert!(after < before - 0.2 && accuracy > 0.3, "{name}: {before} to {after}, {accuracy}");
    }
}
