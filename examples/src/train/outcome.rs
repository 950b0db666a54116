//! What a training run reports at its end.

use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_train::config::RunConfig;
use rwkv_train::error::Result;
use rwkv_train::plot::plot_loss;
use rwkv_train::run_dir::RunDir;
use rwkv_train::timings::Timings;
use rwkv_train::trainer::Trainer;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// The report.
#[derive(Serialize)]
pub(super) struct Outcome {
    out: PathBuf,
    steps: usize,
    loss: Option<f64>,
    val_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_exact: Option<f64>,
    seconds: f64,
    tokens_per_second: Option<f64>,
    num_params: usize,
    num_trained: usize,
    timings: Timings,
}

impl Outcome {
    /// Of a run that was at step `before` when it began; draws its loss, too.
    pub(super) fn new<B: RwkvAutodiffBackend>(
        run_dir: &RunDir,
        trainer: &Trainer<B>,
        before: usize,
        world: usize,
        started: Instant,
    ) -> Result<Self> {
        let rows = run_dir.metrics()?;
        let config = trainer.config();
        if !rows.is_empty() {
            plot_loss(&rows, &title(config), &run_dir.path().join("loss.svg"))?;
        }
        let timings = *trainer.timings();
        let trained = config.tokens_before(trainer.step(), world) - config.tokens_before(before, world);
        let training_s = timings.data_s + timings.backprop_s + timings.optimizer_s;
        Ok(Self {
            out: run_dir.path().to_owned(),
            steps: trainer.step(),
            loss: rows.last().map(|row| row.loss),
            val_loss: rows.iter().rev().find_map(|row| row.val_loss),
            val_accuracy: rows.iter().rev().find_map(|row| row.val_accuracy),
            val_exact: rows.iter().rev().find_map(|row| row.val_exact),
            seconds: started.elapsed().as_secs_f64(),
            tokens_per_second: (trained > 0).then(|| trained as f64 / training_s),
            num_params: trainer.model().num_params_lazy(),
            num_trained: trainer.trainee().num_trained(),
            timings,
        })
    }
}

/// The report for people.
pub(super) fn describe(outcome: &Outcome) -> String {
    let number = |x: Option<f64>, digits: usize| x.map_or("unknown".to_owned(), |x| format!("{x:.digits$}"));
    let Timings { data_s, backprop_s, optimizer_s, validation_s, checkpoint_s, .. } = outcome.timings;
    let learning = match outcome.num_trained == outcome.num_params {
        true => String::new(),
        false => format!("; {} of {} parameters learn", outcome.num_trained, outcome.num_params),
    };
    let answers = match (outcome.val_accuracy, outcome.val_exact) {
        (Some(accuracy), Some(exact)) => {
            format!(
                "; {:.1} % of the answers are right, {:.1} % of the samples wholly",
                100.0 * accuracy,
                100.0 * exact
            )
        }
        _ => String::new(),
    };
    format!(
        "step {}: loss {}, validation loss {} nats per token{answers}{learning}\n\
         {:.1} s in all, training at {} tokens/s: data {data_s:.1} s, passes {backprop_s:.1} s, optimizer \
         {optimizer_s:.1} s; validation {validation_s:.1} s, checkpoints {checkpoint_s:.1} s\n\
         the run is in {}",
        outcome.steps,
        number(outcome.loss, 4),
        number(outcome.val_loss, 4),
        outcome.seconds,
        number(outcome.tokens_per_second, 0),
        outcome.out.display()
    )
}

fn title(config: &RunConfig) -> String {
    let data = &config.data;
    let file = [&data.text, &data.tokens, &data.instructions].into_iter().flatten().next();
    let name = match &data.task {
        Some(task) => task.name().into(),
        None => file.and_then(|file| file.file_name()).unwrap_or_default().to_string_lossy(),
    };
    format!("{} layers, width {}, {name}", config.model.n_layer, config.model.n_embd)
}
