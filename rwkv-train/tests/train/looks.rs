//! Loss and gradient norm, looked at after every step or once in some steps: the same run.

#[cfg(feature = "collective")]
use crate::small_run::Broken;
use crate::small_run::{Row, broken_at, config, dataset, fresh, row, tokenizer, weights};
#[cfg(feature = "collective")]
use crate::support;
use crate::support::B;
use burn::module::AutodiffModule;
use rwkv_core::provenance::Provenance;
use rwkv_train::checkpoints;
use rwkv_train::config::RunConfig;
use rwkv_train::data::Dataset;
use rwkv_train::error::{Error, Result};
use rwkv_train::events::Event;
use rwkv_train::metrics::Metrics;
#[cfg(feature = "collective")]
use rwkv_train::parallel::{self, PATIENCE};
use rwkv_train::progress::Progress;
use rwkv_train::run_dir::RunDir;
use rwkv_train::trainer::{Ended, Observer, Trainer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a run tells. It is asked to stop in the step after `stops_after`, and saves if it has a folder.
#[derive(Default)]
struct Told {
    rows: Vec<Row>,
    events: Vec<Event>,
    checkpoints: Vec<Progress>,
    stops_after: usize,
    stop: Arc<AtomicBool>,
    run_dir: Option<RunDir>,
}

impl Observer<B> for Told {
    fn after_step(&mut self, step: usize) {
        if step == self.stops_after {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn on_metrics(&mut self, m: &Metrics) -> Result<()> {
        assert!(m.tokens_per_second.is_finite() && m.seconds.is_some_and(|seconds| seconds > 0.0));
        self.rows.push(row(m));
        Ok(())
    }

    fn on_event(&mut self, event: &Event) -> Result<()> {
        self.events.push(event.clone());
        Ok(())
    }

    fn on_checkpoint(&mut self, trainer: &Trainer<B>) -> Result<()> {
        self.checkpoints.push(without_time(trainer));
        self.run_dir.as_ref().map_or(Ok(()), |run_dir| run_dir.save(trainer))
    }
}

fn without_time(trainer: &Trainer<B>) -> Progress {
    Progress { seconds: 0.0, ..*trainer.progress() }
}

/// All that a trainer learnt and remembers, to the bit.
#[derive(Debug, PartialEq)]
struct Learnt {
    weights: BTreeMap<String, Vec<f32>>,
    average: Option<BTreeMap<String, Vec<f32>>>,
    moments: Vec<u8>,
    progress: Progress,
}

fn learnt(trainer: &Trainer<B>) -> Learnt {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("optimizer.safetensors");
    trainer.optimizer().save(&path).expect("saved");
    Learnt {
        weights: weights(&trainer.model().valid()),
        average: trainer.average().map(|average| weights(&average.model)),
        moments: std::fs::read(&path).expect("read"),
        progress: without_time(trainer),
    }
}

fn trainer(config: &RunConfig, dataset: Dataset) -> Trainer<B> {
    Trainer::new(config.clone(), dataset, fresh(config), Default::default()).expect("valid")
}

fn run(config: &RunConfig, dataset: Dataset) -> (Told, Trainer<B>) {
    let (mut told, mut trainer) = (Told::default(), trainer(config, dataset));
    assert_eq!(trainer.run(&mut told).expect("runs"), Ended::Finished);
    (told, trainer)
}

/// A run of twelve steps without rows, validation and checkpoints before its end.
fn twelve_steps(check_every: usize, more: &str) -> RunConfig {
    config(&format!(
        "train.steps = 12\ntrain.log_every = 12\ntrain.val_every = 0\ntrain.save_every = 0\n\
         train.check_every = {check_every}\n{more}"
    ))
}

#[test]
fn a_run_is_the_same_however_often_it_is_looked_at() {
    // At a rate of next to nothing the loss is noise around its mean, and half of it is above.
    let still = "train.steps = 70\ntrain.lr_init = 1e-7\ntrain.lr_final = 1e-7\nmodel.emb_init_scale = 0.5\n\
                 train.spike_factor = 0.1\ntrain.log_every = 10\ntrain.val_every = 25\ntrain.save_every = 35";
    for recipe in [still, "train.steps = 14\ntrain.log_every = 5\ntrain.ema_decay = 0.8\ntrain.accumulate = 2"] {
        let run = |check_every: usize| {
            let config = config(&format!("{recipe}\ntrain.check_every = {check_every}"));
            run(&config, dataset(&config))
        };
        let (often, rarely) = (run(1), run(4));
        assert_eq!(often.0.rows, rarely.0.rows);
        assert_eq!(often.0.events, rarely.0.events);
        assert_eq!(often.0.checkpoints, rarely.0.checkpoints);
        assert_eq!(learnt(&often.1), learnt(&rarely.1));
        assert!(recipe != still || often.0.events.len() > 1, "spikes");
    }
}

/// Step 7 of steps that are looked at by fours: the next one is looked at.
#[test]
fn a_bad_step_is_left_out_whenever_it_is_looked_at() {
    let run = |check_every: usize, bad: usize| {
        let config = twelve_steps(check_every, "");
        run(&config, broken_at(&config, bad..bad + 1))
    };
    let (often, rarely) = (run(1, 7), run(4, 7));
    let said = |told: &Told| {
        let [Event::Skipped { step: 7, loss, culprit, .. }] = &told.events[..] else { panic!("{:?}", told.events) };
        assert!(loss.is_nan());
        culprit.clone()
    };
    let culprit = said(&often.0);
    assert!(culprit.starts_with("the first bad tensor is the gradient of "), "{culprit}");
    let culprit = said(&rarely.0);
    assert!(culprit.contains("a step later") && culprit.contains("check_every = 1"), "{culprit}");
    assert_eq!(often.0.rows, rarely.0.rows);
    assert!(often.0.rows[0].1.is_finite());
    assert_eq!(often.1.optimizer().updates(), 11);
    assert_eq!(learnt(&often.1), learnt(&rarely.1));
    // Step 8 is looked at in time.
    let (told, trainer) = run(4, 8);
    assert_eq!(format!("{:?}", told.events), format!("{:?}", run(1, 8).0.events));
    assert_eq!(trainer.optimizer().updates(), 11);
    // Steps 6 to 8 are corrected for the bias as if step 5 had been an update: all else is as it should be.
    let (often, rarely) = (run(1, 5), run(4, 5));
    assert!(
        matches!(&rarely.0.events[..], [Event::Skipped { step: 5, culprit, .. }] if culprit.contains("3 steps later"))
    );
    assert_eq!((rarely.1.optimizer().updates(), rarely.1.progress().skipped), (11, 0));
    let (often, rarely) = (learnt(&often.1).weights, learnt(&rarely.1).weights);
    let pairs = often.iter().flat_map(|(name, x)| x.iter().zip(&rarely[name]));
    let error = pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    println!("largest difference of a weight {error:.1e}");
    assert!(error > 0.0 && error < 2e-3, "far less than an update: {error}");
}

#[test]
fn divergence_is_noticed_at_the_next_look() {
    // At this rate the weights overflow with the first update.
    let hot = "train.lr_init = 1e30\ntrain.lr_final = 1e30\ntrain.warmup_steps = 0";
    let config = twelve_steps(4, hot);
    let mut told = Told::default();
    let error = trainer(&config, dataset(&config)).run(&mut told).expect_err("diverges");
    let steps = |told: &Told| {
        let step = |event: &Event| if let Event::Skipped { step, .. } = event { *step } else { panic!("{event}") };
        told.events.iter().map(step).collect::<Vec<_>>()
    };
    assert_eq!(steps(&told), [2, 3, 4], "max_skips");
    assert!(matches!(&error, Error::Diverged { step: 5, .. }), "{error}");
    assert!(error.to_string().contains("3 steps in a row") && error.to_string().contains("3 steps later"), "{error}");
    // The bad steps in a row may be looked at in two goes, and good ones between them count.
    for (bad, diverges) in [(3..6, false), (3..7, true), (5..8, false), (5..9, true)] {
        let config = twelve_steps(4, "");
        let (mut told, mut trainer) = (Told::default(), trainer(&config, broken_at(&config, bad.clone())));
        let outcome = trainer.run(&mut told);
        assert_eq!(steps(&told), bad.clone().take(3).collect::<Vec<_>>());
        assert_eq!(outcome.is_err(), diverges, "{bad:?}");
        assert!(diverges || trainer.optimizer().updates() == 9);
    }
}

/// Stopped in step 6, two steps after a look and two before the next.
#[test]
fn a_stop_between_looks_resumes_bit_for_bit() {
    // In the last run the step that is stopped after is the one left out, which its checkpoint must know.
    for bad in [20, 6] {
        let config = twelve_steps(4, "");
        let data = || broken_at(&config, bad..bad + 1);
        let folder = tempfile::tempdir().expect("a folder");
        let provenance = Provenance::of_this_process("flex");
        let run_dir = RunDir::create(folder.path(), &config, Some(&tokenizer()), &provenance).expect("made");
        let mut told = Told { stops_after: 5, run_dir: Some(run_dir), ..Told::default() };
        let mut first = trainer(&config, data()).with_stop(told.stop.clone());
        assert_eq!(first.run(&mut told).expect("stops"), Ended::Stopped);
        let skipped = usize::from(bad == 6);
        assert_eq!(told.rows.iter().map(|row| row.0).collect::<Vec<_>>(), [6]);
        assert_eq!((told.checkpoints[0].step, told.checkpoints[0].losses), (6, 6 - skipped));
        assert_eq!((told.checkpoints[0].skipped, told.events.len()), (skipped, skipped));
        assert_eq!(first.optimizer().updates(), 6 - skipped as u64);
        let base = || Ok(fresh(&config));
        let mut second: Trainer<B> =
            checkpoints::restore(folder.path(), 6, config.clone(), data(), base, Default::default()).expect("restored");
        second.run(&mut ()).expect("goes on");
        let whole = twelve_steps(1, "");
        let (_, whole) = run(&whole, broken_at(&whole, bad..bad + 1));
        assert_eq!(learnt(&second), learnt(&whole), "bad step {bad}");
    }
}

/// A sample of one worker is broken: the other knows of it from the sum of both only.
#[cfg(feature = "collective")]
#[test]
fn several_workers_look_at_every_step() {
    let _one = support::alone_in_this_process();
    let config = twelve_steps(4, "");
    let workers = parallel::workers::<B>(&[Default::default(); 2], None, PATIENCE).expect("no other group");
    let outcome = parallel::run(workers, |worker| {
        let Dataset { train, val } = dataset(&config);
        // The first worker's samples of step 6.
        let first = config.samples_before(5, 2);
        let train = Arc::new(Broken { whole: train, broken: first..first + 1 });
        let (mut told, mut trainer) = (Told::default(), trainer(&config, Dataset { train, val }));
        trainer.run_as(worker, &mut told)?;
        Ok((worker.rank(), told.events, trainer.optimizer().updates(), weights(&trainer.model().valid())))
    });
    let outcome = outcome.expect("trained");
    assert!(outcome.iter().all(|(_, _, updates, weights)| (*updates, weights) == (11, &outcome[0].3)));
    for (rank, events, ..) in &outcome {
        let named =
            |event: &Event| matches!(event, Event::Skipped { step: 6, culprit, .. } if culprit.contains("first bad"));
        assert!(events.len() == usize::from(*rank == 0) && events.iter().all(named), "{events:?}");
    }
}
