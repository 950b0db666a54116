//! From rows to scores, with a model made up for the purpose.

use rwkv_core::tokenizer::{ByteTokenizer, Tokenizer};
use rwkv_eval::data::Row;
use rwkv_eval::encode::ContextStart;
use rwkv_eval::error::{Error, Result};
use rwkv_eval::journal::Journal;
use rwkv_eval::model::{Batching, Finished, LanguageModel};
use rwkv_eval::request::{GenerateRequest, Likelihood, TokenRequest, Until};
use rwkv_eval::runner::{self, Answers, Asking, Prepared};
use rwkv_eval::task::Task;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::Path;

/// Answers by a function, and remembers what it was asked; fails after some answers if told to.
struct MadeUp<F> {
    answer: F,
    fails_after: Option<usize>,
    /// Tokens of a request that there is memory for.
    most: usize,
    asked: RefCell<Vec<TokenRequest>>,
}

impl<F: Fn(&TokenRequest) -> Likelihood> MadeUp<F> {
    fn new(answer: F) -> Self {
        Self { answer, fails_after: None, most: usize::MAX, asked: RefCell::default() }
    }
}

impl<F: Fn(&TokenRequest) -> Likelihood> LanguageModel for MadeUp<F> {
    fn vocab_size(&self) -> usize {
        256
    }

    fn log_likelihoods(&self, requests: &[TokenRequest], _: &Batching, finished: &mut Finished<'_>) -> Result<usize> {
        let longest = requests.iter().map(TokenRequest::input_len).max().unwrap_or_default();
        if longest > self.most {
            return Err(Error::Memory { tokens: longest, needed: 2, allowed: 1 });
        }
        // The last first: answers may come in any order.
        for (done, (i, request)) in requests.iter().enumerate().rev().enumerate() {
            if self.fails_after == Some(done) {
                return Err(Error::document(Path::new("power"), 1, "is gone"));
            }
            self.asked.borrow_mut().push(request.clone());
            finished(i, (self.answer)(request))?;
        }
        Ok(requests.iter().map(TokenRequest::input_len).sum())
    }

    fn generate_until(
        &self,
        requests: &[GenerateRequest],
        _: &Until,
        _: &dyn Tokenizer,
        _: &Batching,
    ) -> Result<Vec<String>> {
        Ok(vec![String::new(); requests.len()])
    }
}

/// Every token is as probable as every other.
fn uniform(request: &TokenRequest) -> Likelihood {
    let log_likelihood = -(request.continuation.len() as f64) * 256f64.ln();
    Likelihood { log_likelihood, is_greedy: request.continuation.iter().all(|&token| token == 0) }
}

fn rows(columns: &[Value]) -> Vec<Row> {
    let row = |(i, columns): (usize, &Value)| Row {
        file: Path::new("made-up/test.jsonl").into(),
        line: i + 1,
        columns: columns.as_object().expect("an object").clone(),
    };
    columns.iter().enumerate().map(row).collect()
}

fn prepare(task: &str, columns: &[Value], asking: &Asking) -> Result<Prepared> {
    runner::prepare(Task::named(task)?, &rows(columns), (&[], false), &ByteTokenizer::default(), asking)
}

fn ask(model: &dyn LanguageModel, tasks: &[Prepared], journal: Option<&mut Journal>) -> Result<Answers> {
    runner::ask(model, tasks, &Batching::default(), journal, &mut |_, _| {})
}

fn piqa(goal: &str, sol1: &str, sol2: &str, label: usize) -> Value {
    json!({"goal": goal, "sol1": sol1, "sol2": sol2, "label": label})
}

fn text(prepared: &Prepared, document: usize, request: usize) -> (String, String) {
    let TokenRequest { context, continuation } = &prepared.documents[document].requests[request].tokens;
    let text = |ids: &[u32]| String::from_utf8(ids.iter().map(|&id| id as u8).collect()).expect("UTF-8");
    (text(context), text(continuation))
}

#[test]
fn a_uniform_model_has_the_vocabulary_as_its_perplexity() {
    let words = ["it is a", "we saw b", "they had c"].map(|text| json!({ "text": text }));
    let prepared = [prepare("lambada_openai", &words, &Asking::default()).expect("prepared")];
    let answers = ask(&MadeUp::new(uniform), &prepared, None).expect("answers");
    let scores = runner::score(&prepared[0], &answers.likelihoods[0], 1000);
    // A space and a letter: two tokens a word.
    assert!((scores["perplexity"] / 256f64.powi(2) - 1.0).abs() < 1e-12);
    assert!(scores["perplexity_stderr"] < 1e-6);
    assert_eq!((scores["acc"], scores["acc_stderr"]), (0.0, 0.0));
}

#[test]
fn ties_go_to_the_first_choice_and_lengths_are_code_points() {
    // Equally many bytes: a tie for acc. Four code points against two: the second has more bytes a character.
    let columns = [piqa("g", "abcd", "éé", 0), piqa("g", "abcd", "éé", 1)];
    let prepared = [prepare("piqa", &columns, &Asking::default()).expect("prepared")];
    assert_eq!(prepared[0].documents[0].lengths, [4, 2]);
    let answers = ask(&MadeUp::new(uniform), &prepared, None).expect("answers");
    let first = runner::score(&prepared[0], &answers.likelihoods[0], 0);
    assert_eq!((first["acc"], first["acc_norm"]), (0.5, 0.5));
    let of = |document: usize| {
        let mut one = prepare("piqa", &columns, &Asking::default()).expect("prepared");
        one.documents = one.documents.drain(document..=document).collect();
        runner::score(&one, &answers.likelihoods[0][document..=document], 0)
    };
    assert_eq!((of(0)["acc"], of(0)["acc_norm"]), (1.0, 1.0));
    assert_eq!((of(1)["acc"], of(1)["acc_norm"]), (0.0, 0.0));
}

#[test]
fn equal_requests_are_asked_once_and_all_are_answered() {
    let columns = [piqa("g", "a", "b", 0), piqa("g", "b", "c", 1), piqa("h", "a", "a", 0)];
    let prepared = [prepare("piqa", &columns, &Asking::default()).expect("prepared")];
    let model = MadeUp::new(uniform);
    let mut seen = Vec::new();
    let answers = runner::ask(&model, &prepared, &Batching::default(), None, &mut |done, all| seen.push((done, all)));
    let answers = answers.expect("answers");
    assert_eq!(model.asked.borrow().len(), 4);
    assert_eq!(answers.likelihoods[0].iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!((answers.work.requests, answers.work.resumed), (6, 0));
    assert!(answers.work.tokens_read < answers.work.tokens_asked);
    assert_eq!((seen.first(), seen.last()), (Some(&(0, 6)), Some(&(6, 6))));
}

#[test]
fn an_interrupted_evaluation_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let columns: Vec<Value> = (0..10).map(|i| piqa(&format!("goal {i}"), "left", "right", i % 2)).collect();
    let prepared = [prepare("piqa", &columns, &Asking::default()).expect("prepared")];
    // Answers that no sum gives back by chance.
    let answer = |request: &TokenRequest| {
        let sum: u32 = request.context.iter().chain(&request.continuation).sum();
        Likelihood { log_likelihood: -f64::from(sum).sqrt() / 7.0, is_greedy: sum.is_multiple_of(3) }
    };
    let whole = ask(&MadeUp::new(answer), &prepared, None).expect("answers");

    let failing = MadeUp { fails_after: Some(7), ..MadeUp::new(answer) };
    let mut journal = Journal::open(&path, "model").expect("opened");
    let said = ask(&failing, &prepared, Some(&mut journal)).expect_err("interrupted").to_string();
    assert!(said.contains("power"), "{said}");
    drop(journal);
    // Killed in the middle of a line.
    let bytes = std::fs::read(&path).expect("read");
    std::fs::write(&path, &bytes[..bytes.len() - 5]).expect("written");

    let model = MadeUp::new(answer);
    let mut journal = Journal::open(&path, "model").expect("opened");
    let resumed = ask(&model, &prepared, Some(&mut journal)).expect("answers");
    assert_eq!(resumed.likelihoods, whole.likelihoods);
    assert_eq!((resumed.work.resumed, model.asked.borrow().len()), (6, 14));
    // All is known now, to this model only.
    let model = MadeUp::new(answer);
    ask(&model, &prepared, Some(&mut journal)).expect("answers");
    assert!(model.asked.borrow().is_empty());
    let mut journal = Journal::open(&path, "another").expect("opened");
    ask(&model, &prepared, Some(&mut journal)).expect("answers");
    assert_eq!(model.asked.borrow().len(), 20);
}

#[test]
fn examples_come_before_the_question_and_are_those_of_the_harness() {
    let pool: Vec<Value> = (0..30).map(|i| piqa(&format!("g{i}"), "yes", "no", i % 2)).collect();
    let questions = [piqa("q0", "a", "b", 0), piqa("q1", "a", "b", 0)];
    let asking = Asking { num_fewshot: 2, ..Asking::default() };
    let task = Task::named("piqa").expect("a task");
    let (pool, questions) = (rows(&pool), rows(&questions));
    let prepared =
        runner::prepare(task, &questions, (&pool, false), &ByteTokenizer::default(), &asking).expect("prepared");
    // random.Random(1234): sample(range(30), 3)[:2] twice, since PIQA has no test split.
    let example = |i: usize| format!("Question: g{i}\nAnswer: {}\n\n", ["yes", "no"][i % 2]);
    for (document, drawn) in [[24, 14], [0, 2]].into_iter().enumerate() {
        let expected = format!("{}{}Question: q{document}\nAnswer:", example(drawn[0]), example(drawn[1]));
        assert_eq!(text(&prepared, document, 1), (expected, " b".to_owned()));
    }

    let few = runner::prepare(task, &questions, (&pool[..2], false), &ByteTokenizer::default(), &asking);
    let said = few.expect_err("refused").to_string();
    assert!(said.contains("num_fewshot") && said.contains("2 in split train of piqa"), "{said}");
    assert!(said.contains("at least 3 rows"), "one more is drawn: {said}");

    // 50 rows, four documents: the draws of lm_eval 0.4 itself.
    let pool: Vec<Value> = (0..50).map(|i| piqa(&format!("g{i}"), "yes", "no", i % 2)).collect();
    let questions: Vec<Value> = (0..4).map(|i| piqa(&format!("q{i}"), "a", "b", 0)).collect();
    let (pool, questions) = (rows(&pool), rows(&questions));
    let prepared =
        runner::prepare(task, &questions, (&pool, false), &ByteTokenizer::default(), &asking).expect("prepared");
    for (document, drawn) in [[49, 28], [0, 5], [2, 42], [5, 6]].into_iter().enumerate() {
        let expected = format!("{}{}Question: q{document}\nAnswer:", example(drawn[0]), example(drawn[1]));
        assert_eq!(text(&prepared, document, 0).0, expected);
    }

    // A task with a test split: sample(range(30), 2) twice.
    let science = |i: usize| {
        json!({"support": "", "question": format!("g{i}"), "distractor1": "x", "distractor2": "y",
        "distractor3": "z", "correct_answer": "w"})
    };
    let pool: Vec<Value> = (0..30).map(science).collect();
    let (sciq, pool) = (Task::named("sciq").expect("a task"), rows(&pool));
    let prepared =
        runner::prepare(sciq, &pool[..2], (&pool, false), &ByteTokenizer::default(), &asking).expect("prepared");
    for (document, drawn) in [[24, 14], [3, 0]].into_iter().enumerate() {
        let question = |i: usize| format!("\nQuestion: g{i}\nAnswer:");
        let expected = format!("{} w\n\n{} w\n\n{}", question(drawn[0]), question(drawn[1]), question(document));
        assert_eq!(text(&prepared, document, 0).0, expected);
    }

    // From the split that is asked: never the document itself.
    let words: Vec<Value> = (0..4).map(|i| json!({"text": format!("word number{i}")})).collect();
    let (task, words) = (Task::named("lambada_openai").expect("a task"), rows(&words));
    let asking = Asking { num_fewshot: 3, ..asking };
    let prepared = runner::prepare(task, &words, (&words, true), &ByteTokenizer::default(), &asking).expect("prepared");
    for document in 0..4 {
        let (context, word) = text(&prepared, document, 0);
        assert_eq!(context.matches("word ").count(), 3);
        assert!(!context.contains(word.trim()), "{context:?}");
    }
}

#[test]
fn long_requests_are_cut_from_the_left_and_counted() {
    let columns = [piqa("a long goal", "x", "y", 0), piqa("g", "x", "y", 0)];
    let asking = Asking { max_length: 22, ..Asking::default() };
    let prepared = prepare("piqa", &columns, &asking).expect("prepared");
    assert_eq!((prepared.samples.truncated, prepared.samples.effective), (2, 2));
    assert_eq!(text(&prepared, 0, 1), (": a long goal\nAnswer:".to_owned(), " y".to_owned()));
    assert!(text(&prepared, 1, 0).0.starts_with("Question: g"));
    let said = prepare("piqa", &columns, &Asking { max_length: 1, ..asking }).expect_err("refused").to_string();
    assert!(said.starts_with("made-up/test.jsonl, line 1: ") && said.contains("2 tokens"), "{said}");
}

#[test]
fn a_limit_takes_the_first_and_the_newline_comes_first() {
    let columns = [piqa("one", "x", "y", 0), piqa("two", "x", "y", 0)];
    let asking = Asking { limit: Some(1), context_start: ContextStart::Reference, ..Asking::default() };
    let prepared = prepare("piqa", &columns, &asking).expect("prepared");
    assert_eq!((prepared.samples.original, prepared.samples.effective), (2, 1));
    assert_eq!(text(&prepared, 0, 0), ("\nQuestion: one\nAnswer:".to_owned(), " x".to_owned()));
}

#[test]
fn what_cannot_be_asked_names_its_document() {
    let refused =
        |task, columns: &[Value]| prepare(task, columns, &Asking::default()).expect_err("refused").to_string();
    let good = json!({"text": "so it goes"});
    let said = refused("lambada_openai", &[good.clone(), json!({"text": "\u{1f}\n word"})]);
    assert!(said.starts_with("made-up/test.jsonl, line 2: ") && said.contains("white space"), "{said}");
    let said = refused("piqa", &[good]);
    assert!(said.starts_with("made-up/test.jsonl, line 1: ") && said.contains("no column sol1"), "{said}");
    assert!(refused("piqa", &[]).contains("at least one document of piqa"));
    assert!(refused("checkers", &[]).contains("lambada_openai, piqa"));

    // A model that has gone astray.
    let prepared = [prepare("piqa", &[piqa("g", "a", "b", 0)], &Asking::default()).expect("prepared")];
    let model = MadeUp::new(|_: &TokenRequest| Likelihood { log_likelihood: f64::NAN, is_greedy: false });
    let said = ask(&model, &prepared, None).expect_err("refused").to_string();
    assert!(said.starts_with("made-up/test.jsonl, line 1: ") && said.contains("NaN"), "{said}");
}

#[test]
fn a_request_that_memory_does_not_hold_names_its_document() {
    let columns = [piqa("g", "a", "b", 0), piqa("a longer goal", "a", "the longest", 0), piqa("long", "a", "b", 0)];
    let prepared = [prepare("piqa", &columns, &Asking::default()).expect("prepared")];
    let length = |place: usize| prepared[0].documents[place].requests[1].tokens.input_len();
    let model = MadeUp { most: length(2), ..MadeUp::new(uniform) };
    let error = ask(&model, &prepared, None).expect_err("refused");
    let Error::Request { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, Error::Memory { tokens, .. } if tokens == length(1)), "{error}");
    let said = error.to_string();
    assert!(said.starts_with("made-up/test.jsonl, line 2: a request of ") && said.contains("2 MB"), "{said}");
    ask(&MadeUp { most: length(1), ..MadeUp::new(uniform) }, &prepared, None).expect("enough");
}
