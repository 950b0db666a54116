//! Whole small runs: resuming, accumulation, divergence, and what a run directory holds.

use burn::backend::{Autodiff, Flex};
use rwkv_core::checkpoint;
use rwkv_core::model::Rwkv;
use rwkv_core::provenance::Provenance;
use rwkv_core::tokenizer::{AnyTokenizer, CharTokenizer, Tokenizer};
use rwkv_train::checkpoints;
use rwkv_train::config::RunConfig;
use rwkv_train::data::{Dataset, WindowOptions};
use rwkv_train::error::{Error, Result};
use rwkv_train::metrics::Metrics;
use rwkv_train::plot::plot_loss;
use rwkv_train::run_dir::{Opened, RunDir};
use rwkv_train::trainer::{Observer, Trainer};

type B = Autodiff<Flex>;

const TEXT: &str = "She sells sea shells on the sea shore; the shells that she sells are sea shells for sure. ";

fn config(extra: &str) -> RunConfig {
    let toml = format!(
        "[model]\nn_layer = 2\nn_embd = 32\n[train]\nsteps = 12\nbatch_size = 4\nctx_len = 16\nlr_init = 5e-3\n\
         warmup_steps = 2\nlog_every = 1\nval_every = 4\nsave_every = 6\n{extra}"
    );
    RunConfig::from_toml(&toml).expect("valid")
}

fn tokenizer() -> AnyTokenizer {
    CharTokenizer::from_text(TEXT).into()
}

fn dataset() -> Dataset {
    let tokens = tokenizer().encode(&TEXT.repeat(8)).expect("own text");
    Dataset::split(tokens, 0.2, WindowOptions::new(16, 0)).expect("long enough")
}

fn trainer(config: RunConfig) -> Trainer<B> {
    let model = Rwkv::new(&config.model_config(tokenizer().vocab_size()), config.train.seed, &Default::default());
    Trainer::new(config, dataset(), model, Default::default()).expect("valid")
}

fn restore(run: &std::path::Path, step: usize, config: RunConfig) -> Trainer<B> {
    let model = || unreachable!("the checkpoint has all weights");
    checkpoints::restore(run, step, config, dataset(), model, Default::default()).expect("restored")
}

/// Writes everything, and stops the run after some step if asked to.
struct Recorder {
    run_dir: Option<RunDir>,
    rows: Vec<Metrics>,
    stop_after: usize,
}

impl Observer<B> for Recorder {
    fn on_metrics(&mut self, metrics: &Metrics) -> Result<()> {
        if let Some(run_dir) = &self.run_dir {
            run_dir.append(metrics)?;
        }
        self.rows.push(metrics.clone());
        if metrics.step == self.stop_after { Err(Error::NothingToResume("stopped on purpose".into())) } else { Ok(()) }
    }

    fn on_checkpoint(&mut self, trainer: &Trainer<B>) -> Result<()> {
        self.run_dir.as_ref().map_or(Ok(()), |run_dir| run_dir.save(trainer))
    }
}

fn record(trainer: &mut Trainer<B>, run_dir: Option<RunDir>, stop_after: usize) -> Vec<Metrics> {
    let mut recorder = Recorder { run_dir, rows: Vec::new(), stop_after };
    let outcome = trainer.run(&mut recorder);
    assert_eq!(outcome.is_err(), stop_after > 0);
    recorder.rows
}

/// What of a row does not depend on the clock.
fn numbers(rows: &[Metrics]) -> Vec<(usize, f64, Option<f64>, f64, f64)> {
    rows.iter().map(|row| (row.step, row.loss, row.val_loss, row.lr, row.grad_norm)).collect()
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = record(&mut trainer(config("")), None, 0);
    assert_eq!(whole.len(), 12);
    assert!(whole[11].loss < 0.7 * whole[0].loss, "it learns");
    assert_eq!(whole.iter().filter(|row| row.val_loss.is_some()).count(), 3);

    // Interrupted after step 8: the newest checkpoint is that of step 6.
    let run_dir = RunDir::create(folder.path(), &config(""), Some(&tokenizer()), &Provenance::of_this_process("flex"))
        .expect("made");
    record(&mut trainer(config("")), Some(run_dir), 8);
    let Opened { run_dir, config: read, tokenizer: tokens, step, damaged } =
        RunDir::open(folder.path()).expect("opens");
    assert_eq!((step, &read, damaged.len()), (Some(6), &config(""), 0));
    assert!(matches!(tokens, Some(AnyTokenizer::Char(chars)) if chars == CharTokenizer::from_text(TEXT)));
    assert_eq!(run_dir.metrics().expect("rows").len(), 6, "rows after the checkpoint are dropped");
    let mut resumed: Trainer<B> = restore(folder.path(), 6, read);
    let rest = record(&mut resumed, Some(run_dir.clone()), 0);
    assert_eq!(numbers(&rest), numbers(&whole[6..]));
    assert_eq!(numbers(&run_dir.metrics().expect("rows")), numbers(&whole));

    let model = checkpoint::load::<Flex>(folder.path(), &Default::default()).expect("loads");
    let same = burn::module::AutodiffModule::valid(resumed.model());
    let (got, want) = (
        model.head().weight().expect("a parameter").val().into_data(),
        same.head().weight().expect("a parameter").val().into_data(),
    );
    assert_eq!(got, want);
    plot_loss(&whole, "a test", &folder.path().join("loss.svg")).expect("drawn");
    let svg = std::fs::read_to_string(folder.path().join("loss.svg")).expect("there");
    assert!(svg.starts_with("<svg") && svg.contains("held out"), "{}", &svg[..100]);
    assert!(
        std::fs::read_dir(folder.path())
            .expect("folder")
            .all(|entry| { !entry.expect("entry").file_name().to_string_lossy().starts_with(".partial") })
    );
}

#[test]
fn accumulated_micro_batches_equal_one_large_batch() {
    // A stream of a single window: every micro-batch is that window, however many there are.
    let run = |batch_size: usize, accumulate: usize| {
        let mut config = config("");
        (config.train.batch_size, config.train.accumulate) = (batch_size, accumulate);
        let tokens = tokenizer().encode(&TEXT[..34]).expect("own text");
        let dataset = Dataset::from_parts(tokens[..17].to_vec(), tokens[17..].to_vec(), WindowOptions::new(16, 0))
            .expect("long enough");
        let model = Rwkv::new(&config.model_config(tokenizer().vocab_size()), 0, &Default::default());
        let mut trainer = Trainer::<B>::new(config, dataset, model, Default::default()).expect("valid");
        record(&mut trainer, None, 0)
    };
    for (one, many) in run(6, 1).iter().zip(&run(2, 3)) {
        let near = |x: f64, y: f64| (x / y - 1.0).abs() < 1e-4;
        assert!(near(one.loss, many.loss) && near(one.grad_norm, many.grad_norm), "{one:?} {many:?}");
    }
}

#[test]
fn a_run_that_diverges_says_so() {
    let mut config = config("");
    (config.train.lr_init, config.train.lr_final, config.train.warmup_steps) = (1e30, 1e30, 0);
    let error = trainer(config).run(&mut ()).expect_err("must diverge").to_string();
    assert!(error.contains("step") && error.contains("lr_init"), "{error}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_does_not() {
    let losses = |seed: u64| {
        let mut config = config("");
        config.train.seed = seed;
        numbers(&record(&mut trainer(config), None, 0))
    };
    assert_eq!(losses(0), losses(0));
    assert_ne!(losses(0), losses(1));
}

#[test]
fn a_folder_with_a_run_is_not_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let create =
        || RunDir::create(folder.path(), &config(""), Some(&tokenizer()), &Provenance::of_this_process("flex"));
    let run_dir = create().expect("made");
    assert!(matches!(RunDir::open(&folder.path().join("none")), Err(Error::NothingToResume(_))));
    assert_eq!(RunDir::open(folder.path()).expect("it begins again").step, None);
    run_dir
        .append(&Metrics {
            step: 1,
            loss: 1.0,
            val_loss: None,
            val_accuracy: None,
            val_exact: None,
            tokens_per_second: 1.0,
            lr: 1.0,
            grad_norm: 1.0,
            tokens: 1,
            mfu: None,
            seconds: None,
        })
        .expect("row");
    assert!(create().expect_err("refused").to_string().contains("--resume"));
}

#[test]
fn configurations_are_strict() {
    for (toml, field) in [
        ("[train]\nstep = 5", "step"),
        ("[modle]\nn_layer = 2", "modle"),
        ("[train]\nlr_schedule = \"step\"", "lr_schedule"),
        ("[model]\nn_layer = -1", "n_layer"),
    ] {
        let error = RunConfig::from_toml(toml).expect_err(toml);
        assert!(error.contains(field), "{toml}: {error}");
    }
    for (change, field) in [
        ((|c: &mut RunConfig| c.train.batch_size = 0) as fn(&mut RunConfig), "batch_size"),
        (|c| c.train.ctx_len = 0, "ctx_len"),
        (|c| c.model.n_embd = 0, "n_embd"),
        (|c| c.train.lr_init = f64::NAN, "lr_init"),
        (|c| c.train.beta_2 = 1.0, "beta_2"),
        (|c| c.data.val_fraction = 1.0, "val_fraction"),
    ] {
        let mut config = config("");
        change(&mut config);
        let error = config.validate().expect_err(field).to_string();
        assert!(error.starts_with(field), "{error}");
    }
    let config = config("accumulate = 3\nlr_schedule = \"exponential\"");
    assert_eq!(RunConfig::from_toml(&config.to_toml()).expect("its own TOML"), config);
}

/// A run that is killed between its last checkpoint and the files at its top has nothing left to train when it goes on.
#[test]
fn the_weights_at_the_top_are_those_of_the_checkpoint_that_a_run_goes_on_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config("ema_decay = 0.5");
    let provenance = Provenance::of_this_process("flex");
    let run_dir = RunDir::create(folder.path(), &config, Some(&tokenizer()), &provenance).expect("made");
    record(&mut trainer(config), Some(run_dir), 0);
    let files = ["model.safetensors", "average.model.safetensors"].map(|name| folder.path().join(name));
    let written = files.clone().map(|file| std::fs::read(file).expect("there"));
    std::fs::remove_file(&files[0]).expect("removed");
    std::fs::remove_file(&files[1]).expect("removed");
    std::fs::copy(folder.path().join("step-000006/average.safetensors"), &files[1]).expect("an older average");
    assert_eq!(RunDir::open(folder.path()).expect("opens").step, Some(12));
    assert!(files.map(|file| std::fs::read(file).expect("there")) == written);
}
