"""Compares `evaluate` with lm-evaluation-harness, request by request, on local data.

Needs lm_eval with its [hf] extra (torch, transformers). From the repository's root:

    cargo build --release --examples
    target/release/examples/convert --model MODEL --out exported --format hf --dtype f32
    python rwkv-eval/tests/compare_with_lm_eval.py --model MODEL --hf exported --tokenizer 20B_tokenizer.json --data DIR

DIR holds TASK/SPLIT.jsonl. A split that the harness asks and DIR has not is replaced by another one there, in both programs.
All run on the CPU, one after the other. Exits with 1 where a greedy flag or a metric differs, or a log-likelihood by more
than 5e-4 + 2e-5 of its size.
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

SIX = ["lambada_openai", "piqa", "winogrande", "arc_easy", "arc_challenge", "sciq"]
SEED = 1234  # of the draw of worked examples, in both


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="checkpoint for evaluate")
    parser.add_argument("--hf", required=True, type=pathlib.Path, help="the same weights, by convert --format hf --dtype f32")
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--tasks", default=",".join(SIX))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--num-fewshot", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--bootstrap-iters", type=int, default=2000)
    parser.add_argument("--evaluate", default="target/release/examples/evaluate")
    return parser.parse_args()


def harness(args, tasks):
    """Metrics by task, answers by (task, document, request), and seconds of asking."""
    import torch
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager, get_task_dict
    from transformers import PreTrainedTokenizerFast, RwkvForCausalLM

    torch.set_num_threads(os.cpu_count())
    model = RwkvForCausalLM.from_pretrained(args.hf, dtype=torch.float32)
    model.config.rescale_every = 0
    model.config.use_cache = False
    model.eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(args.tokenizer), eos_token="<|endoftext|>")
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=args.batch_size, max_length=1024, dtype="float32", device="cpu")
    assert lm.prefix_token_id == 0, lm.prefix_token_id
    loaded = get_task_dict([local(task, args) for task in tasks], TaskManager())
    for task in loaded.values():
        task.set_config("num_fewshot", args.num_fewshot)
        task.set_fewshot_seed(seed=SEED)

    seconds = 0.0
    ask = lm.loglikelihood

    def timed(requests, **kwargs):
        nonlocal seconds
        started = time.perf_counter()
        answers = ask(requests, **kwargs)
        seconds += time.perf_counter() - started
        return answers

    lm.loglikelihood = timed
    with torch.no_grad():
        results = evaluator.evaluate(
            lm=lm, task_dict=loaded, limit=args.limit, bootstrap_iters=args.bootstrap_iters, log_samples=True
        )
    answers = {
        (task, sample["doc_id"], i): tuple(response)
        for task in tasks
        for sample in results["samples"][task]
        for i, response in enumerate(sample["filtered_resps"])
    }
    metrics = {
        task: {
            name.removesuffix(",none"): value
            for name, value in results["results"][task].items()
            if name.endswith(",none") and isinstance(value, float)
        }
        for task in tasks
    }
    return metrics, answers, seconds


def local(task, args):
    """The harness's own settings of a task, pointed at local data."""
    import lm_eval.tasks as package

    root = pathlib.Path(package.__file__).parent
    named = (path for path in sorted(root.rglob("*.yaml")) if f"task: {task}" in path.read_text().splitlines())
    config = settings(next(named))
    files = {path.stem: str(path.resolve()) for path in sorted((args.data / task).glob("*.jsonl"))}
    # A task without a test split stays without one: the harness draws worked examples otherwise there.
    place = "test_split" if config.get("test_split") else "validation_split"
    asked = config[place]
    if asked not in files:
        asked = next(split for split in ("validation", "test") if split in files)
    # Splits that are not asked are nulled out: the harness would look for them. Examples come from the training split.
    training = config.get("training_split")
    config.update(
        dataset_path="json",
        dataset_name=None,
        dataset_kwargs={"data_files": files},
        training_split=training if args.num_fewshot else None,
        validation_split=None,
        test_split=None,
    )
    config[place] = asked
    config.pop("tag", None)
    return config


def settings(path):
    """A task's YAML file, with what it includes and the functions that it names."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def function(_, node):
        module, name = node.value.rsplit(".", 1)
        spec = importlib.util.spec_from_file_location(module, path.parent / f"{module}.py")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return getattr(loaded, name)

    Loader.add_constructor("!function", function)
    config = yaml.load(path.read_text(), Loader)
    base = settings(path.parent / config.pop("include")) if "include" in config else {}
    return {**base, **config}


def ours(args, tasks, *more):
    """The result of evaluate, and its answers by (task, document, request)."""
    with tempfile.TemporaryDirectory() as folder:
        out, rows = pathlib.Path(folder) / "results.json", pathlib.Path(folder) / "samples.jsonl"
        command = [args.evaluate, "--model", args.model, "--tokenizer", str(args.tokenizer), "--data", str(args.data)]
        command += ["--tasks", ",".join(tasks), "--num-fewshot", str(args.num_fewshot), "--seed", str(SEED)]
        command += ["--batch-size", str(args.batch_size), "--resamples", str(args.bootstrap_iters)]
        command += ["--out", str(out), "--log-samples", str(rows), *more]
        if args.limit:
            command += ["--limit", str(args.limit)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        result = json.loads(out.read_text())
        lines = [json.loads(line) for line in rows.read_text().splitlines()]
    answers = {(row["task"], row["doc_id"], row["request"]): (row["loglikelihood"], row["is_greedy"]) for row in lines}
    return result, answers


def compare(name, result, answers, metrics, theirs):
    """Prints the differences; says whether all of them are what rounding explains."""
    print(f"\nprefixes {name}")
    if answers.keys() != theirs.keys():
        print(f"  {len(answers)} requests, {len(theirs)} in the harness: not the same ones")
        return False
    fine = True
    worst = {}
    for key, (value, greedy) in theirs.items():
        difference = abs(answers[key][0] - value)
        share = difference / (5e-4 + 2e-5 * abs(value))
        worst[key[0]] = max(worst.get(key[0], (0.0, 0.0, key)), (share, difference, key))
        if answers[key][1] != greedy:
            print(f"  greedy flag of {key}: {answers[key][1]}, {greedy} in the harness")
            fine = False
    for task, (share, difference, key) in worst.items():
        print(f"  {task:16} largest difference {difference:.2e} nats, {share:.3f} of what is allowed, at {key[1:]}")
        fine &= share <= 1.0
    for task, values in metrics.items():
        mine = result["results"][task]
        for metric, value in values.items():
            found = mine.get(metric, math.nan)
            # acc and acc_norm are ratios of whole numbers; a perplexity has the rounding of its log-likelihoods.
            noise = {"acc": 0.0, "acc_norm": 0.0}.get(metric, 1e-4 if metric.startswith("perplexity") else 1e-12)
            same = math.isclose(found, value, rel_tol=noise, abs_tol=0.0)
            print(f"  {task:16} {metric:18} {found:.12g}, harness {value:.12g}{'' if same else '   DIFFERENT'}")
            fine &= same
        if extra := mine.keys() - values.keys():
            print(f"  {task:16} {', '.join(sorted(extra))}: only here")
            fine = False
    return fine


def main():
    args = arguments()
    tasks = args.tasks.split(",")
    metrics, theirs, seconds = harness(args, tasks)
    fine, speeds = True, []
    for name, more in (("shared", []), ("read again", ["--no-prefix-sharing"])):
        result, answers = ours(args, tasks, *more)
        fine &= compare(name, result, answers, metrics, theirs)
        speeds.append((name, result["speed"]))
    samples = len({key[:2] for key in theirs})
    greedy = sum(greedy for _, greedy in theirs.values())
    print(f"\n{samples} documents, {len(theirs)} requests, {greedy} of them greedy; batches of {args.batch_size}")
    print(f"  {'lm_eval, hf':30} {samples / seconds:8.1f} samples/s")
    for name, speed in speeds:
        rate = speed["samples"] / speed["seconds"]
        tokens = f"{speed['tokens_read']} tokens read of {speed['tokens_asked']}"
        print(f"  {'evaluate, prefixes ' + name:30} {rate:8.1f} samples/s, {tokens}")
    print("PASS" if fine else "FAIL")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
