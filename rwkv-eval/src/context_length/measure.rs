//! The measurement.

use super::{AtLength, AtPosition, OfModel};
use crate::scaling::mean_and_stderr;
use burn::tensor::{Int, Tensor, TensorData};
use rwkv_core::error::{Error, Result};
use rwkv_core::generate::check_tokens;
use rwkv_core::loss::token_nll;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;

/// Tokens that are read in one pass, at most.
const PASS_TOKENS: usize = 4096;
/// Logits that exist at the same time, at most.
const LOGITS: usize = 1 << 26;

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Lengths of the context, rising.
    pub lengths: Vec<usize>,
    /// Targets at the end of a window that are predicted after each of the lengths.
    pub targets: usize,
    /// Windows at most; they are spread evenly over the text and do not overlap.
    pub windows: usize,
}

impl Options {
    /// Tokens of a window.
    #[must_use]
    pub fn window(&self) -> usize {
        self.lengths.last().map_or(0, |longest| longest + self.targets)
    }

    fn validate(&self, tokens: usize) -> Result<()> {
        let rising = self.lengths.windows(2).all(|pair| pair[0] < pair[1]);
        if self.lengths.first().is_none_or(|&first| first == 0) || !rising {
            return Err(Error::config("lengths", "rising positive numbers", format!("{:?}", self.lengths)));
        }
        if self.targets == 0 || self.windows < 2 {
            let found = format!("{} targets and {} windows", self.targets, self.windows);
            return Err(Error::config("targets, windows", "at least one target and two windows", found));
        }
        if tokens < 2 * self.window() {
            let expected = format!("at least {}, for two windows of {}", 2 * self.window(), self.window());
            return Err(Error::config("tokens", expected, tokens));
        }
        Ok(())
    }

    /// Where the windows begin.
    fn starts(&self, tokens: usize) -> Vec<usize> {
        let count = (tokens / self.window()).min(self.windows);
        let room = tokens - self.window();
        (0..count).map(|i| i * room / (count - 1).max(1)).collect()
    }
}

/// The losses of a model on a text; `progress` is told after every pass how many of how many tokens were read.
///
/// # Errors
/// [`Error::Config`] for lengths that do not rise or a text that is too short for two windows, [`Error::UnknownToken`] for
/// an id outside the vocabulary.
///
/// # Example
/// ```
/// use rwkv_core::{config::RwkvConfig, model::Rwkv};
/// use rwkv_eval::context_length::{Options, measure};
/// # #[cfg(feature = "flex")] {
/// let model = Rwkv::<burn::backend::Flex>::new(&RwkvConfig::new(65, 2, 32), 0, &Default::default());
/// let text: Vec<u32> = (0..200).map(|i| i * i % 65).collect();
/// let options = Options { lengths: vec![4, 8, 16], targets: 2, windows: 100 };
/// let losses = measure(&model, "new", &text, &options, &mut |_, _| {}).unwrap();
/// assert_eq!(losses.by_length.iter().map(|at| at.ctx_len).collect::<Vec<_>>(), [4, 8, 16]);
/// # }
/// ```
pub fn measure<B: RwkvBackend>(
    model: &Rwkv<B>,
    label: &str,
    tokens: &[u32],
    options: &Options,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<OfModel> {
    options.validate(tokens.len())?;
    check_tokens(tokens, model.config().vocab_size)?;
    let windows: Vec<&[u32]> =
        options.starts(tokens.len()).into_iter().map(|start| &tokens[start..start + options.window()]).collect();
    let longest = options.window() - options.targets;
    let per_window: usize = options.lengths.iter().map(|length| length + options.targets).sum();
    let total = windows.len() * per_window;
    let mut done = 0;
    // The last `targets` losses of every window, length by length.
    let mut of_length: Vec<Vec<f64>> = Vec::new();
    let mut by_position = Vec::new();
    for &length in &options.lengths {
        let pieces: Vec<&[u32]> = windows.iter().map(|window| &window[longest - length..]).collect();
        let losses = losses(model, &pieces, &mut |tokens| {
            done += tokens;
            progress(done, total);
        });
        let targets = |of_window: &Vec<f64>| mean(&of_window[of_window.len() - options.targets..]);
        of_length.push(losses.iter().map(targets).collect());
        if length == longest {
            by_position = positions(&losses);
        }
    }
    if of_length.iter().flatten().any(|loss| !loss.is_finite()) {
        return Err(Error::config("loss", "a number", "none: the model's weights or logits are not finite"));
    }
    let at = |(&ctx_len, losses): (&usize, &Vec<f64>)| {
        let (loss, stderr) = mean_and_stderr(losses);
        let changes: Vec<f64> = losses.iter().zip(&of_length[0]).map(|(now, first)| now - first).collect();
        let (change, change_stderr) = mean_and_stderr(&changes);
        let (stderr, change_stderr) = (stderr.unwrap_or(0.0), change_stderr.unwrap_or(0.0));
        AtLength { ctx_len, loss, stderr, change, change_stderr }
    };
    let by_length = options.lengths.iter().zip(&of_length).map(at).collect();
    Ok(OfModel { label: label.to_owned(), params: model.num_params_lazy(), by_position, by_length })
}

/// The loss of every token but the first, window by window; all windows have the same length.
fn losses<B: RwkvBackend>(model: &Rwkv<B>, windows: &[&[u32]], read: &mut dyn FnMut(usize)) -> Vec<Vec<f64>> {
    let length = windows[0].len() - 1;
    let vocab_size = model.config().vocab_size;
    let rows = (PASS_TOKENS / length).clamp(1, windows.len());
    let step = length.min(PASS_TOKENS / rows).min(LOGITS / vocab_size / rows).max(1);
    let device = model.device();
    let mut all = Vec::with_capacity(windows.len());
    for batch in windows.chunks(rows) {
        let mut of_batch = vec![Vec::with_capacity(length); batch.len()];
        let mut state = model.zero_state(batch.len());
        for from in (0..length).step_by(step) {
            let to = (from + step).min(length);
            let ids = |shift: usize| {
                let ids = batch.iter().flat_map(|window| &window[from + shift..to + shift]);
                let ids: Vec<i64> = ids.map(|&id| i64::from(id)).collect();
                Tensor::<B, 2, Int>::from_data(TensorData::new(ids, [batch.len(), to - from]), &device)
            };
            let (logits, next) = model.forward(ids(0), state);
            state = next;
            let found: Vec<f64> = token_nll(logits, ids(1)).into_data().iter::<f64>().collect();
            for (of_window, found) in of_batch.iter_mut().zip(found.chunks_exact(to - from)) {
                of_window.extend_from_slice(found);
            }
            read(batch.len() * (to - from));
        }
        all.extend(of_batch);
    }
    all
}

/// Means by position, in steps of a power of two and a half of it: 1, 2, 3, 4, 6, 8, 12, 16, ….
fn positions(losses: &[Vec<f64>]) -> Vec<AtPosition> {
    let length = losses[0].len();
    // The first loss is that of the second token, which has one token before it.
    let mut edges: Vec<usize> = (0..usize::BITS - 1).flat_map(|i| [1 << i, (1 << i) + (1usize << i) / 2]).collect();
    edges.dedup();
    edges.retain(|&edge| edge <= length);
    edges.push(length + 1);
    let at = |pair: &[usize]| {
        let (from, to) = (pair[0], pair[1]);
        let of_windows: Vec<f64> = losses.iter().map(|window| mean(&window[from - 1..to - 1])).collect();
        let (loss, stderr) = mean_and_stderr(&of_windows);
        AtPosition { from, to, loss, stderr: stderr.unwrap_or(0.0) }
    };
    edges.windows(2).map(at).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_binned_without_gaps() {
        let losses = vec![(0..20).map(f64::from).collect::<Vec<_>>(), (0..20).map(|x| f64::from(x) + 2.0).collect()];
        let bins = positions(&losses);
        assert_eq!(
            bins.iter().map(|bin| (bin.from, bin.to)).collect::<Vec<_>>(),
            [(1, 2), (2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (12, 16), (16, 21)]
        );
        assert_eq!((bins[0].loss, bins[0].stderr), (1.0, 1.0));
        assert_eq!(bins[3].loss, 4.5);
    }

    #[test]
    fn windows_are_spread_over_the_text() {
        let options = Options { lengths: vec![2, 4], targets: 2, windows: 3 };
        assert_eq!(options.window(), 6);
        assert_eq!(options.starts(100), [0, 47, 94]);
        assert_eq!(options.starts(13), [0, 7]);
        for (bad, word) in [
            (Options { lengths: vec![], ..options.clone() }, "lengths"),
            (Options { lengths: vec![4, 4], ..options.clone() }, "lengths"),
            (Options { lengths: vec![0, 4], ..options.clone() }, "lengths"),
            (Options { targets: 0, ..options.clone() }, "targets"),
            (Options { windows: 1, ..options.clone() }, "windows"),
            (Options { lengths: vec![2, 90], ..options }, "tokens"),
        ] {
            let said = bad.validate(100).expect_err("refused").to_string();
            assert!(said.contains(word), "{said}");
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn losses_are_those_of_each_context_alone() {
        use burn::backend::Flex;
        use rwkv_core::config::RwkvConfig;
        let config = RwkvConfig { emb_init_scale: 1.0, ..RwkvConfig::gpt_neox(9, 2, 16, 2) };
        let model = Rwkv::<Flex>::new(&config, 0, &Default::default());
        let tokens: Vec<u32> = (0..40).map(|i: u32| (i * i + i / 3) % 9).collect();
        let options = Options { lengths: vec![3, 8], targets: 2, windows: 4 };
        let mut seen = (0, 0);
        let found = measure(&model, "x", &tokens, &options, &mut |done, total| seen = (done, total)).expect("measured");
        let alone = |start: usize, length: usize| {
            let window = &tokens[start + 8 - length..start + 10];
            mean(&losses(&model, &[window], &mut |_| {})[0][length - 1..])
        };
        for at in &found.by_length {
            let each: Vec<f64> = options.starts(40).into_iter().map(|start| alone(start, at.ctx_len)).collect();
            assert!((mean(&each) - at.loss).abs() < 1e-5, "{at:?}");
        }
        assert_eq!(found.by_length[0].change, 0.0);
        assert!((found.by_length[1].change - (found.by_length[1].loss - found.by_length[0].loss)).abs() < 1e-9);
        assert_eq!(seen.0 + 4 * 2, seen.1, "all but the last token of every window is read");
    }
}
