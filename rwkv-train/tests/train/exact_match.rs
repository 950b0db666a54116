//! Scores by exact match, and that models learn generated tasks.

use burn::backend::{Autodiff, Flex};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::Rwkv;
use rwkv_train::checkpoints;
use rwkv_train::config::RunConfig;
use rwkv_train::data::tasks::{Generated, Induction, Split, Task};
use rwkv_train::data::{Batch, Dataset, Sample, Samples};
use rwkv_train::exact_match::{Score, by_label, measure};
use rwkv_train::metrics::Metrics;
use rwkv_train::run_dir::RunDir;
use rwkv_train::trainee::Trainee;
use rwkv_train::trainer::{Observer, Trainer};
use rwkv_train::validate::validation_loss;
use std::collections::BTreeMap;

type B = Autodiff<Flex>;

/// Every task by its name.
fn all() -> Vec<Task> {
    Task::NAMES.iter().map(|name| name.parse().expect("a name")).collect()
}

fn of_task(task: &Task, ctx_len: usize, seed: u64, split: Split) -> Generated {
    Generated::of(task.generator(), ctx_len, seed, split).expect("good numbers")
}

/// What an oracle says: the targets.
#[test]
fn an_oracle_is_right_and_one_wrong_answer_spoils_one_sample() {
    for task in all() {
        let puzzles = of_task(&task, 64, 1, Split::HeldOut);
        let batch = Batch::new((0..10).map(|i| puzzles.sample(i)), 64);
        let score = |said: &[u32]| {
            let mut score = Score::default();
            score.add(&batch, said);
            score
        };
        let oracle = score(&batch.targets);
        assert_eq!((oracle.accuracy(), oracle.exact_match(), oracle.samples), (1.0, 1.0, 10));
        assert_eq!(oracle.answers as f64, batch.weight());
        let weights = batch.weights.as_ref().expect("weights");
        let (answer, other) = (weights.iter().position(|&w| w > 0.0), weights.iter().position(|&w| w == 0.0));
        let mut said = batch.targets.clone();
        // What is said elsewhere does not matter.
        if let Some(other) = other {
            said[other] += 1;
            assert_eq!(score(&said), oracle);
        }
        said[answer.expect("an answer")] += 1;
        assert_eq!(score(&said).exact_match(), 0.9, "{}", task.name());
        assert_eq!(score(&said).right, oracle.right - 1);
    }
}

fn trainee(task: &Task, n_layer: usize, n_embd: usize, seed: u64) -> Trainee<Flex> {
    let config = RwkvConfig { emb_init_scale: 0.5, ..RwkvConfig::new(task.generator().vocab_size(), n_layer, n_embd) };
    Trainee { model: Rwkv::new(&config, seed, &Default::default()), initial_state: None }
}

/// A fresh model is right as often as chance says, give or take five standard deviations of independent guesses. A fresh
/// head is zero but for noise, and one row's answers hang together, so models of several seeds are asked, each about
/// many rows, and tasks with two or few answers are left out: one model's bias would show.
#[test]
fn a_model_that_learnt_nothing_is_right_by_chance() {
    for name in ["mqar", "copying", "selective-copying", "needle"] {
        let task: Task = name.parse().expect("a name");
        let puzzles = of_task(&task, 64, 1, Split::HeldOut);
        let mut score = Score::default();
        for seed in 0..4 {
            let (_, of_model) = measure(&trainee(&task, 1, 16, seed), &puzzles, 200, &Default::default());
            score.right += of_model.right;
            score.answers += of_model.answers;
        }
        let (chance, n) = (task.generator().chance(), score.answers as f64);
        // A fresh model also says ids that are no answer at all, so it may be worse.
        let most = chance + 5.0 * (chance * (1.0 - chance) / n).sqrt();
        assert!(score.accuracy() <= most, "{name}: {} of {chance}", score.accuracy());
    }
}

/// A guess among all possible answers is right as often as the task says.
#[test]
fn chance_is_what_a_blind_guess_gets() {
    for task in all().into_iter().chain([Task::Induction(Induction { symbols: 5, any_trigger: true })]) {
        let generator = task.generator();
        let puzzles = of_task(&task, 64, 4, Split::Train);
        let answers: Vec<u32> = (0..2000).flat_map(|i| puzzles.puzzle(i).answers).map(|answer| answer.token).collect();
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        answers.iter().for_each(|&token| *counts.entry(token).or_default() += 1);
        // Guessing any of k answers, each with probability 1/k, is right with probability 1/k, whatever is asked for.
        let possible = counts.len() - usize::from(matches!(&task, Task::Induction(task) if task.any_trigger));
        assert_eq!(1.0 / possible as f64, generator.chance(), "{}", task.name());
        // No constant answer is much better, but for products, which are often 0.
        let most = *counts.values().max().expect("answers") as f64 / answers.len() as f64;
        let by_constant = if task.name() == "modular-arithmetic" { 1.3 } else { 1.0 } / counts.len() as f64;
        let deviation = (by_constant / answers.len() as f64).sqrt();
        assert!(most < by_constant + 6.0 * deviation, "{}: {most}", task.name());
    }
}

#[test]
fn the_loss_beside_the_score_is_the_validation_loss() {
    for name in ["mqar", "parity"] {
        let task: Task = name.parse().expect("a name");
        let (trainee, puzzles) = (trainee(&task, 2, 16, 3), of_task(&task, 40, 1, Split::HeldOut));
        let (loss, score) = measure(&trainee, &puzzles, 70, &Default::default());
        let alone = validation_loss(&trainee, &puzzles, 70, &Default::default());
        assert!((loss - alone).abs() < 1e-5 * alone, "{loss} {alone}");
        assert_eq!(score.samples, 70);
        // By label it is the same answers, of the first puzzles instead of spread ones.
        let groups = by_label(&trainee, &puzzles, 70, &Default::default());
        let mut first = Score::default();
        for at in 0..70 {
            let batch = Batch::new([puzzles.sample(at)].into_iter(), 40);
            first.add(&batch, &greedy(&trainee, &batch));
        }
        assert_eq!(groups.iter().map(|group| group.answers).sum::<usize>(), first.answers);
        assert_eq!(groups.iter().map(|group| group.right).sum::<usize>(), first.right);
        assert!(groups.windows(2).all(|pair| pair[0].label < pair[1].label));
    }
}

/// The likeliest tokens, by a model that reads one token at a time.
fn greedy(trainee: &Trainee<Flex>, batch: &Batch) -> Vec<u32> {
    let mut state = trainee.model.zero_state(1);
    let mut said = Vec::new();
    for &token in &batch.inputs {
        let token = burn::tensor::Tensor::from_data([token.cast_signed()], &Default::default());
        let (logits, after) = trainee.model.step(token, state);
        state = after;
        let logits: Vec<f32> = logits.into_data().to_vec().expect("f32");
        let best = (0..logits.len()).max_by(|&i, &j| logits[i].total_cmp(&logits[j])).expect("logits");
        said.push(best as u32);
    }
    said
}

/// Remembers rows, and writes them and checkpoints into a run directory if there is one.
struct Recorder {
    run_dir: Option<RunDir>,
    rows: Vec<Metrics>,
}

impl Observer<B> for Recorder {
    fn on_metrics(&mut self, metrics: &Metrics) -> rwkv_train::error::Result<()> {
        self.rows.push(metrics.clone());
        Ok(())
    }

    fn on_checkpoint(&mut self, trainer: &Trainer<B>) -> rwkv_train::error::Result<()> {
        self.run_dir.as_ref().map_or(Ok(()), |run_dir| run_dir.save(trainer))
    }
}

fn trainer(config: &RunConfig) -> Trainer<B> {
    let generator = config.data.task.as_ref().expect("a task").generator();
    let model = Rwkv::new(&config.model_config(generator.vocab_size()), config.train.seed, &Default::default());
    Trainer::new(config.clone(), dataset(config), model, Default::default()).expect("valid")
}

fn dataset(config: &RunConfig) -> Dataset {
    let generator = config.data.task.as_ref().expect("a task").generator();
    Dataset::of_task(generator, config.train.ctx_len, config.train.seed).expect("fits")
}

fn rows(trainer: &mut Trainer<B>, run_dir: Option<RunDir>) -> Vec<Metrics> {
    let mut recorder = Recorder { run_dir, rows: Vec::new() };
    trainer.run(&mut recorder).expect("trains");
    recorder.rows
}

fn config(task: &str, ctx_len: usize, steps: usize) -> RunConfig {
    let toml = format!(
        "[model]\nn_layer = 2\nn_embd = 32\n[data]\ntask = {task}\n[train]\nctx_len = {ctx_len}\nsteps = {steps}\n\
         batch_size = 32\nlr_init = 5e-3\nlr_final = 5e-4\nwarmup_steps = 5\nlog_every = 10\nval_every = 0\n\
         save_every = 0\nval_windows = 200"
    );
    RunConfig::from_toml(&toml).expect("valid")
}

#[test]
fn a_tiny_model_learns_to_copy_and_induction() {
    for (task, ctx_len, steps, least) in
        [("{ copying = { length = 4, symbols = 8 } }", 8, 300, 0.5), ("{ induction = { symbols = 8 } }", 8, 300, 0.5)]
    {
        let mut trainer = trainer(&config(task, ctx_len, steps));
        let before = trainer.validate(200).score.expect("answers");
        let rows = rows(&mut trainer, None);
        let last = rows.last().expect("a row");
        let (accuracy, exact) = (last.val_accuracy.expect("measured"), last.val_exact.expect("measured"));
        println!("{task}: {} before, {accuracy} and {exact} after, loss {:?}", before.accuracy(), last.val_loss);
        // Chance is 1/8.
        assert!(before.accuracy() < 0.25 && accuracy > least, "{task}: {} {accuracy}", before.accuracy());
        assert!(rows[..rows.len() - 1].iter().all(|row| row.val_accuracy.is_none()));
    }
}

#[test]
fn a_run_on_a_task_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config("{ mqar = { pairs = 3, keys = 9, values = 9 } }", 14, 12);
    (config.train.log_every, config.train.val_every, config.train.save_every) = (1, 4, 6);
    let provenance = rwkv_core::provenance::Provenance::of_this_process("flex");
    let run_dir = RunDir::create(folder.path(), &config, None, &provenance).expect("made");
    let mut whole = trainer(&config);
    let whole_rows = rows(&mut whole, Some(run_dir));
    let none = || unreachable!("the checkpoint has all weights");
    let mut resumed: Trainer<B> =
        checkpoints::restore(folder.path(), 6, config.clone(), dataset(&config), none, Default::default())
            .expect("restored");
    let resumed_rows = rows(&mut resumed, None);
    let numbers = |rows: &[Metrics]| -> Vec<_> {
        rows.iter()
            .map(|row| (row.step, row.loss, row.val_loss, row.val_accuracy, row.val_exact, row.grad_norm))
            .collect()
    };
    assert_eq!(numbers(&resumed_rows), numbers(&whole_rows[whole_rows.len() - resumed_rows.len()..]));
    assert_eq!(resumed_rows.iter().filter(|row| row.val_exact.is_some()).count(), 2, "after steps 8 and 12");
    assert_eq!(whole.model().fingerprint(), resumed.model().fingerprint());
}

/// Text has no answers, and its rows say nothing about them.
#[test]
fn text_is_not_scored() {
    let text =
        Dataset::split((0..200).map(|i| i % 7).collect::<Vec<u32>>(), 0.3, rwkv_train::data::WindowOptions::new(8, 0));
    assert!(!text.expect("long enough").val.has_answers());
    assert!(Sample::plain(vec![1, 2]).targets.is_none());
}
