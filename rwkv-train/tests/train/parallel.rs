//! Several workers as threads of one process, and what needs no process at all.

use crate::support;
use crate::support::{
    B, alone_in_this_process, bits, gradients, largest_difference, model, relative_error, train, values,
};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rwkv_train::error::{Error as TrainError, Result};
use rwkv_train::parallel::{self, Error, Nodes, PATIENCE, Worker, run};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

fn threads(count: usize, patience: Duration) -> Vec<Worker> {
    parallel::workers::<B>(&vec![Default::default(); count], None, patience).expect("no other group")
}

#[test]
fn the_shards_gradients_add_up_to_the_whole_batchs() {
    let _one = alone_in_this_process();
    let model = model();
    let whole = values(&model, &gradients(&model, 0, &Worker::alone()));
    assert!(whole.iter().filter(|x| **x == 0.0).count() * 10 < whole.len(), "the gradients are alive");
    for count in [2, 4, 6] {
        let sum = || {
            run(threads(count, PATIENCE), |worker| {
                let model = model.clone().fork(&Default::default());
                let own = gradients(&model, 0, worker);
                let shard = values(&model, &own);
                let sum = values(&model, &worker.sum_gradients::<B, _>(&model, own)?);
                Ok((shard, sum))
            })
            .expect("nobody is lost")
        };
        let first = sum();
        assert_ne!(bits(&first[0].0), bits(&first[1].0), "the shards differ");
        let error = relative_error(&first[0].1, &whole);
        println!("{count} threads: largest error {error:.1e} of the largest gradient");
        assert!(error < 1e-6, "{count} threads: {error:.1e}");
        for (_, other) in &first[1..] {
            assert_eq!(bits(&first[0].1), bits(other), "{count} threads: all have the same sum");
        }
        for _ in 0..8 {
            assert_eq!(bits(&first[0].1), bits(&sum()[0].1), "{count} threads: a sum repeats itself");
        }
    }
}

#[test]
fn training_together_is_training_alone() {
    let _one = alone_in_this_process();
    let whole = train(&mut Worker::alone(), |_, _| {}).expect("alone");
    assert!(largest_difference(&whole, &support::weights(&model())) > 1e-3, "the weights moved");
    for count in [2, 4] {
        let together = || run(threads(count, PATIENCE), |worker| train(worker, |_, _| {})).expect("nobody is lost");
        let weights = together();
        let error = largest_difference(&weights[0], &whole);
        println!("{count} threads, {} steps of Adam: largest difference of a weight {error:.1e}", support::STEPS);
        assert!(error < 1e-6, "{count} threads: {error:.1e}");
        assert!(weights.iter().all(|other| bits(other) == bits(&weights[0])), "{count} threads: the models are equal");
        assert_eq!(bits(&together()[0]), bits(&weights[0]), "{count} threads: a run repeats itself");
    }
}

#[derive(Module, Debug)]
struct Pair<B: burn::tensor::backend::Backend> {
    first: Linear<B>,
    second: Linear<B>,
}

/// Gradients of a pair of layers that grow with the rank.
fn of_pair(pair: &Pair<B>, worker: &Worker) -> GradientsParams {
    let input = Tensor::<B, 2>::full([2, 3], worker.rank() as f32 + 1.0, &Default::default());
    let output = pair.second.forward(pair.first.forward(input));
    GradientsParams::from_grads(output.sum().backward(), pair)
}

fn pair() -> Pair<B> {
    let device = Default::default();
    Pair { first: LinearConfig::new(3, 5).init(&device), second: LinearConfig::new(5, 2).init(&device) }
}

#[test]
fn frozen_parameters_stay_without_a_gradient() {
    let _one = alone_in_this_process();
    let mut pair = pair();
    pair.first = pair.first.no_grad();
    let outcome = run(threads(3, PATIENCE), |worker| {
        let pair = pair.clone().fork(&Default::default());
        let own = of_pair(&pair, worker);
        assert_eq!(own.len(), 2);
        let sum = worker.sum_gradients::<B, _>(&pair, own)?;
        Ok((sum.len(), sum.get::<burn::backend::Flex, 1>(pair.second.bias.as_ref().expect("a bias").id)))
    });
    for (gradients, bias) in outcome.expect("nobody is lost") {
        assert_eq!(gradients, 2);
        let bias = bias.expect("a gradient").into_data().to_vec::<f32>().expect("f32");
        assert_eq!(bias, [6.0, 6.0], "three workers with two rows each");
    }
}

#[test]
fn workers_with_different_parameters_disagree() {
    let _one = alone_in_this_process();
    let error = run(threads(2, PATIENCE), |worker| {
        let mut pair = pair();
        if worker.rank() == 1 {
            pair.first = pair.first.no_grad();
        }
        let own = of_pair(&pair, worker);
        worker.sum_gradients::<B, _>(&pair, own)?;
        Ok(())
    });
    assert!(matches!(error, Err(TrainError::Parallel(Error::Disagree(_)))), "{error:?}");
}

#[test]
fn workers_decide_together() {
    let _one = alone_in_this_process();
    let outcome = run(threads(4, PATIENCE), |worker| {
        // 2⁵³ + 1 is no f64, so that another order of additions would show.
        let sums = worker.sum(&[f64::from(worker.rank() == 2), 2f64.powi(53 * (worker.rank() as i32 % 2))])?;
        worker.agree("the seed", u64::MAX)?;
        let seeds = worker.agree("the seed", u64::MAX - u64::from(worker.rank() == 3));
        Ok((sums, seeds))
    });
    for (sums, seeds) in outcome.expect("nobody is lost") {
        assert_eq!(sums, [1.0, ((1.0 + 2f64.powi(53)) + 1.0) + 2f64.powi(53)]);
        assert_eq!(seeds, Err(Error::Disagree("the seed".to_owned())));
    }
}

/// What every worker but one sees when that one ends before the last sum.
fn after(end: impl Fn() -> Result<()> + Sync) -> (Result<Vec<()>>, Vec<Error>) {
    let seen = Mutex::new(Vec::new());
    let outcome = run(threads(4, PATIENCE), |worker| {
        let pair = pair();
        for step in 0..3 {
            if worker.rank() == 2 && step == 2 {
                return end();
            }
            let own = of_pair(&pair, worker);
            if let Err(error) = worker.sum_gradients::<B, _>(&pair, own) {
                // The group has ended for good.
                assert_eq!(worker.sum(&[1.0]), Err(error.clone()));
                seen.lock().expect("no panic here").push(error.clone());
                return Err(error.into());
            }
        }
        Ok(())
    });
    (outcome, seen.into_inner().expect("no panic here"))
}

#[test]
fn a_panic_ends_the_others_with_an_error() {
    let _one = alone_in_this_process();
    let (outcome, seen) = after(|| panic!("on purpose"));
    let message = outcome.expect_err("a worker panicked").to_string();
    assert_eq!(message, "worker 2 panicked: on purpose");
    assert_eq!(seen.len(), 3);
    for error in seen {
        assert_eq!(error.heir(), Some(0));
        assert_eq!(error.to_string(), "lost worker 2 of 4: worker 2 panicked: on purpose");
    }
}

#[test]
fn an_error_ends_the_others_and_is_the_one_reported() {
    let _one = alone_in_this_process();
    let diverged = || TrainError::Diverged {
        step: 7,
        loss: f64::NAN,
        lr: 0.1,
        grad_norm: 1.0,
        culprit: "none".to_owned(),
        skipped: 0,
    };
    let (outcome, seen) = after(|| Err(diverged()));
    assert_eq!(outcome.expect_err("a worker failed").to_string(), diverged().to_string());
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|error| error.to_string().contains("the loss is NaN at step 7")), "{seen:?}");
}

#[test]
fn who_ends_early_is_missed() {
    let _one = alone_in_this_process();
    let (outcome, seen) = after(|| Ok(()));
    let message = "lost worker 2 of 4: it ended while the others went on";
    assert_eq!(outcome.expect_err("the others waited").to_string(), message);
    assert!(seen.iter().all(|error| error.to_string() == message), "{seen:?}");
}

#[test]
fn a_silent_thread_is_given_up() {
    let _one = alone_in_this_process();
    let given_up = Barrier::new(3);
    let outcome = run(threads(3, Duration::from_millis(200)), |worker| {
        if worker.rank() == 1 {
            given_up.wait();
            return Ok(worker.sum(&[1.0]));
        }
        let sum = worker.sum(&[1.0]);
        given_up.wait();
        Ok(sum)
    });
    for sum in outcome.expect("all return") {
        let Err(Error::LostPeer { ranks, world, reason }) = sum else { panic!("{sum:?}") };
        assert_eq!((ranks, world), (vec![1], 3));
        assert!(reason.contains("nothing was heard"), "{reason}");
    }
}

#[test]
fn a_worker_dropped_by_a_panicking_thread_is_missed() {
    let _one = alone_in_this_process();
    let mut workers = threads(2, PATIENCE);
    let mut second = workers.pop().expect("two");
    let mut first = workers.pop().expect("two");
    let thread = std::thread::spawn(move || {
        let _ = second.sum(&[1.0]);
        panic!("on purpose");
    });
    first.sum(&[1.0]).expect("both are there");
    let error = first.sum(&[1.0]).expect_err("one panicked");
    assert_eq!(error.to_string(), "lost worker 1 of 2: it panicked");
    assert!(thread.join().is_err());
}

#[test]
fn one_group_at_a_time() {
    let _one = alone_in_this_process();
    let device = [Default::default(); 2];
    let first = parallel::workers::<B>(&device, None, PATIENCE).expect("the first");
    assert_eq!(parallel::workers::<B>(&device, None, PATIENCE).err(), Some(Error::Busy));
    drop(first);
    assert!(parallel::workers::<B>(&device, None, PATIENCE).is_ok());
}

#[test]
fn a_worker_alone_changes_nothing() {
    let mut worker = parallel::workers::<B>(&[Default::default()], None, PATIENCE).expect("alone").remove(0);
    assert_eq!((worker.rank(), worker.world(), worker.share(3)), (0, 1, Ok(0..3)));
    let pair = pair();
    let before = of_pair(&pair, &worker);
    let values_before = values(&pair, &before);
    let after = worker.sum_gradients::<B, _>(&pair, before).expect("alone");
    assert_eq!(bits(&values(&pair, &after)), bits(&values_before));
    assert_eq!(worker.sum(&[0.1]), Ok(vec![0.1]));
    assert_eq!(worker.agree("anything", 3), Ok(()));
}

#[test]
fn impossible_worlds_are_refused() {
    let _one = alone_in_this_process();
    let nodes = |count, rank| Some(Nodes { count, rank, rendezvous: "127.0.0.1:1".to_owned() });
    let refused = |devices: usize, nodes: Option<Nodes>| {
        parallel::workers::<B>(&vec![Default::default(); devices], nodes.as_ref(), PATIENCE).err()
    };
    assert_eq!(refused(0, None), Some(Error::Nobody("device")));
    assert_eq!(refused(1, nodes(0, 0)), Some(Error::Nobody("node")));
    assert_eq!(refused(2, nodes(2, 2)), Some(Error::Rank { rank: 2, count: 2 }));
    assert_eq!(refused(1, nodes(1, 0)), None, "one process needs no rendezvous");
    let workers = threads(3, PATIENCE);
    assert_eq!(workers[2].share(8), Err(Error::Uneven { rows: 8, world: 3 }));
    assert_eq!(workers[2].share(9), Ok(6..9));
}
