"""Times this library beside the PyPI package `rwkv` on one checkpoint, in turn, in one run.

    pip install torch rwkv
    python rwkv-core/tests/fixtures/make_random_checkpoint.py /tmp/169m.pth --dtype float32
    cargo build --release --examples --features ndarray
    python rwkv-core/benches/bench_peers.py /tmp/169m.pth --backends flex ndarray

Reading a prompt (prefill) and writing (decode), in every precision: the package's `cpu fp32` beside `--dtype f32`, its
`cpu bf16` beside `bf16` and `bf16-products`, and `int8`, which it has not on a CPU, beside nothing. Ratios are taken round by round and the
median is printed, because a machine's speed drifts within minutes. The machine's own limits are measured before: how
fast all threads read memory, and how fast PyTorch multiplies large matrices; the last columns are shares of them.
"""

import argparse
import json
import os
import random
import subprocess
import time
from statistics import median

os.environ["RWKV_JIT_ON"] = "1"
os.environ["RWKV_CUDA_ON"] = "0"
import torch  # noqa: E402

PACKAGE = {"f32": "cpu fp32", "bf16": "cpu bf16", "bf16-products": "cpu bf16", "f16": None, "int8": None}


def best(seconds, work):
    """The shortest time of `work` within so many seconds."""
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def limits():
    """Bytes a second of reading, and operations a second of matrix products in f32 and bf16."""
    # A product with one row reads the matrix once and does next to nothing else.
    matrix, row = torch.rand(32768, 4096), torch.rand(4096)
    read = 4 * matrix.numel() / best(2, lambda: torch.mv(matrix, row))
    products = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.rand(1024, 1024).to(dtype), torch.rand(1024, 1024).to(dtype)
        products[name] = 2 * 1024**3 / best(2, lambda: a @ b)
    return read, products


def package(model, prompt, tokens):
    """Tokens a second of reading `prompt` and of writing so many tokens."""
    model.forward(prompt[:8], None)
    started = time.perf_counter()
    out, state = model.forward(list(prompt), None)
    prefill = len(prompt) / (time.perf_counter() - started)
    started = time.perf_counter()
    for _ in range(tokens):
        out, state = model.forward([int(out.argmax())], state)
    return {"prefill": prefill, "decode": tokens / (time.perf_counter() - started)}


def ours(args, dtype, backend):
    flags = ["--model", args.model, "--dtype", dtype, "--backend", backend, "--tokens", args.tokens, "--json"]
    command = [os.path.join(args.bin, "speed"), *map(str, flags)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return report | {key: report[f"{key}_tokens_per_second"] for key in ("prefill", "decode")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--backends", nargs="+", default=["flex"])
    parser.add_argument("--dtypes", nargs="+", default=list(PACKAGE), choices=list(PACKAGE))
    parser.add_argument("--bin", default="target/release/examples")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)

    read, products = limits()
    rates = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in products.items())
    print(f"this machine, {args.threads} threads: reads {read / 1e9:.1f} GB/s; PyTorch's products: {rates}\n")
    print("| | backend | package, tokens/s | ours, tokens/s | ratio | GB/s or GFLOP/s | of the limit | peak memory / weights |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for dtype in args.dtypes:
        rounds = []
        theirs = None
        if PACKAGE[dtype]:
            from rwkv.model import RWKV

            theirs = RWKV(model=args.model.removesuffix(".pth"), strategy=PACKAGE[dtype], verbose=False)
        for _ in range(args.rounds):
            prompt = [random.randrange(20_000) for _ in range(512)]
            rounds.append(
                (package(theirs, prompt, args.tokens) if theirs else None, {b: ours(args, dtype, b) for b in args.backends})
            )
        del theirs
        for key in ("decode", "prefill"):
            for backend in args.backends:
                mine = [row[backend] for _, row in rounds]
                beside = [row[key] for row, _ in rounds if row]
                ratio = f"×{median(m[key] / p for m, p in zip(mine, beside)):.2f}" if beside else "–"
                if key == "decode":
                    amount, limit, unit = median(m["decode_gb_per_second"] for m in mine), read / 1e9, "GB/s"
                else:
                    # We multiply f32, or bf16 where that is asked for and the processor has an instruction for it.
                    most = max(products.values()) if dtype == "bf16-products" else products["f32"]
                    amount, limit = median(m["prefill_gflop_per_second"] for m in mine), most / 1e9
                    unit = "GFLOP/s"
                memory = median(m["peak_memory_bytes"] / m["weight_bytes"] for m in mine)
                print(
                    f"| {key} {dtype} | {backend} | {f'{median(beside):.1f}' if beside else '–'} | {median(m[key] for m in mine):.1f} "
                    f"| {ratio} | {amount:.1f} {unit} | {100 * amount / limit:.0f} % | {memory:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
