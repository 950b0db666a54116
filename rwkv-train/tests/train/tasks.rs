//! Generated tasks: what their puzzles are. How answers are scored is in `exact_match.rs`.

use proptest::prelude::*;
use rwkv_train::config::RunConfig;
use rwkv_train::data::tasks::{
    Copying, Generated, Generator, Induction, ModularArithmetic, Mqar, Needle, Parity, Puzzle, SelectiveCopying, Split,
    Task,
};
use rwkv_train::data::{Batch, Dataset, Samples, in_order};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Every task by its name.
fn all() -> Vec<Task> {
    Task::NAMES.iter().map(|name| name.parse().expect("a name")).collect()
}

fn puzzles(generator: impl Generator + 'static, ctx_len: usize, seed: u64) -> Generated {
    Generated::new(generator, ctx_len, seed, Split::Train).expect("good numbers")
}

fn of_task(task: &Task, ctx_len: usize, seed: u64, split: Split) -> Generated {
    Generated::of(task.generator(), ctx_len, seed, split).expect("good numbers")
}

/// Answers by place.
fn said(puzzle: &Puzzle) -> BTreeMap<usize, u32> {
    puzzle.answers.iter().map(|answer| (answer.at, answer.token)).collect()
}

/// Where `token` stands.
fn places(puzzle: &Puzzle, token: u32) -> Vec<usize> {
    (0..puzzle.inputs.len()).filter(|&i| puzzle.inputs[i] == token).collect()
}

proptest! {
    #[test]
    fn puzzles_of_all_tasks_are_whole_and_follow_from_their_number(
        which in 0..Task::NAMES.len(), more in 0_usize..80, seed: u64, index in 0_u64..1 << 40,
    ) {
        let task = &all()[which];
        let generator = task.generator();
        let ctx_len = generator.min_ctx_len() + more;
        let train = of_task(task, ctx_len, seed, Split::Train);
        let Puzzle { inputs, answers } = train.puzzle(index);
        prop_assert_eq!(inputs.len(), ctx_len);
        prop_assert!(!answers.is_empty());
        prop_assert!(answers.windows(2).all(|pair| pair[0].at < pair[1].at));
        let largest = answers.iter().map(|answer| answer.token).chain(inputs.iter().copied()).max();
        prop_assert!(largest.is_some_and(|id| (id as usize) < generator.vocab_size()));

        // The sample's loss counts the answers, all of them, and nothing else.
        let sample = train.sample(index);
        prop_assert_eq!(&sample.tokens[..ctx_len], &inputs[..]);
        prop_assert_eq!(sample.tokens.len(), ctx_len + 1);
        prop_assert!(sample.resets.is_empty());
        let (targets, weights) = (sample.targets.clone().expect("targets"), sample.weights.clone().expect("weights"));
        for at in 0..ctx_len {
            let answer = answers.iter().find(|answer| answer.at == at);
            prop_assert_eq!(weights[at], f32::from(u8::from(answer.is_some())));
            prop_assert!(answer.is_none_or(|answer| answer.token == targets[at]));
        }

        // A pure function of seed, split and number.
        prop_assert_eq!(&of_task(task, ctx_len, seed, Split::Train).sample(index), &sample);
        prop_assert_eq!(train.batch(index, 2), Batch::new([sample, train.sample(index + 1)].into_iter(), ctx_len));
    }

    #[test]
    fn recall_is_of_the_rows_own_pairs(
        pairs in 1_usize..9, more in 0_usize..40, power in 0.0..1.0, noise: bool, seed: u64,
    ) {
        let task = Mqar { pairs, keys: 11, values: 13, power, noise };
        let puzzle = puzzles(task, 4 * pairs + more, seed).puzzle(3);
        let context = &puzzle.inputs[..2 * pairs];
        let value_of: HashMap<u32, u32> = context.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        prop_assert_eq!(value_of.len(), pairs, "keys differ");
        prop_assert_eq!(value_of.values().collect::<BTreeSet<_>>().len(), pairs, "values differ");
        prop_assert!(value_of.iter().all(|(key, value)| (1..12).contains(key) && (12..25).contains(value)));
        let asked: BTreeSet<u32> = puzzle.answers.iter().map(|answer| puzzle.inputs[answer.at]).collect();
        prop_assert_eq!(asked, value_of.keys().copied().collect::<BTreeSet<_>>(), "every key is asked for once");
        for answer in &puzzle.answers {
            let key = puzzle.inputs[answer.at];
            prop_assert_eq!(value_of[&key], answer.token);
            prop_assert_eq!((answer.at >= 2 * pairs, answer.at % 2), (true, 0));
            prop_assert_eq!(puzzle.inputs[answer.at - answer.label], key);
            prop_assert!(answer.label <= answer.at && answer.at - answer.label < 2 * pairs);
        }
        if !noise {
            let blanks = (2 * pairs..puzzle.inputs.len()).filter(|&i| puzzle.inputs[i] == 0).count();
            prop_assert_eq!(blanks, puzzle.inputs.len() - 3 * pairs);
        }
    }

    #[test]
    fn induction_asks_for_what_followed(any_trigger: bool, symbols in 3_usize..9, ctx_len in 3_usize..60, seed: u64) {
        let puzzle = puzzles(Induction { symbols, any_trigger }, ctx_len, seed).puzzle(0);
        let trigger = puzzle.inputs[ctx_len - 1];
        prop_assert_eq!(any_trigger, trigger != 0);
        let [first, last] = places(&puzzle, trigger)[..] else { panic!("a trigger comes twice: {puzzle:?}") };
        prop_assert_eq!(said(&puzzle), BTreeMap::from([(last, puzzle.inputs[first + 1])]));
        prop_assert_eq!(puzzle.answers[0].label, last - first);
        prop_assert_ne!(puzzle.answers[0].token, trigger);
    }

    #[test]
    fn copies_are_copies(length in 1_usize..12, more in 0_usize..9, seed: u64) {
        let puzzle = puzzles(Copying { length, symbols: 5 }, 2 * length + more, seed).puzzle(0);
        let [separator] = places(&puzzle, 1)[..] else { panic!("one separator: {puzzle:?}") };
        let string = &puzzle.inputs[..separator];
        prop_assert_eq!(string.len(), length);
        prop_assert_eq!(puzzle.answers.iter().map(|answer| answer.token).collect::<Vec<_>>(), string);
        // Where the copy is read, it is what was to be said one token before.
        let answers = said(&puzzle);
        prop_assert!((separator + 1..separator + length).all(|i| answers[&(i - 1)] == puzzle.inputs[i]));
        prop_assert_eq!(answers.keys().copied().collect::<Vec<_>>(), (separator..separator + length).collect::<Vec<_>>());
        prop_assert_eq!(places(&puzzle, 0).len(), more, "padding");
        prop_assert_eq!(puzzle.answers[length - 1].label, length);
    }

    #[test]
    fn what_matters_is_copied_in_order(tokens in 1_usize..9, more in 0_usize..40, seed: u64) {
        let ctx_len = 2 * tokens + more;
        let puzzle = puzzles(SelectiveCopying { tokens, symbols: 5 }, ctx_len, seed).puzzle(0);
        let told: Vec<u32> = puzzle.inputs.iter().copied().filter(|&id| id > 1).collect();
        prop_assert_eq!(puzzle.answers.iter().map(|answer| answer.token).collect::<Vec<_>>(), told);
        let markers: Vec<usize> = (ctx_len - tokens..ctx_len).collect();
        prop_assert_eq!(&places(&puzzle, 1), &markers);
        prop_assert_eq!(puzzle.answers.iter().map(|answer| answer.at).collect::<Vec<_>>(), markers);
        prop_assert_eq!(puzzle.answers.iter().map(|answer| answer.label).collect::<Vec<_>>(), (1..=tokens).collect::<Vec<_>>());
    }

    #[test]
    fn parity_counts_ones(ctx_len in 1_usize..40, seed: u64) {
        let puzzle = puzzles(Parity::default(), ctx_len, seed).puzzle(0);
        for (i, answer) in puzzle.answers.iter().enumerate() {
            let ones = puzzle.inputs[..=i].iter().filter(|&&bit| bit == 1).count();
            prop_assert_eq!((answer.at, answer.token as usize, answer.label), (i, ones % 2, i + 1));
        }
        prop_assert_eq!(puzzle.answers.len(), ctx_len);
        let last = puzzles(Parity { final_only: true }, ctx_len, seed).puzzle(0);
        prop_assert_eq!((&last.inputs, &last.answers[..]), (&puzzle.inputs, &puzzle.answers[ctx_len - 1..]));
    }

    #[test]
    fn expressions_have_their_value(modulus in 2_usize..12, products: bool, ctx_len in 1_usize..40, seed: u64) {
        let task = ModularArithmetic { modulus, products, final_only: false };
        let puzzle = puzzles(task.clone(), ctx_len, seed).puzzle(0);
        prop_assert_eq!(puzzle.answers.len(), ctx_len.div_ceil(2));
        for answer in &puzzle.answers {
            let value = value_of(&puzzle.inputs[..=answer.at], modulus);
            prop_assert_eq!(i128::from(answer.token), value);
            prop_assert_eq!(answer.label, answer.at / 2 + 1);
        }
        prop_assert!(products || !puzzle.inputs.contains(&(modulus as u32 + 2)));
        let last = puzzles(ModularArithmetic { final_only: true, ..task }, ctx_len, seed).puzzle(0);
        prop_assert_eq!(&last.answers[..], &puzzle.answers[puzzle.answers.len() - 1..]);
    }

    #[test]
    fn needles_lie_as_far_as_their_labels_say(more in 0_usize..60, given: bool, seed: u64) {
        let distances = if given { vec![0, 3, 17] } else { vec![] };
        let task = Needle { keys: 3, values: 4, fillers: 5, distances: distances.clone() };
        let ctx_len = task.min_ctx_len() + more;
        let puzzle = puzzles(task, ctx_len, seed).puzzle(0);
        let ([told], [asked]) = (&places(&puzzle, 0)[..], &places(&puzzle, 1)[..]) else { panic!("{puzzle:?}") };
        let (key, value) = (puzzle.inputs[told + 1], puzzle.inputs[told + 2]);
        prop_assert_eq!((asked + 2, puzzle.inputs[asked + 1]), (ctx_len, key));
        prop_assert_eq!(said(&puzzle), BTreeMap::from([(ctx_len - 1, value)]));
        let distance = puzzle.answers[0].label;
        prop_assert_eq!(asked - (told + 3), distance);
        let expected = if given { distances.contains(&distance) } else { distance.is_power_of_two() };
        prop_assert!(expected, "{}", distance);
        prop_assert_eq!(puzzle.inputs.iter().filter(|&&id| id >= 9).count(), ctx_len - 5, "fillers are no keys or values");
    }
}

/// An expression's value, product by product: another way than the task's own.
fn value_of(inputs: &[u32], modulus: usize) -> i128 {
    let (plus, minus) = (modulus as u32, modulus as u32 + 1);
    let mut terms: Vec<Vec<i128>> = vec![vec![i128::from(inputs[0])]];
    for pair in inputs[1..].chunks_exact(2) {
        let number = i128::from(pair[1]);
        match pair[0] {
            operator if operator == plus => terms.push(vec![number]),
            operator if operator == minus => terms.push(vec![-number]),
            _ => terms.last_mut().expect("a term").push(number),
        }
    }
    // Twenty factors below 12 fit.
    terms.iter().map(|factors| factors.iter().product::<i128>()).sum::<i128>().rem_euclid(modulus as i128)
}

#[test]
fn an_expression_by_hand() {
    // The documentation's 3 + 4 × 2 − 1 modulo 5.
    assert_eq!([1, 3, 5, 7].map(|n| value_of(&[3, 5, 4, 7, 2, 6, 1][..n], 5)), [3, 2, 1, 0]);
}

/// Queries come soon, more so the smaller the power is.
#[test]
fn gaps_between_pairs_and_queries_follow_a_power_law() {
    let share_of_first = |power: f64| {
        let task = Mqar { pairs: 1, keys: 4, values: 4, power, noise: false };
        let puzzles = puzzles(task, 2 + 2 * 16, 0);
        (0..4000).filter(|&i| puzzles.puzzle(i).answers[0].at == 2).count() as f64 / 4000.0
    };
    // P(0) = 1 / Σ_{g=1..16} g^(power − 1): 1/3.381 for power 0, 1/16 for power 1; ± 5 standard deviations.
    let harmonic: f64 = (1..=16).map(|g| 1.0 / f64::from(g)).sum();
    for (power, share) in [(0.0, 1.0 / harmonic), (1.0, 1.0 / 16.0)] {
        let deviation = (share * (1.0 - share) / 4000.0).sqrt();
        assert!((share_of_first(power) - share).abs() < 5.0 * deviation, "{power}: {}", share_of_first(power));
    }
}

#[test]
fn splits_seeds_and_numbers_have_puzzles_of_their_own() {
    for task in all() {
        let seen = |seed, split| -> Vec<Vec<u32>> {
            let puzzles = of_task(&task, 64, seed, split);
            (0..200).map(|i| puzzles.sample(i).tokens).collect()
        };
        let (train, held_out, other) = (seen(7, Split::Train), seen(7, Split::HeldOut), seen(8, Split::Train));
        let distinct: BTreeSet<&Vec<u32>> = train.iter().chain(&held_out).chain(&other).collect();
        assert_eq!(distinct.len(), 600, "{}", task.name());
    }
}

#[test]
fn the_held_out_puzzles_of_a_run_are_not_those_it_learns_from() {
    let dataset = Dataset::of_task(Task::Mqar(Mqar::default()).generator(), 64, 3).expect("fits");
    let learnt: BTreeSet<Vec<u32>> = (0..1000).map(|i| dataset.train.sample(i).tokens).collect();
    let held_out: Vec<Batch> = in_order(dataset.val.as_ref(), 1000, 32).collect();
    assert_eq!(held_out.iter().map(Batch::size).sum::<usize>(), 1000);
    for batch in &held_out {
        assert!(batch.inputs.chunks_exact(64).all(|row| !learnt.iter().any(|tokens| tokens[..64] == *row)));
    }
    let longer = dataset.val.with_ctx_len(96).expect("fits");
    assert_eq!((longer.ctx_len(), longer.sample(0).tokens.len(), longer.has_answers()), (96, 97, true));
    let said = dataset.val.with_ctx_len(31).err().expect("too short").to_string();
    assert!(said.contains("ctx_len") && said.contains("32") && said.contains("31"), "{said}");
}

#[test]
fn numbers_that_do_not_fit_are_named() {
    let said = |task: &str, ctx_len: usize| {
        let config = format!("[data]\ntask = {task}\n[train]\nctx_len = {ctx_len}");
        RunConfig::from_toml(&config).expect(task).validate().expect_err(task).to_string()
    };
    for (task, key) in [
        ("{ mqar = { pairs = 0 } }", "mqar.pairs"),
        ("{ mqar = { keys = 7 } }", "mqar.keys"),
        ("{ mqar = { values = 7 } }", "mqar.values"),
        ("{ mqar = { power = 1.5 } }", "mqar.power"),
        ("{ mqar = { power = nan } }", "mqar.power"),
        ("{ induction = { symbols = 1 } }", "induction.symbols"),
        ("{ induction = { symbols = 2, any_trigger = true } }", "induction.symbols"),
        ("{ copying = { length = 0 } }", "copying.length"),
        ("{ copying = { symbols = 1 } }", "copying.symbols"),
        ("{ selective-copying = { tokens = 0 } }", "selective-copying.tokens"),
        ("{ selective-copying = { symbols = 4294967296 } }", "selective-copying.symbols"),
        ("{ modular-arithmetic = { modulus = 1 } }", "modular-arithmetic.modulus"),
        ("{ needle = { keys = 0 } }", "needle.keys"),
        ("{ needle = { values = 1 } }", "needle.values"),
        ("{ needle = { fillers = 0 } }", "needle.fillers"),
        ("{ needle = { distances = [1, 9999999999] } }", "needle.distances"),
    ] {
        let said = said(task, 64);
        assert!(said.starts_with(&format!("{key}: expected ")), "{task}: {said}");
    }
    for (task, ctx_len, needed) in [
        ("\"mqar\"", 31, "32"),
        ("\"induction\"", 2, "3"),
        ("\"copying\"", 31, "32"),
        ("\"selective-copying\"", 15, "16"),
        ("{ needle = { distances = [8, 100] } }", 104, "105"),
    ] {
        let said = said(task, ctx_len);
        assert!(said.starts_with(&format!("ctx_len: expected at least {needed}")), "{task}: {said}");
    }
    // A longer context later has to fit, too, and a shorter one cannot.
    let later = "[data]\ntask = \"mqar\"\n[train]\nextend = [{ step = 5, ctx_len = 16 }]";
    assert!(RunConfig::from_toml(later).expect("reads").validate().is_err());
    let bad = |task: &str| RunConfig::from_toml(&format!("[data]\ntask = {task}")).expect_err(task);
    assert!(bad("{ mqar = { pair = 4 } }").contains("did you mean `pairs`?"), "{}", bad("{ mqar = { pair = 4 } }"));
    assert!(bad("{ mqarr = { } }").contains("did you mean `mqar`?"), "{}", bad("{ mqarr = { } }"));
    assert!(bad("3").contains("line 2"), "{}", bad("3"));
}

#[test]
fn tasks_are_read_back_as_they_are_written() {
    for task in all() {
        let mut config = RunConfig::default();
        config.data.task = Some(task.clone());
        config.validate().expect("defaults fit the default length");
        assert_eq!(RunConfig::from_toml(&config.to_toml()).expect("written"), config);
        let by_name = RunConfig::from_toml(&format!("[data]\ntask = \"{}\"", task.name())).expect("a name");
        assert_eq!(by_name, config);
        let empty = RunConfig::from_toml(&format!("[data]\ntask = {{ {} = {{}} }}", task.name())).expect("a table");
        assert_eq!(empty, config);
    }
}
