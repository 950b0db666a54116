//! Runs of training on a GPU, where steps are looked at once in a while, beside the same on a CPU.
//!
//! A test program of its own: the model and its gradients are compiled once more for the backend.
#![cfg(all(feature = "flex", any(feature = "wgpu", feature = "cuda")))]
#![recursion_limit = "256"]

#[path = "../../rwkv-core/tests/backends/support/device.rs"]
mod device;
#[path = "support/small_run.rs"]
mod small_run;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use device::{has_device, say};
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_train::checkpoints;
use rwkv_train::config::RunConfig;
use rwkv_train::data::Dataset;
use rwkv_train::error::Result;
use rwkv_train::events::Event;
use rwkv_train::metrics::Metrics;
use rwkv_train::run_dir::RunDir;
use rwkv_train::trainer::{Ended, Observer, Trainer};
use small_run::{Row, broken_at, config, dataset, fresh, row, tokenizer, weights};
use std::collections::BTreeMap;

/// What a run tells, and what it learns.
#[derive(Default)]
struct Told {
    rows: Vec<Row>,
    events: Vec<Event>,
    updates: u64,
    weights: BTreeMap<String, Vec<f32>>,
    average: BTreeMap<String, Vec<f32>>,
    run_dir: Option<RunDir>,
}

impl<B: RwkvAutodiffBackend> Observer<B> for Told {
    fn on_metrics(&mut self, m: &Metrics) -> Result<()> {
        self.rows.push(row(m));
        Ok(())
    }

    fn on_event(&mut self, event: &Event) -> Result<()> {
        self.events.push(event.clone());
        Ok(())
    }

    fn on_checkpoint(&mut self, trainer: &Trainer<B>) -> Result<()> {
        self.run_dir.as_ref().map_or(Ok(()), |run_dir| run_dir.save(trainer))
    }
}

fn finish<B: RwkvAutodiffBackend>(mut trainer: Trainer<B>, run_dir: Option<RunDir>) -> Told {
    let mut told = Told { run_dir, ..Told::default() };
    assert_eq!(trainer.run(&mut told).expect("runs"), Ended::Finished);
    told.updates = trainer.optimizer().updates();
    told.weights = weights(&trainer.model().valid());
    told.average = weights(&trainer.average().expect("RECIPE has one").model);
    told
}

fn run<B: RwkvAutodiffBackend>(config: &RunConfig, dataset: Dataset) -> Told {
    finish(Trainer::<B>::new(config.clone(), dataset, fresh(config), Default::default()).expect("valid"), None)
}

/// The same steps, losses and norms within 1e-4, weights and their average within a fifth of the learning rate.
fn assert_alike(ours: &Told, cpus: &Told) {
    let steps = |told: &Told| told.rows.iter().map(|row| (row.0, row.2.is_some(), row.5)).collect::<Vec<_>>();
    assert_eq!((steps(ours), ours.updates, ours.events.len()), (steps(cpus), cpus.updates, cpus.events.len()));
    let losses = |told: &Told| -> Vec<f64> {
        told.rows.iter().flat_map(|row| [Some(row.1), row.2, Some(row.4)]).flatten().collect()
    };
    let of_losses = largest_difference(&losses(ours), &losses(cpus));
    let numbers = |told: &Told| -> Vec<f64> {
        told.weights.values().chain(told.average.values()).flatten().map(|x| f64::from(*x)).collect()
    };
    assert!(ours.weights.keys().eq(cpus.weights.keys()) && ours.average.keys().eq(cpus.average.keys()));
    let of_weights = largest_difference(&numbers(ours), &numbers(cpus));
    say(&format!("largest difference of losses and norms {of_losses:.1e}, of weights and averages {of_weights:.1e}"));
    assert!(of_losses < 1e-4 && of_weights < 1e-3);
}

fn largest_difference(ours: &[f64], cpus: &[f64]) -> f64 {
    assert_eq!(ours.len(), cpus.len());
    assert!(ours.iter().chain(cpus).all(|x| x.is_finite()));
    ours.iter().zip(cpus).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

/// More than one look between rows, validation, accumulation, an average and decay. Fresh embeddings would be so small that Adam
/// turned rounding into whole steps.
const RECIPE: &str = "train.steps = 10\ntrain.log_every = 4\ntrain.val_every = 5\nmodel.emb_init_scale = 0.5\n\
                      train.accumulate = 2\ntrain.ema_decay = 0.8\ntrain.weight_decay = 10.0";

fn a_run_is_that_of_a_cpu<B: RwkvAutodiffBackend>() {
    let config = config(RECIPE);
    let ours = run::<B>(&config, dataset(&config));
    assert_alike(&ours, &run::<Autodiff<Flex>>(&config, dataset(&config)));
    assert!(ours.rows.iter().any(|row| row.2.is_some()), "validated");
}

/// Step 6 is looked at two steps later; the device has left it out by then.
fn a_bad_step_is_left_out<B: RwkvAutodiffBackend>() {
    let recipe = format!("{RECIPE}\ntrain.accumulate = 1");
    let config = config(&recipe);
    let ours = run::<B>(&config, broken_at(&config, 6..7));
    // On CPUs every step is looked at, so that the update after a bad one is corrected for the bias as it should be.
    let as_rarely = small_run::config(&format!("{recipe}\ntrain.check_every = 4"));
    assert_alike(&ours, &run::<Autodiff<Flex>>(&as_rarely, broken_at(&as_rarely, 6..7)));
    let [Event::Skipped { step: 6, culprit, .. }] = &ours.events[..] else { panic!("{:?}", ours.events) };
    assert!(culprit.contains("2 steps later"), "{culprit}");
    assert_eq!(ours.updates, 9);
}

/// From the checkpoint of step 5, to the same bits, as the kernels add up in an order of their own.
fn a_run_resumes<B: RwkvAutodiffBackend>() {
    let config = config(&format!("{RECIPE}\ntrain.save_every = 5"));
    let folder = tempfile::tempdir().expect("a folder");
    let provenance = rwkv_core::provenance::Provenance::of_this_process("gpu");
    let run_dir = RunDir::create(folder.path(), &config, Some(&tokenizer()), &provenance).expect("made");
    let trainer = Trainer::<B>::new(config.clone(), dataset(&config), fresh(&config), Default::default());
    let whole = finish(trainer.expect("valid"), Some(run_dir));
    let base = || Ok(fresh(&config));
    let second =
        checkpoints::restore::<B>(folder.path(), 5, config.clone(), dataset(&config), base, Default::default());
    let second = finish(second.expect("restored"), None);
    // Rows of steps 8 and 10; the whole run has those of 4 and 5 before.
    assert_eq!(second.rows, whole.rows[2..]);
    assert_eq!((second.updates, whole.updates), (10, 10));
    assert!(second.weights == whole.weights && second.average == whole.average, "other bits");
}

macro_rules! on_every_gpu {
    ($($test:ident),* $(,)?) => {
        #[cfg(feature = "wgpu")]
        mod wgpu {
            $(#[test] fn $test() {
                if super::has_device::<burn::backend::Wgpu>("wgpu", stringify!($test)) {
                    super::$test::<burn::backend::Autodiff<burn::backend::Wgpu>>();
                }
            })*
        }
        #[cfg(feature = "cuda")]
        mod cuda {
            $(#[test] fn $test() {
                if super::has_device::<burn::backend::Cuda>("cuda", stringify!($test)) {
                    super::$test::<burn::backend::Autodiff<burn::backend::Cuda>>();
                }
            })*
        }
    };
}

on_every_gpu!(a_run_is_that_of_a_cpu, a_bad_step_is_left_out, a_run_resumes);
