//! Burn's terminal dashboard, fed with rows of metrics.
//!
//! Its thread polls for news without a pause, so it takes a CPU core of its own: for runs on a GPU that is nothing, on
//! a CPU with few cores it slows the training.

use crate::Failure;
use burn_train::Interrupter;
use burn_train::metric::{MetricAttributes, MetricDefinition, MetricEntry, MetricId};
use burn_train::metric::{NumericAttributes, NumericEntry, SerializedEntry};
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use burn_train::renderer::{MetricState, MetricsRenderer, MetricsRendererTraining, ProgressType, TrainingProgress};
use rwkv_train::eta::{Eta, in_words};
use rwkv_train::metrics::Metrics;
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Progress goes to the screen at most this often.
const REFRESH: Duration = Duration::from_millis(100);

const LOSS: &str = "Loss";
const SPEED: &str = "Tokens/s";
const RATE: &str = "Learning rate";
const NORM: &str = "Gradient norm";
const MFU: &str = "MFU";
const REST: &str = "Time left";

/// A terminal dashboard: plots, the newest numbers, a progress bar.
///
/// `q` asks whether to stop, which [`Self::stop_requested`] tells; Ctrl-C is a key like any other while it is open.
pub struct Dashboard {
    renderer: TuiMetricsRendererWrapper,
    interrupter: Interrupter,
    steps: usize,
    done: usize,
    eta: Eta,
    started: Instant,
    drawn: Option<Instant>,
}

impl Dashboard {
    /// Whether one can be opened.
    ///
    /// # Errors
    /// When stdin or stdout is no terminal.
    pub fn check() -> Result<(), Failure> {
        if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
            return Ok(());
        }
        Err(Failure("--dashboard needs a terminal: neither stdin nor stdout may be redirected".into()))
    }

    /// Opens the dashboard, for a run of `steps` steps of which `done` are done.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn open(steps: usize, done: usize) -> Result<Self, Failure> {
        Self::check()?;
        quiet_when_killed();
        let interrupter = Interrupter::new();
        let renderer = TuiMetricsRendererWrapper::new(interrupter.clone(), None);
        let mut eta = Eta::new(steps);
        eta.mark(0.0, done);
        let mut dashboard = Self { renderer, interrupter, steps, done, eta, started: Instant::now(), drawn: None };
        let numbers = [(LOSS, false), (SPEED, true), (RATE, true), (NORM, false), (MFU, true)];
        for (name, higher_is_better) in numbers {
            dashboard.register(name, NumericAttributes { unit: None, higher_is_better }.into());
        }
        dashboard.register(REST, MetricAttributes::None);
        dashboard.at(done);
        Ok(dashboard)
    }

    fn register(&mut self, name: &str, attributes: MetricAttributes) {
        let definition = MetricDefinition { metric_id: id(name), name: name.to_owned(), description: None, attributes };
        self.tell(|renderer| renderer.register_metric(definition));
    }

    /// After a step, counted from 1.
    pub fn at(&mut self, step: usize) {
        self.eta.mark(self.started.elapsed().as_secs_f64(), step);
        if step < self.steps && self.drawn.is_some_and(|drawn| drawn.elapsed() < REFRESH) {
            return;
        }
        self.drawn = Some(Instant::now());
        // The bar is that of this session, from which the dashboard reckons the time that is left.
        let (processed, total) = (step - self.done, self.steps - self.done);
        let bar = progress(processed, total);
        let item =
            TrainingProgress { progress: Some(bar), global_progress: progress(1, 1), iteration: Some(processed) };
        let status = ProgressType::Detailed { tag: "Step".into(), progress: progress(step, self.steps) };
        self.tell(|renderer| renderer.render_train(item, vec![status]));
    }

    /// A row of metrics.
    pub fn show(&mut self, row: &Metrics) {
        let scientific = |x: f64| format!("{x:.2e}");
        let mut states = vec![
            number(LOSS, row.loss, format!("{:.4}", row.loss)),
            number(SPEED, row.tokens_per_second, format!("{:.0}", row.tokens_per_second)),
            number(RATE, row.lr, scientific(row.lr)),
            number(NORM, row.grad_norm, format!("{:.3}", row.grad_norm)),
        ];
        states.extend(row.mfu.map(|mfu| number(MFU, 100.0 * mfu, format!("{:.1} %", 100.0 * mfu))));
        if let Some(seconds) = self.eta.seconds() {
            states.push(MetricState::Generic(entry(REST, in_words(seconds))));
        }
        let held_out = row.val_loss.map(|loss| number(LOSS, loss, format!("{loss:.4}")));
        self.tell(|renderer| {
            states.into_iter().for_each(|state| renderer.update_train(state));
            held_out.into_iter().for_each(|state| renderer.update_valid(state));
        });
    }

    /// Whether the user asked to stop.
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        self.interrupter.should_stop()
    }

    /// Gives the terminal back.
    pub fn close(self) {
        // Dropping the renderer does.
    }

    /// The renderer panics in this thread when the user chose to kill the program.
    fn tell(&mut self, what: impl FnOnce(&mut TuiMetricsRendererWrapper)) {
        if catch_unwind(AssertUnwindSafe(|| what(&mut self.renderer))).is_err() {
            eprintln!("error: killed from the dashboard; --resume goes on from the newest checkpoint");
            std::process::exit(1);
        }
    }
}

/// Keeps the panic by which the dashboard kills the program from printing itself, in either thread.
fn quiet_when_killed() {
    let before = take_hook();
    set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if !said.starts_with("Killing training") {
            before(panic);
        }
    }));
}

fn id(name: &str) -> MetricId {
    MetricId::new(Arc::new(name.to_owned()))
}

fn entry(name: &str, text: String) -> MetricEntry {
    MetricEntry::new(id(name), SerializedEntry::new(text.clone(), text))
}

fn number(name: &str, value: f64, text: String) -> MetricState {
    MetricState::Numeric(entry(name, text), NumericEntry::Value(value))
}

fn progress(items_processed: usize, items_total: usize) -> ::burn::data::dataloader::Progress {
    ::burn::data::dataloader::Progress { items_processed, items_total }
}
