//! Trains an RWKV-4.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the program: a run begins or goes on, alone or as several workers |
//! | `flags.rs` | flags that override the configuration |
//! | `job.rs` | runs that an experiment needs, trained if they are not there |
//! | `source.rs` | data, tokenizer and first weights |
//! | `log.rs` | progress, metrics, events and checkpoints while it runs |
//! | `peak.rs` | the device's peak, given or measured |
//! | `outcome.rs` | what is reported at the end |

mod flags;
mod job;
mod log;
mod outcome;
mod peak;
mod source;

use crate::dashboard::Dashboard;
use crate::{Backend, Failure, allocator, report, run, with_backend};
use burn::backend::Autodiff;
use burn::prelude::DeviceOps as _;
use burn::tensor::backend::DeviceId;
use clap::Parser;
pub(crate) use flags::{Recipe, assigned, set};
pub(crate) use job::{Jobs, check, finished, vocab_size};
use log::Log;
use outcome::{Outcome, describe};
use peak::Peak;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::provenance::Provenance;
use rwkv_train::checkpoints;
use rwkv_train::config::RunConfig;
use rwkv_train::error::{Error as TrainError, Result as TrainResult};
use rwkv_train::parallel::{self, Nodes, Worker};
use rwkv_train::run_dir::{Opened, RunDir};
use rwkv_train::trainer::{Ended, Trainer};
use source::{Source, first_weights, take_sizes};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Trains an RWKV-4 on a text, a token file, instructions or a generated task, and writes a run directory.
///
/// A run is described by a TOML file, by flags, or by both: flags win. The defaults are a small character model.
/// Ctrl-C ends it after the step at hand, with a checkpoint.
#[derive(Parser)]
struct Args {
    /// TOML file that describes the run; unknown keys are errors.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    recipe: Recipe,
    /// Folder for the checkpoints, metrics and the plot.
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    out: PathBuf,
    /// Go on with the run in this folder, from its newest whole checkpoint and with its configuration.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "Recipe", "out"])]
    resume: Option<PathBuf>,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    backend: Option<Backend>,
    /// Threads that train together, each on a device of its own (on a CPU they share it).
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Processes that train together; each needs the same arguments but for its rank.
    #[arg(long, value_name = "N", default_value_t = 1)]
    nodes: usize,
    /// Which of the processes this is, from 0.
    #[arg(long, value_name = "R", default_value_t = 0)]
    node_rank: usize,
    /// Where the processes meet: the first one listens there.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:29400")]
    rendezvous: String,
    /// Seconds that workers wait for each other.
    #[arg(long, value_name = "S", default_value_t = parallel::PATIENCE.as_secs())]
    patience: u64,
    /// Show progress in a terminal dashboard, where q stops; for builds with --features dashboard.
    #[arg(long, conflicts_with = "json")]
    dashboard: bool,
    /// The device's peak in floating-point operations per second, such as 67e12, or `measure`; shows the share of it (MFU).
    #[arg(long, value_name = "FLOPS")]
    peak_flops: Option<Peak>,
    /// Wait for the device after every phase of a step, so that the reported times tell them apart on a GPU.
    #[arg(long)]
    exact_timings: bool,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    allocator::for_training();
    let args = Args::parse();
    let backend = Backend::or_default(args.backend);
    run(|| with_backend!(backend, |B, device| train::<Autodiff<B>>(&args, backend, &device)))
}

/// How a run is watched.
#[derive(Default)]
struct How {
    exact_timings: bool,
    dashboard: bool,
}

/// A run that is about to begin or go on.
struct Plan {
    config: RunConfig,
    source: Source,
    run_dir: RunDir,
    /// The checkpoint to go on from.
    step: Option<usize>,
}

fn train<B: RwkvAutodiffBackend>(args: &Args, backend: Backend, device: &B::Device) -> Result<(), Failure> {
    let started = Instant::now();
    let nodes = (args.nodes > 1).then(|| Nodes {
        count: args.nodes,
        rank: args.node_rank,
        rendezvous: args.rendezvous.clone(),
    });
    let devices = devices::<B>(args.workers, device);
    if args.dashboard {
        Dashboard::check()?; // before a folder is made
    }
    let workers = parallel::workers::<B>(&devices, nodes.as_ref(), Duration::from_secs(args.patience))?;
    let mut plan = match &args.resume {
        Some(folder) => Plan::resume(folder)?,
        None => Plan::create(args.recipe.config(args.config.as_deref())?, &args.out, backend, args.node_rank)?,
    };
    if let Some(peak) = args.peak_flops {
        plan.config.train.peak_flops = Some(peak.of::<B>(device)?);
    }
    let stop = stop_on_signals()?;
    let how = How { exact_timings: args.exact_timings, dashboard: args.dashboard };
    let work = |worker: &mut Worker| work::<B>(&how, &plan, worker, &devices, &stop, started);
    let outcome = parallel::run(workers, work)?.into_iter().flatten().next();
    match outcome {
        Some(outcome) => report::print(args.json, &outcome, describe(&outcome)),
        None => Ok(()), // a process whose workers are not the first
    }
}

/// The devices of this process's workers: the first ones of the backend, or the one device that it has.
fn devices<B: RwkvAutodiffBackend>(workers: usize, device: &B::Device) -> Vec<B::Device> {
    let kind = device.to_id();
    match workers {
        1 => vec![device.clone()],
        _ => (0..workers).map(|i| B::Device::from_id(DeviceId::new(kind.type_id, i as u16))).collect(),
    }
}

impl Plan {
    /// The run in this folder goes on.
    fn resume(folder: &Path) -> Result<Self, Failure> {
        let Opened { run_dir, config, tokenizer, step, damaged } = RunDir::open(folder)?;
        for problem in damaged {
            eprintln!("note: {problem}; going on from the checkpoint before");
        }
        let source = Source::open(&config, tokenizer)?;
        Ok(Self { config, source, run_dir, step })
    }

    /// A run begins in this folder.
    fn create(mut config: RunConfig, out: &Path, backend: Backend, node_rank: usize) -> Result<Self, Failure> {
        config.validate()?;
        let source = Source::open(&config, None)?;
        take_sizes(&mut config, source.vocab_size)?;
        let provenance = Provenance::of_this_process(backend.name());
        // Of several processes the first one writes, here and later.
        let run_dir = match node_rank {
            0 => RunDir::create(out, &config, source.tokenizer.as_ref(), &provenance)?,
            _ => RunDir::at(out),
        };
        Ok(Self { config, source, run_dir, step: None })
    }
}

/// One worker's part; the first one's reports.
fn work<B: RwkvAutodiffBackend>(
    how: &How,
    plan: &Plan,
    worker: &mut Worker,
    devices: &[B::Device],
    stop: &Arc<AtomicBool>,
    started: Instant,
) -> TrainResult<Option<Outcome>> {
    let (config, dataset) = (plan.config.clone(), plan.source.dataset.clone());
    let device = devices[worker.rank() % devices.len()].clone();
    let first = || first_weights::<B>(&plan.config, plan.source.vocab_size, &device);
    let mut trainer = match plan.step {
        Some(step) => checkpoints::restore(plan.run_dir.path(), step, config, dataset, first, device.clone())?,
        None => Trainer::new(config, dataset, first()?, device.clone())?,
    };
    trainer = trainer.with_stop(stop.clone());
    if how.exact_timings {
        trainer = trainer.with_exact_timings();
    }
    worker.agree("the configuration or the step", agreement(&trainer))?;
    let before = trainer.step();
    let mut log = Log::new(&trainer, plan.run_dir.clone(), worker, how.dashboard, stop.clone())?;
    let ended = trainer.run_as(worker, &mut log);
    log.finish(); // before an error is printed: a dashboard holds the screen
    let ended = match ended {
        // Whoever is left saves what there is.
        Err(TrainError::Parallel(error)) if error.heir() == Some(worker.rank()) => {
            plan.run_dir.save(&trainer)?;
            return Err(error.into());
        }
        ended => ended?,
    };
    if worker.rank() > 0 {
        return Ok(None);
    }
    if ended == Ended::Stopped {
        eprintln!("stopped after step {}; go on with --resume {}", trainer.step(), plan.run_dir.path().display());
    }
    Outcome::new(&plan.run_dir, &trainer, before, worker.world(), started).map(Some)
}

/// What all workers must have in common.
fn agreement<B: RwkvAutodiffBackend>(trainer: &Trainer<B>) -> u64 {
    let mut config = trainer.config().clone();
    config.train.peak_flops = None; // each worker may have measured its own
    let text = format!("{}\nstep {}", config.to_toml(), trainer.step());
    // FNV-1a, which is the same in every build.
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A flag that goes up at the first SIGINT, SIGTERM or SIGHUP; the second ends the process at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; once more to stop at once");
    })?;
    Ok(stop)
}
