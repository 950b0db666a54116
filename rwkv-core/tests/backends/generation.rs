//! Writing text: batches, the prefix cache and pieces of a prompt change nothing but the time that it takes.

use crate::support::fixture::Fixture;
use crate::support::{assert_close, meaning, values};
use burn::tensor::{Tensor, TensorData};
use rwkv_core::checkpoint;
use rwkv_core::error::Result;
use rwkv_core::generate::{
    BatchGenerator, BatchRow, Finish, Generated, Generator, Output, PrefixCache, Sampler, SamplerConfig, prefill,
    prefill_rows,
};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;

/// The model with live weights in every layer, 11 tokens.
fn model<B: RwkvBackend>(device: &B::Device) -> Rwkv<B> {
    checkpoint::load(&Fixture::path("model"), device).expect("the fixture loads")
}

/// Token 0 is the first byte of "é" and token 1 the second; the others are letters.
fn decode(ids: &[u32]) -> Result<Vec<u8>> {
    Ok(ids.iter().map(|&id| [0xc3, 0xa9, b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h', b'\n'][id as usize]).collect())
}

fn prompt(length: usize, seed: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * 7 + i * i / 5 + seed * 3) % 11) as u32).collect()
}

/// 64 prompts of 64 lengths, none of them in order, one longer than a piece.
fn prompts() -> Vec<Vec<u32>> {
    (0..64).map(|row| prompt(if row == 20 { 300 } else { 1 + (row * 37) % 64 }, row)).collect()
}

fn sampler(seed: u64) -> Sampler {
    let config =
        SamplerConfig { alpha_presence: 0.3, alpha_frequency: 0.1, min_p: 0.02, ..SamplerConfig::plain(1.2, 0.9, 0) };
    Sampler::from_config(config, seed).expect("valid settings")
}

/// Tokens, text and the reason for the end, of steps that are checked on the way.
fn collect(steps: impl IntoIterator<Item = Generated>) -> (Vec<u32>, String, Vec<f64>, Option<Finish>) {
    let (mut tokens, mut text, mut logprobs, mut finish) = (Vec::new(), String::new(), Vec::new(), None);
    for step in steps {
        assert!(finish.is_none(), "nothing comes after the end");
        assert_eq!(step.logprobs.is_some(), step.token.is_some());
        if let Some(found) = &step.logprobs {
            assert_eq!(Some(found.chosen.token), step.token);
            assert!(found.top.len() == 2 && found.top[0].logprob >= found.chosen.logprob);
            logprobs.push(found.chosen.logprob);
            logprobs.extend(found.top.iter().map(|top| top.logprob));
        }
        tokens.extend(step.token);
        text += &step.text;
        finish = step.finish;
    }
    (tokens, text, logprobs, finish)
}

/// Each of 64 rows has the tokens, text, log-probabilities and state that it has alone.
fn a_batch_is_its_rows_one_by_one<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let prompts = prompts();
    let output = Output {
        decode: Some(&decode),
        max_tokens: Some(12),
        stop_tokens: vec![10],
        stop_strings: vec!["ab".into(), "é".into()],
        logprobs: Some(2),
    };
    // One row starts from another state than the empty one.
    let (_, other) = prefill(&model, model.zero_state(1), &[9, 9, 4]).expect("valid tokens");
    let state = |row: usize| if row == 5 { other.clone() } else { model.zero_state(1) };
    let rows = prompts.iter().enumerate().map(|(row, prompt)| BatchRow {
        state: state(row),
        prompt: prompt.clone(),
        sampler: sampler(row as u64),
    });
    let mut batch = BatchGenerator::new(&model, rows.collect(), &output).expect("valid rows");
    let mut steps = vec![Vec::new(); prompts.len()];
    for step in batch.by_ref() {
        for (row, generated) in step.expect("numbers") {
            steps[row].push(generated);
        }
    }
    let states = batch.into_state();
    assert_eq!(states.batch(), prompts.len());

    let (mut finishes, mut lengths) = (Vec::new(), Vec::new());
    for (row, prompt) in prompts.iter().enumerate() {
        let alone = Generator::with_output(&model, state(row), prompt, sampler(row as u64), output.clone());
        let mut alone = alone.expect("a valid prompt");
        let expected = collect(alone.by_ref().map(|step| step.expect("numbers")));
        let got = collect(std::mem::take(&mut steps[row]));
        assert_eq!((&got.0, &got.1, &got.3), (&expected.0, &expected.1, &expected.3), "row {row}");
        if !expected.2.is_empty() {
            assert_close(&format!("row {row}"), &got.2, &expected.2, 1e-5);
        }
        let alone = alone.into_state();
        assert_close("state", &meaning(&states.select(&[row])), &meaning(&alone), 1e-5);
        lengths.push(expected.0.len());
        finishes.push(expected.3.expect("it ended"));
    }
    let ended = |f: fn(&Finish) -> bool| finishes.iter().filter(|finish| f(finish)).count();
    assert!(ended(|finish| *finish == Finish::Length) > 0);
    assert!(ended(|finish| *finish == Finish::StopToken(10)) > 0);
    assert!(ended(|finish| matches!(finish, Finish::StopString(_))) > 0);
    assert!(lengths.iter().any(|&length| length != lengths[0]), "rows leave at different times");
}

/// The logits and states after prompts of unequal lengths, in the prompts' order.
fn prompts_are_read_together_as_alone<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let prompts = [prompt(5, 1), prompt(270, 2), prompt(1, 3), prompt(5, 4), prompt(259, 5)];
    let rows = prompts.iter().map(|prompt| (model.zero_state(1), prompt.as_slice())).collect();
    let (logits, state) = prefill_rows(&model, rows).expect("valid prompts");
    for (row, prompt) in prompts.iter().enumerate() {
        let (alone, state_alone) = prefill(&model, model.zero_state(1), prompt).expect("a valid prompt");
        assert_close("logits", &values(logits.clone().narrow(0, row, 1)), &values(alone), 1e-5);
        assert_close("state", &meaning(&state.select(&[row])), &meaning(&state_alone), 1e-5);
    }
    assert!(prefill_rows(&model, Vec::new()).is_err());
    assert!(prefill_rows(&model, vec![(model.zero_state(1), &[1][..]), (model.zero_state(1), &[])]).is_err());
}

/// With the cache: the same texts, from states that are not read twice.
fn the_prefix_cache_changes_no_text<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let long = prompt(600, 1);
    let mut cache = PrefixCache::new(&model, 1 << 20);
    // The first prompt, all of it again, a longer one, one that leaves it after a piece, and another one.
    let branch = [&long[..400], &[3, 1, 4, 1, 5]].concat();
    let cases = [(&long[..500], 0), (&long[..500], 500), (&long[..], 500), (&branch[..], 256), (&[7, 7][..], 0)];
    for (number, (prompt, saved)) in cases.into_iter().enumerate() {
        // A decoder need not live as long as the cache.
        let letters = |ids: &[u32]| decode(ids);
        let output = Output { decode: Some(&letters), max_tokens: Some(20), ..Output::default() };
        let before = cache.statistics();
        let alone = Generator::with_output(&model, model.zero_state(1), prompt, sampler(9), output.clone());
        let cached = Generator::with_cache(&mut cache, prompt, sampler(9), output);
        let (alone, cached) = (alone.expect("valid"), cached.expect("valid"));
        let logits =
            |generator: &Generator<'_, B>| generator.logits().iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        assert_close("logits", &logits(&cached), &logits(&alone), 1e-5);
        let steps = |generator: Generator<'_, B>| generator.map(|step| step.expect("numbers")).collect::<Vec<_>>();
        assert_eq!(steps(cached), steps(alone), "case {number}");
        let after = cache.statistics();
        assert_eq!(after.tokens_saved - before.tokens_saved, saved, "case {number}");
        assert_eq!((after.hits - before.hits, after.misses - before.misses), if saved > 0 { (1, 0) } else { (0, 1) });
    }
    let (_, known) = prefill(&model, model.zero_state(1), &[5, 6, 7]).expect("valid");
    cache.insert(&[5, 6, 7], known).expect("valid");
    let (state, length) = cache.resume(&[5, 6, 7, 8]).expect("remembered");
    assert_eq!((state.batch(), length), (1, 3));
    assert!(cache.resume(&[5, 6, 7]).is_none(), "nothing would be left to read");
    assert!(cache.insert(&[11], state).is_err() && cache.prefill(&[]).is_err());
}

/// What is remembered stays within the budget, and what was used last stays.
fn the_prefix_cache_forgets_what_was_not_used_for_longest<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let state = model.zero_state(1);
    // A layer has 2·32 + 3·48 values.
    assert_eq!(state.size_bytes(), 4 * 3 * (2 * 32 + 3 * 48));
    let entry = state.size_bytes() + 2 * size_of::<u32>();
    let mut cache = PrefixCache::new(&model, 3 * entry + entry / 2);
    for first in 0..3 {
        cache.insert(&[first, 1], state.clone()).expect("valid");
    }
    assert!(cache.resume(&[0, 1, 2]).is_some());
    cache.insert(&[3, 1], state.clone()).expect("valid");
    assert_eq!((cache.statistics().entries, cache.statistics().bytes), (3, 3 * entry));
    assert!(cache.resume(&[1, 1, 2]).is_none(), "the one that was not used for longest went");
    assert!([0, 2, 3].iter().all(|&first| cache.resume(&[first, 1, 2]).is_some()));
    let mut none = PrefixCache::new(&model, 0);
    none.insert(&[1, 2], state).expect("valid");
    assert_eq!((none.statistics().entries, none.statistics().bytes), (0, 0));
    cache.clear();
    assert_eq!(cache.statistics(), Default::default());
}

/// A generator's state is the one after its prompt and its tokens, whatever ended it.
fn the_state_holds_every_token_handed_out<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    for stop_tokens in [vec![], (0..11).filter(|&token| token % 2 == 1).collect::<Vec<u32>>()] {
        for seed in 0..4 {
            let output = Output { max_tokens: Some(6), stop_tokens: stop_tokens.clone(), ..Output::default() };
            let mut generator =
                Generator::with_output(&model, model.zero_state(1), &[1, 2], sampler(seed), output).expect("valid");
            let tokens: Vec<u32> = generator.by_ref().filter_map(|step| step.expect("numbers").token).collect();
            let state = generator.into_state();
            let (_, want) = prefill(&model, model.zero_state(1), &[&[1, 2], &tokens[..]].concat()).expect("valid");
            assert_close("state", &meaning(&state), &meaning(&want), 1e-5);
        }
    }
}

/// Equal seeds give equal tokens: on every backend and platform, and from one version to the next.
fn a_seed_is_a_text<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let tokens = |sampler: Sampler| -> Vec<u32> {
        let generator = Generator::new(&model, model.zero_state(1), &[1, 2, 3], sampler).expect("valid");
        generator.take(16).filter_map(|step| step.expect("numbers").token).collect()
    };
    let drawn = tokens(sampler(42));
    assert_eq!(drawn, [7, 10, 6, 6, 5, 1, 5, 9, 6, 1, 5, 9, 9, 4, 5, 1]);
    // As the NumPy recurrence of the fixtures' script writes it.
    let greedy = SamplerConfig { alpha_frequency: 0.5, ..SamplerConfig::greedy() };
    let greedy = Sampler::from_config(greedy, 0).expect("valid settings");
    assert_eq!(tokens(greedy), [6, 6, 5, 6, 8, 4, 8, 9, 4, 0, 10, 9, 3, 7, 10, 9]);
    let official = Sampler::from_config(SamplerConfig::default(), 42).expect("valid settings");
    assert_ne!(tokens(official), drawn);
}

/// Logits that are no numbers, and text that cannot be decoded, end the stream with the error.
fn an_error_ends_the_stream<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let mut broken = model.zero_state(1);
    // Not by a product: 0 times NaN is 0 to a shader compiler that may take it so.
    let [batch, width] = broken.layers[0].att_x.dims();
    broken.layers[0].att_x = Tensor::from_data(TensorData::new(vec![f32::NAN; batch * width], [batch, width]), device);
    let mut generator = Generator::new(&model, broken.clone(), &[1], sampler(0)).expect("read");
    let said = generator.next().expect("a step").expect_err("no numbers").to_string();
    assert!(said.starts_with("the logits hold NaN"), "{said}");
    assert!(generator.next().is_none());
    let row = |state| BatchRow { state, prompt: vec![1], sampler: sampler(0) };
    let rows = vec![row(model.zero_state(1)), row(broken)];
    let mut batch = BatchGenerator::new(&model, rows, &Output::default()).expect("read");
    assert!(batch.next().expect("a step").is_err() && batch.next().is_none());

    let narrow = |ids: &[u32]| match ids {
        [token] => Err(rwkv_core::error::Error::UnknownToken { token: *token, position: 0, vocab_size: 0 }),
        _ => Ok(Vec::new()),
    };
    let output = Output { decode: Some(&narrow), ..Output::default() };
    let mut generator = Generator::with_output(&model, model.zero_state(1), &[1], sampler(0), output).expect("read");
    assert!(generator.next().expect("a step").is_err() && generator.next().is_none());
}

/// What is asked for must be possible.
fn outputs_that_cannot_be_are_refused<B: RwkvBackend>(device: &B::Device) {
    let model = model::<B>(device);
    let refusal = |output: Output<'_>, sampler: Sampler| {
        Generator::with_output(&model, model.zero_state(1), &[1], sampler, output).expect_err("refused").to_string()
    };
    let strings = |string: &str| Output { stop_strings: vec![string.into()], ..Output::default() };
    assert!(refusal(strings("a"), sampler(0)).starts_with("stop_strings: "), "no decoder");
    assert!(refusal(Output { decode: Some(&decode), ..strings("") }, sampler(0)).starts_with("stop_strings: "));
    let tokens = Output { stop_tokens: vec![11], ..Output::default() };
    assert!(refusal(tokens, sampler(0)).starts_with("stop_tokens: "));
    let exempt = SamplerConfig { exempt_digits: true, ..SamplerConfig::default() };
    let exempt = Sampler::from_config(exempt, 0).expect("valid settings");
    assert!(refusal(Output::default(), exempt).starts_with("exempt_digits: "));
    let ban = Sampler::from_config(SamplerConfig { ban: vec![11], ..SamplerConfig::default() }, 0);
    assert!(refusal(Output::default(), ban.expect("valid settings")).starts_with("ban: "));
    let zero = Output { max_tokens: Some(0), ..Output::default() };
    let generator = Generator::with_output(&model, model.zero_state(1), &[1], sampler(0), zero).expect("valid");
    let steps: Vec<Generated> = generator.map(|step| step.expect("no numbers needed")).collect();
    assert_eq!(steps, [Generated { token: None, text: String::new(), logprobs: None, finish: Some(Finish::Length) }]);
}

on_every_backend!(
    a_seed_is_a_text,
    an_error_ends_the_stream,
    outputs_that_cannot_be_are_refused,
    a_batch_is_its_rows_one_by_one,
    prompts_are_read_together_as_alone,
    the_prefix_cache_changes_no_text,
    the_prefix_cache_forgets_what_was_not_used_for_longest,
    the_state_holds_every_token_handed_out,
);
