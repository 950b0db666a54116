//! The adapter of the library's models: answers are those of the recurrent mode, however requests are read.

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Distribution, Int, Tensor};
use rwkv_core::config::RwkvConfig;
use rwkv_core::generate::{Generator, Output, Sampler};
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::tokenizer::{ByteTokenizer, Tokenizer};
use rwkv_eval::lm::Lm;
use rwkv_eval::model::{Batching, LanguageModel};
use rwkv_eval::perplexity;
use rwkv_eval::request::{GenerateRequest, Likelihood, TokenRequest, Until};

type B = Flex;

const VOCAB: usize = 61;

/// Weights that all matter: those of a fresh model are zero in places.
struct Live;

impl<B: RwkvBackend> ModuleMapper<B> for Live {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let device = param.lazy_device();
        let noise = Tensor::random(param.lazy_shape(), Distribution::Normal(0.0, 0.3), &device);
        Param::initialized(param.id, param.val() + noise)
    }
}

fn model(vocab: usize) -> Rwkv<B> {
    live(&RwkvConfig::new(vocab, 3, 32))
}

fn live(config: &RwkvConfig) -> Rwkv<B> {
    let device = Default::default();
    <B as burn::tensor::backend::Backend>::seed(&device, 5);
    Rwkv::new(config, 1, &device).map(&mut Live)
}

/// A small generator of its own: the requests must not change when a crate's does.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn tokens(&mut self, count: u64) -> Vec<u32> {
        (0..count).map(|_| self.below(VOCAB as u64) as u32).collect()
    }
}

/// Questions with choices, some of which begin alike or are one token, after a preamble that some share; and single ones.
fn requests() -> Vec<TokenRequest> {
    let mut draws = Draws(3);
    let preambles = [Vec::new(), draws.tokens(40), draws.tokens(19)];
    let mut requests = Vec::new();
    for document in 0..30 {
        let length = 1 + draws.below(35);
        let context = [preambles[document % 3].clone(), draws.tokens(length)].concat();
        let stem = draws.tokens(10);
        for choice in 0..4 {
            let length = 1 + draws.below(9);
            let mut continuation = draws.tokens(length);
            if choice % 2 == 1 {
                continuation = [stem.clone(), continuation].concat();
            }
            requests.push(TokenRequest { context: context.clone(), continuation });
        }
    }
    // The same again, one that begins another, and a long one that takes several passes.
    requests.push(requests[7].clone());
    let begins =
        TokenRequest { context: requests[3].context.clone(), continuation: requests[3].continuation[..1].to_vec() };
    requests.push(begins);
    requests.push(TokenRequest { context: draws.tokens(300), continuation: draws.tokens(50) });
    requests
}

fn answers(model: &Rwkv<B>, requests: &[TokenRequest], batching: &Batching) -> (Vec<Likelihood>, usize) {
    let mut answers = vec![None; requests.len()];
    let read = Lm::new(model)
        .log_likelihoods(requests, batching, &mut |request, likelihood| {
            assert!(answers[request].replace(likelihood).is_none(), "request {request} is answered twice");
            Ok(())
        })
        .expect("answers");
    (answers.into_iter().map(|answer| answer.expect("every request is answered")).collect(), read)
}

/// Token by token in the recurrent mode, with the softmax on the host in `f64`.
fn recurrent(model: &Rwkv<B>, request: &TokenRequest) -> Likelihood {
    let device = Default::default();
    let mut state = model.zero_state(1);
    let mut likelihood = Likelihood { log_likelihood: 0.0, is_greedy: true };
    let tokens: Vec<u32> = request.context.iter().chain(&request.continuation).copied().collect();
    for (i, token) in request.input().enumerate() {
        let token = Tensor::<B, 1, Int>::from_data([i64::from(token)], &device);
        let (logits, next) = model.step(token, state);
        state = next;
        if i + 1 < request.context.len() {
            continue;
        }
        let logits: Vec<f64> = logits.into_data().iter::<f64>().collect();
        let target = tokens[i + 1] as usize;
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - max).exp()).sum();
        likelihood.log_likelihood += logits[target] - max - sum.ln();
        likelihood.is_greedy &= logits.iter().position(|&logit| logit == max) == Some(target);
    }
    likelihood
}

fn allowed(log_likelihood: f64) -> f64 {
    5e-4 + 2e-5 * log_likelihood.abs()
}

#[test]
fn answers_depend_neither_on_batches_nor_on_sharing_and_are_those_of_the_recurrent_mode() {
    agrees(&model(VOCAB), &[(1, 1 << 30), (5, 1 << 30), (64, 1 << 30), (64, 100_000)]);
}

/// Attention's state grows with the text, and needs more memory than there is for the smallest of those above.
#[test]
fn a_transformer_is_evaluated_the_same_way() {
    agrees(&live(&RwkvConfig::gpt_neox(VOCAB, 3, 32, 2)), &[(1, 1 << 30), (7, 1 << 30), (64, 3_000_000)]);
}

fn agrees(model: &Rwkv<B>, limits: &[(usize, usize)]) {
    let mut requests = requests();
    // Some continuations that the model would write itself, whole or but for their last token.
    for i in (0..40).step_by(4) {
        let prompt = requests[i].context.clone();
        let sampler = Sampler::new(0.0, 1.0, 0, 0).expect("greedy");
        let written = Generator::new(model, model.zero_state(1), &prompt, sampler).expect("a generator");
        let mut written: Vec<u32> = written.take(5).map(|step| step.expect("a step").token.expect("a token")).collect();
        if i % 8 == 4 {
            written[4] = (written[4] + 1) % VOCAB as u32;
        }
        requests[i].continuation = written;
    }
    let expected: Vec<Likelihood> = requests.iter().map(|request| recurrent(model, request)).collect();
    assert!(expected.iter().filter(|answer| answer.is_greedy).count() >= 5, "too few greedy ones to tell");
    let asked: usize = requests.iter().map(TokenRequest::input_len).sum();
    let mut worst = 0f64;
    for prefix_sharing in [true, false] {
        // Of the memory, little makes passes short and windows small.
        for &(rows, memory) in limits {
            let (found, read) = answers(model, &requests, &Batching { rows, prefix_sharing, memory });
            assert!(if prefix_sharing { read < asked } else { read == asked }, "{read} of {asked}");
            for (request, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let difference = (found.log_likelihood - expected.log_likelihood).abs();
                worst = worst.max(difference / allowed(expected.log_likelihood));
                let what = format!("request {request}, rows {rows}, memory {memory}, sharing {prefix_sharing}");
                assert!(difference <= allowed(expected.log_likelihood), "{what}: {found:?} {expected:?}");
                assert_eq!(found.is_greedy, expected.is_greedy, "{what}");
            }
        }
    }
    eprintln!("largest difference: {worst:.3} of what is allowed");
}

#[test]
fn sharing_spares_most_of_a_preamble() {
    let model = model(VOCAB);
    let mut draws = Draws(9);
    let preamble = draws.tokens(64);
    let request =
        |tokens: Vec<u32>| TokenRequest { context: [preamble.clone(), tokens.clone()].concat(), continuation: tokens };
    let requests: Vec<_> = (0..10).map(|_| request(draws.tokens(4))).collect();
    let batching = Batching::default();
    assert_eq!(answers(&model, &requests, &batching).1, 64 + 10 * 7);
    assert_eq!(answers(&model, &requests, &Batching { prefix_sharing: false, ..batching }).1, 10 * 71);
}

#[test]
fn the_first_of_equally_probable_tokens_is_greedy() {
    struct Zero;
    impl<B: RwkvBackend> ModuleMapper<B> for Zero {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            let device = param.lazy_device();
            Param::initialized(param.id, Tensor::zeros(param.lazy_shape(), &device))
        }
    }
    let model = model(VOCAB).map(&mut Zero);
    let request = |token| TokenRequest { context: vec![1], continuation: vec![token] };
    let (found, _) = answers(&model, &[request(0), request(1), request(60)], &Batching::default());
    assert_eq!(found.iter().map(|answer| answer.is_greedy).collect::<Vec<_>>(), [true, false, false]);
    for answer in found {
        assert!((answer.log_likelihood + (VOCAB as f64).ln()).abs() < 1e-6);
    }
}

#[test]
fn rolling_likelihoods_are_those_of_the_carried_state_where_the_window_is_long_enough() {
    let model = model(VOCAB);
    let mut draws = Draws(1);
    let texts = [draws.tokens(90), draws.tokens(7), Vec::new()];
    let lm = Lm::new(&model);
    let rolled = lm.rolling_log_likelihoods(&texts, 0, 200, &Batching::default()).expect("rolled");
    for (text, rolled) in texts.iter().zip(&rolled).take(2) {
        let whole: Vec<u32> = std::iter::once(0).chain(text.iter().copied()).collect();
        let expected = -perplexity::score(&model, &whole, 32).expect("a score").nll_nats;
        assert!((rolled - expected).abs() <= allowed(expected), "{rolled} {expected}");
    }
    assert_eq!(rolled[2], 0.0);
    // Shorter windows forget, and are still the sum of their requests.
    let short = lm.rolling_log_likelihoods(&texts[..1], 0, 16, &Batching::default()).expect("rolled")[0];
    let windows = rwkv_eval::request::rolling_windows(&texts[0], 0, 16);
    let sum: f64 = windows.iter().map(|window| recurrent(&model, window).log_likelihood).sum();
    assert!((short - sum).abs() <= allowed(sum) && (short - rolled[0]).abs() > 1e-3);
}

#[test]
fn texts_are_continued_until_a_stop_string_whatever_stands_beside_them() {
    let model = model(256);
    let tokenizer = ByteTokenizer::default();
    let contexts = ["a question", "b", "and another, longer question"];
    let requests: Vec<GenerateRequest> = contexts
        .iter()
        .map(|context| GenerateRequest { context: tokenizer.encode(context).expect("encoded") })
        .collect();
    let lm = Lm::new(&model);
    let until = |strings: &[&str]| Until { strings: strings.iter().map(|&s| s.to_owned()).collect(), max_tokens: 12 };
    let batching = Batching { rows: 2, ..Batching::default() };
    let texts = lm.generate_until(&requests, &until(&[]), &tokenizer, &batching).expect("texts");
    for (request, text) in requests.iter().zip(&texts) {
        let decode = |ids: &[u32]| tokenizer.decode(ids);
        let output = Output { decode: Some(&decode), max_tokens: Some(12), ..Output::default() };
        let sampler = Sampler::new(0.0, 1.0, 0, 0).expect("greedy");
        let alone = Generator::with_output(&model, model.zero_state(1), &request.context, sampler, output);
        let alone: String = alone.expect("a generator").map(|step| step.expect("a step").text).collect();
        assert_eq!(*text, alone);
    }
    let stop: String = texts[0].chars().skip(2).take(1).collect();
    let stopped = lm.generate_until(&requests[..1], &until(&[&stop]), &tokenizer, &batching).expect("texts");
    let end = texts[0].find(&stop).expect("it is there");
    assert_eq!(stopped[0], texts[0][..end]);
}

#[test]
fn bad_requests_are_refused_with_their_reason() {
    let model = model(VOCAB);
    let ask = |context: &[u32], continuation: &[u32], memory| {
        let request = TokenRequest { context: context.to_vec(), continuation: continuation.to_vec() };
        let batching = Batching { memory, ..Batching::default() };
        let answered = Lm::new(&model).log_likelihoods(&[request], &batching, &mut |_, _| Ok(()));
        answered.expect_err("refused").to_string()
    };
    assert!(ask(&[1, 61], &[2], 1 << 30).contains("token 61 at position 1"));
    assert!(ask(&[1], &[99], 1 << 30).contains("token 99"));
    assert!(ask(&[], &[1], 1 << 30).contains("request"));
    assert!(ask(&[1], &[], 1 << 30).contains("request"));
    let said = ask(&[1; 40], &[2], 1000);
    assert!(said.contains("40 tokens") && said.contains("MB"), "{said}");
    // Where the state grows, it is the length that does not fit.
    let transformer = live(&RwkvConfig::gpt_neox(VOCAB, 3, 32, 2));
    let fits = |tokens: usize| {
        let request = TokenRequest { context: vec![1; tokens], continuation: vec![2] };
        let batching = Batching { memory: 1_000_000, ..Batching::default() };
        Lm::new(&transformer).log_likelihoods(&[request], &batching, &mut |_, _| Ok(()))
    };
    assert!(fits(20).is_ok());
    assert!(fits(2000).expect_err("refused").to_string().contains("2000 tokens"));
}
