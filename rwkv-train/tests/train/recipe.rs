//! Every key of the configuration changes what a run does, and samples are the same however they are dealt out.

use crate::small_run::{Row, config, dataset, fresh, row, tokenizer, weights};
use crate::support::B;
use burn::module::AutodiffModule;
use rwkv_core::checkpoint::{self, Checkpoint};
use rwkv_core::model::Rwkv;
use rwkv_core::provenance::Provenance;
use rwkv_core::tokenizer::Tokenizer;
use rwkv_train::checkpoints;
use rwkv_train::config::RunConfig;
use rwkv_train::error::Result;
use rwkv_train::events::Event;
use rwkv_train::metrics::Metrics;
use rwkv_train::parallel::{self, PATIENCE, Worker};
use rwkv_train::run_dir::RunDir;
use rwkv_train::trainer::{Ended, Observer, Trainer};
use rwkv_train::transfer::transfer;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn trainer(config: &RunConfig) -> Trainer<B> {
    Trainer::new(config.clone(), dataset(config), fresh(config), Default::default()).expect("valid")
}

/// All that a run does.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    rows: Vec<Row>,
    checkpoints: Vec<usize>,
    events: usize,
    weights: BTreeMap<String, Vec<f32>>,
    average: BTreeMap<String, Vec<f32>>,
}

impl Observer<B> for Seen {
    fn on_metrics(&mut self, m: &Metrics) -> Result<()> {
        self.rows.push(row(m));
        Ok(())
    }

    fn on_event(&mut self, _: &Event) -> Result<()> {
        self.events += 1;
        Ok(())
    }

    fn on_checkpoint(&mut self, trainer: &Trainer<B>) -> Result<()> {
        self.checkpoints.push(trainer.step());
        Ok(())
    }
}

fn run(config: &RunConfig) -> Seen {
    let mut trainer = trainer(config);
    let mut seen = Seen::default();
    assert_eq!(trainer.run(&mut seen).expect("runs"), Ended::Finished);
    seen.weights = weights(&trainer.trainee().valid().model);
    seen.average = trainer.average().map(|average| weights(&average.model)).unwrap_or_default();
    seen
}

#[test]
fn every_key_of_the_recipe_changes_the_run() {
    let plain = run(&config(""));
    assert_eq!(plain, run(&config("")), "a run repeats itself");
    for change in [
        "model.n_layer = 1",
        "model.n_embd = 20",
        "model.dim_att = 24",
        "model.dim_ffn = 40",
        "model.emb_init_scale = 0.1",
        "model.vocab_size = 40",
        "data.val_fraction = 0.3",
        "data.order = \"shuffled\"",
        "data.order = \"sequential\"",
        "data.document_reset = true",
        "train.seed = 1",
        "train.steps = 7",
        "train.batch_size = 3",
        "train.accumulate = 2",
        "train.ctx_len = 10",
        "train.extend = [{ step = 3, ctx_len = 24, batch_size = 1 }]",
        "train.lr_init = 4e-3",
        "train.lr_final = 1e-3",
        "train.warmup_steps = 3",
        "train.constant_steps = 2",
        "train.lr_schedule = \"linear\"",
        "train.lr_schedule = \"constant\"",
        "train.beta_1 = 0.8",
        "train.beta_2 = 0.9",
        "train.epsilon = 1e-3",
        "train.weight_decay = 0.1",
        "train.layerwise_lr = false",
        "train.stage = \"time\"",
        "train.l2_wrap = 1e-2",
        "train.dropout = 0.1",
        "train.ema_decay = 0.5",
        "train.grad_clip = 0.01",
        "train.precision = \"bf16\"",
        "train.log_every = 2",
        "train.val_every = 2",
        "train.val_windows = 2",
        "train.save_every = 2",
        "train.peak_flops = 1e12",
        "tune.method = \"lora\"",
        "tune.method = \"state\"",
    ] {
        assert_ne!(plain, run(&config(change)), "{change}");
    }
    // Keys that act only beside another.
    for (beside, change) in [
        ("train.weight_decay = 0.1", "train.weight_decay_final = 1e-3"),
        ("train.lr_schedule = \"wsd\"", "train.decay_steps = 4"),
        ("train.bptt_chunk = 4", "train.bptt = \"truncated\""),
        ("tune.method = \"lora\"", "tune.lora_rank = 2"),
        ("tune.method = \"lora\"", "tune.lora_alpha = 1.0"),
        ("tune.method = \"lora\"", "tune.lora_targets = [\"head\"]"),
    ] {
        let rows = |config: &RunConfig| run(config).rows;
        assert_ne!(rows(&config(beside)), rows(&config(&format!("{beside}\n{change}"))), "{change}");
    }
    // At a rate of next to nothing the loss is noise around its mean, and half of it is above.
    let still = "train.steps = 80\ntrain.lr_init = 1e-7\ntrain.lr_final = 1e-7\nmodel.emb_init_scale = 0.5";
    let events = |factor: f64| run(&config(&format!("{still}\ntrain.spike_factor = {factor}"))).events;
    assert!(events(0.1) > 0 && events(0.0) == 0, "spike_factor");
}

#[test]
fn keys_that_only_save_memory_change_the_order_of_additions_at_most() {
    let plain = run(&config(""));
    for change in ["train.loss_chunk = 5", "train.checkpoint_blocks = true", "train.bptt_chunk = 5"] {
        let other = run(&config(change));
        let error = largest_difference(&other.weights, &plain.weights);
        println!("{change}: largest difference of a weight {error:.1e}");
        assert!(error < 1e-5, "{change}: {error}");
    }
}

fn largest_difference(got: &BTreeMap<String, Vec<f32>>, want: &BTreeMap<String, Vec<f32>>) -> f64 {
    assert!(!want.is_empty() && got.keys().eq(want.keys()));
    let pairs = want.iter().flat_map(|(name, want)| got[name].iter().zip(want));
    pairs.map(|(x, y)| f64::from((x - y).abs())).fold(0.0, f64::max)
}

/// One step of eight samples: at once, in two and four micro-batches, on two and four workers, and both.
#[test]
fn one_batch_many_micro_batches_and_many_workers_make_the_same_step() {
    let _one = crate::support::alone_in_this_process();
    let step = |batch_size: usize, accumulate: usize, workers: usize| {
        let config = config(&format!(
            "train.steps = 1\ntrain.warmup_steps = 0\ntrain.batch_size = {batch_size}\ntrain.accumulate = {accumulate}\n\
             data.document_reset = true"
        ));
        let workers = match workers {
            1 => vec![Worker::alone()],
            n => parallel::workers::<B>(&vec![Default::default(); n], None, PATIENCE).expect("threads"),
        };
        let weights = parallel::run(workers, |worker| {
            let mut trainer = trainer(&config);
            trainer.run_as(worker, &mut ())?;
            Ok(weights(&trainer.model().valid()))
        });
        let weights = weights.expect("trained");
        assert!(weights.iter().all(|of_worker| *of_worker == weights[0]), "all workers have the same bits");
        weights.into_iter().next().expect("at least one")
    };
    let whole = step(8, 1, 1);
    for (batch_size, accumulate, workers) in [(4, 2, 1), (2, 4, 1), (4, 1, 2), (2, 1, 4), (2, 2, 2)] {
        let error = largest_difference(&step(batch_size, accumulate, workers), &whole);
        println!("{batch_size} samples, {accumulate} micro-batches, {workers} workers: largest difference {error:.1e}");
        assert!(error < 1e-6, "{error:.1e}");
    }
}

#[test]
fn adapters_and_states_leave_the_model_alone() {
    for method in ["lora", "state"] {
        let config = config(&format!("tune.method = \"{method}\"\ntrain.weight_decay = 0.1"));
        let before = weights(&fresh::<B>(&config));
        assert_eq!(run(&config).weights, before, "{method}");
    }
}

#[test]
fn longer_contexts_come_at_their_step() {
    let config = config("train.extend = [{ step = 2, ctx_len = 24, batch_size = 1 }, { step = 4, ctx_len = 48 }]");
    assert_eq!(
        [0, 1, 2, 3, 4, 5].map(|step| config.shape_at(step)),
        [(2, 12), (2, 12), (1, 24), (1, 24), (1, 48), (1, 48)]
    );
    assert_eq!([0, 2, 3, 5].map(|step| config.samples_before(step, 1)), [0, 4, 5, 7]);
    assert_eq!(config.samples_before(5, 3), 21);
    let tokens: Vec<u64> = run(&config).rows.iter().map(|row| row.5).collect();
    assert_eq!(tokens, [24, 48, 72, 96, 144, 192]);
}

#[test]
fn a_tuned_run_resumes_bit_for_bit() {
    for (method, extra) in [("lora", ""), ("state", ""), ("full", "train.ema_decay = 0.8\ntrain.dropout = 0.1")] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(&format!("tune.method = \"{method}\"\ntrain.save_every = 2\n{extra}"));
        let whole = run(&config);
        let run_dir = RunDir::create(folder.path(), &config, Some(&tokenizer()), &Provenance::of_this_process("flex"))
            .expect("made");
        // Asked to stop after step 3, which saves.
        let stop = Arc::new(AtomicBool::new(false));
        let mut first = trainer(&config).with_stop(stop.clone());
        let mut log = StopsAt { step: 3, stop, run_dir: run_dir.clone() };
        assert_eq!(first.run(&mut log).expect("stops"), Ended::Stopped);
        let step = RunDir::open(folder.path()).expect("opens").step.expect("saved");
        assert_eq!(step, 3);
        let base = || Ok(fresh(&config));
        let mut second: Trainer<B> =
            checkpoints::restore(folder.path(), step, config.clone(), dataset(&config), base, Default::default())
                .expect("restored");
        let mut seen = Seen::default();
        second.run(&mut seen).expect("goes on");
        assert_eq!(seen.rows[..], whole.rows[3..], "{method}");
        let average = second.average().map(|average| weights(&average.model)).unwrap_or_default();
        assert_eq!(average, whole.average, "{method}");
    }
}

struct StopsAt {
    step: usize,
    stop: Arc<AtomicBool>,
    run_dir: RunDir,
}

impl Observer<B> for StopsAt {
    fn on_metrics(&mut self, metrics: &Metrics) -> Result<()> {
        // Seen before the next look at the flag: the step after this one is the last.
        if metrics.step + 1 == self.step {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn on_checkpoint(&mut self, trainer: &Trainer<B>) -> Result<()> {
        self.run_dir.save(trainer)
    }
}

#[test]
fn checkpoints_are_pruned_and_damaged_ones_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config("train.save_every = 1\ntrain.keep = 3");
    let run_dir =
        RunDir::create(folder.path(), &config, Some(&tokenizer()), &Provenance::of_this_process("flex")).expect("made");
    let mut log = StopsAt { step: usize::MAX, stop: Arc::default(), run_dir };
    trainer(&config).run(&mut log).expect("runs");
    assert_eq!(checkpoints::steps(folder.path()).expect("read"), [6, 5, 4]);
    // The newest: a bit turned. The one before: cut short.
    let optimizer = checkpoints::folder(folder.path(), 6).join("optimizer.safetensors");
    let mut bytes = std::fs::read(&optimizer).expect("read");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&optimizer, &bytes).expect("written");
    let model = checkpoints::folder(folder.path(), 5).join("model.safetensors");
    let bytes = std::fs::read(&model).expect("read");
    std::fs::remove_file(&model).expect("removed");
    std::fs::write(&model, &bytes[..bytes.len() / 2]).expect("written");
    let opened = RunDir::open(folder.path()).expect("opens");
    assert_eq!(opened.step, Some(4));
    assert!(opened.damaged[0].contains("step-000006") && opened.damaged[1].contains("step-000005"));
    std::fs::remove_file(checkpoints::folder(folder.path(), 4).join("checksums.json")).expect("removed");
    assert!(RunDir::open(folder.path()).is_err(), "nothing whole is left");
}

#[test]
fn steps_without_a_number_are_left_out_up_to_a_limit() {
    // At this rate the weights overflow with the first update.
    let config = config("train.lr_init = 1e30\ntrain.lr_final = 1e30\ntrain.warmup_steps = 0\ntrain.val_every = 0");
    let mut seen = Seen::default();
    let error = trainer(&config).run(&mut seen).expect_err("diverges").to_string();
    assert_eq!(seen.events, 3, "max_skips");
    assert!(error.contains("3 steps in a row") && error.contains("first bad tensor"), "{error}");
    let mut none = config.clone();
    none.train.max_skips = 0;
    let mut seen = Seen::default();
    trainer(&none).run(&mut seen).expect_err("diverges");
    assert_eq!(seen.events, 0);
}

#[test]
fn a_larger_model_takes_over_from_a_smaller_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("small.safetensors");
    let small = fresh::<B>(&config(""));
    checkpoint::save(&small, &path).expect("saved");
    let sizes = config("model.n_layer = 3\nmodel.dim_ffn = 80").model_config(tokenizer().vocab_size());
    let (large, outcome) = transfer(Rwkv::<B>::new(&sizes, 7, &Default::default()), &path).expect("fits");
    let (large, small) = (weights(&large), weights(&small));
    assert_eq!(large["emb.weight"], small["emb.weight"]);
    assert_eq!(large["blocks.1.att.time_decay"], small["blocks.1.att.time_decay"]);
    assert_ne!(large["blocks.2.att.time_decay"].len(), 0);
    assert!(outcome.taken > 30 && outcome.fresh > 10, "{outcome:?}");
    let wide = config("model.n_embd = 32").model_config(tokenizer().vocab_size());
    let (wide, outcome) = transfer(Rwkv::<B>::new(&wide, 7, &Default::default()), &path).expect("fits");
    assert!(outcome.resampled > 20, "{outcome:?}");
    let wide = weights(&wide);
    let old = &small["blocks.0.att.time_decay"];
    assert!(wide["blocks.0.att.time_decay"].iter().step_by(2).zip(old).all(|(x, y)| x == y));
    assert!(Checkpoint::open(&path).is_ok());
}

#[test]
fn presets_are_the_papers_table() {
    for (name, layers, width, lr_init, lr_final, constant) in [
        ("rwkv4-169m", 12, 768, 6e-4, 1e-5, 361),
        ("rwkv4-430m", 24, 1024, 4e-4, 1e-5, 411),
        ("rwkv4-1b5", 24, 2048, 3e-4, 1e-5, 443),
        ("rwkv4-3b", 32, 2560, 1.5e-4, 1e-5, 451),
        ("rwkv4-7b", 32, 4096, 1.5e-4, 1e-5, 465),
        ("rwkv4-14b", 40, 5120, 1e-4, 7e-6, 544),
    ] {
        let config = RunConfig::from_toml(&format!("preset = \"{name}\"\n[train]\nseed = 3")).expect(name);
        assert_eq!((config.model.n_layer, config.model.n_embd, config.train.seed), (layers, width, 3));
        let schedule = config.schedule();
        let constant = constant * 315;
        assert_eq!((schedule.lr(0), schedule.lr(constant - 1)), (lr_init, lr_init));
        assert!(
            schedule.lr(constant + 1000) < lr_init
                && (schedule.lr(config.train.steps - 1) / lr_final - 1.0).abs() < 1e-9
        );
        config.validate().expect(name);
        assert_eq!(RunConfig::from_toml(&config.to_toml()).expect("its own TOML"), config);
    }
    let said = RunConfig::from_toml("preset = \"rwkv4-1m\"").expect_err("unknown");
    assert!(said.contains("rwkv4-1m") && said.contains("rwkv4-169m"), "{said}");
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_one() {
    for (toml, nearest) in [
        ("[train]\nbatchsize = 3", "batch_size"),
        ("[train]\nlr_schedul = \"cosine\"", "lr_schedule"),
        ("[data]\nordr = \"random\"", "order"),
        ("[tune]\nmetod = \"full\"", "method"),
        ("[trian]\nsteps = 3", "train"),
        ("[train]\nlr_schedule = \"cosin\"", "cosine"),
        ("preset = \"rwkv4-169m\"\n[train]\nstep = 3", "steps"),
    ] {
        let said = RunConfig::from_toml(toml).expect_err(toml);
        assert!(said.ends_with(&format!("did you mean `{nearest}`?")), "{toml}: {said}");
    }
}

#[test]
fn a_file_that_is_no_checkpoint_is_no_smaller_model() {
    let model = fresh::<B>(&config(""));
    let said = transfer(model, Path::new("/no/such/model")).expect_err("missing").to_string();
    assert!(said.contains("/no/such/model"), "{said}");
}
