"""Trains the same RWKV-4 with the program `train` and with plain PyTorch, and compares the two.

    pip install torch safetensors
    cargo build --release --example train
    python rwkv-train/tests/compare_with_pytorch.py                              # do both learn the same?
    python rwkv-train/tests/compare_with_pytorch.py --speed --text tinyshakespeare.txt      # how fast, in how much memory?

Parity: both start from the same file of weights and see the same windows of a random text. The loss of every step, the norm
of its gradient, its learning rate and the weights after the last step must agree, or the exit status is 1. The PyTorch side
shares no code with the library: WKV is a loop over the tokens, and all gradients are autograd's. It runs in float32, and
once more in float64, which says how much of a difference is rounding: PyTorch's own two results are that far apart.

Speed: all sides in turn, each in a process of its own, medians of the rounds. PyTorch is eager; of the eager forms of WKV
that were tried this is the fastest by far (`fast_wkv`): everything but the recurrence itself is computed for all tokens at
once, so that the loop over the tokens has a single operation, forward as well as backward. --peers adds what there is to
train with elsewhere: the package transformers (pip install transformers) and nanoGPT's Transformer.
PyTorch's threads spin while they wait, and crawl where other programs want the same cores: use a quiet machine, or
OMP_WAIT_POLICY=PASSIVE in the environment or --threads 1, and compare with these anyway.
"""

import argparse
import json
import math
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

LOSS_TOLERANCE = 1e-4  # absolute
WEIGHT_TOLERANCE = 1e-3  # of the tensor's largest entry
NORM_TOLERANCE = 1e-3  # of the gradient's norm


@dataclass(frozen=True)
class Recipe:
    layers: int
    width: int
    vocab: int
    ctx_len: int
    batch: int
    steps: int
    accumulate: int = 1
    lr_init: float = 1e-3
    lr_final: float = 1e-4
    warmup: int = 50
    weight_decay: float = 0.0
    l2_wrap: float = 1e-4

    def lr(self, step):
        """The learning rate of a step, counted from 0: half a cosine, below it a warm-up that begins at a fifth."""
        progress = min(max((step - self.warmup + 1) / max(self.steps - self.warmup, 1), 0.0), 1.0)
        lr = self.lr_final + (self.lr_init - self.lr_final) * 0.5 * (1 + math.cos(math.pi * progress))
        return lr * (0.2 + 0.8 * step / self.warmup) if step < self.warmup else lr

    def flags(self):
        """What the program has to be told."""
        keys = {"batch_size": self.batch, "accumulate": self.accumulate, "ctx_len": self.ctx_len, "steps": self.steps,
                "lr_init": self.lr_init, "lr_final": self.lr_final, "warmup_steps": self.warmup, "lr_schedule": "cosine",
                "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-8, "grad_clip": 1.0, "weight_decay": self.weight_decay,
                "l2_wrap": self.l2_wrap, "log_every": 1, "val_every": 0, "val_windows": 1, "save_every": 0}
        return [flag for key, value in keys.items() for flag in ("--set", f"train.{key}={value}")]


# Weights

def initial_weights(recipe, live):
    """The official initialisation, matrices [out, in], or with `live` one that differs in two respects. Five zero matrices per
    layer, behind which other weights have no gradient, get random values. And embeddings are larger than the learning rate: Adam
    moves an entry whose gradient is no more than rounding by as much as any other, so that with tiny embeddings one such entry
    sends float32 and float64 different ways. They are still so small that the gradient's norm is above 1 and is clipped."""
    torch.manual_seed(1)
    layers, width = recipe.layers, recipe.width
    weights, channel = {}, torch.arange(width) / width

    def zero(name, rows, columns):
        weights[f"{name}.weight"] = torch.randn(rows, columns) * (0.5 / columns**0.5 if live else 0.0)

    def orthogonal(name, rows, columns, scale=1.0):
        gain = scale * max(1.0, rows / columns) ** 0.5
        weights[f"{name}.weight"] = torch.nn.init.orthogonal_(torch.empty(rows, columns), gain)

    def norm(name):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.ones(width), torch.zeros(width)

    bound = 0.1 if live else recipe.lr_init
    weights["emb.weight"] = torch.empty(recipe.vocab, width).uniform_(-bound, bound)
    norm("blocks.0.ln0")
    for layer in range(layers):
        block, att, ffn = (f"blocks.{layer}{part}" for part in ("", ".att", ".ffn"))
        rising, falling = layer / (layers - 1), 1 - layer / layers
        norm(f"{block}.ln1")
        norm(f"{block}.ln2")
        weights[f"{att}.time_decay"] = -5 + 8 * (torch.arange(width) / (width - 1)) ** (0.7 + 1.3 * rising)
        weights[f"{att}.time_first"] = math.log(0.3) + 0.5 * ((torch.arange(width) + 1) % 3 - 1)
        mix = {f"{att}.time_mix_k": channel**falling, f"{att}.time_mix_v": channel**falling + 0.3 * rising,
               f"{att}.time_mix_r": channel ** (0.5 * falling),
               f"{ffn}.time_mix_k": channel**falling, f"{ffn}.time_mix_r": channel**falling}
        weights |= {name: values.reshape(1, 1, width) for name, values in mix.items()}
        zero(f"{att}.key", width, width)
        orthogonal(f"{att}.value", width, width)
        zero(f"{att}.receptance", width, width)
        zero(f"{att}.output", width, width)
        orthogonal(f"{ffn}.key", 4 * width, width)
        zero(f"{ffn}.receptance", width, width)
        zero(f"{ffn}.value", width, 4 * width)
    norm("ln_out")
    orthogonal("head", recipe.vocab, width, 0.5)
    return weights


# The model

def plain_wkv(time_decay, time_first, k, v):
    """WKV token by token: sums scaled by e^-p, where p is the largest exponent so far, so that nothing overflows."""
    w = -torch.exp(time_decay)
    a = b = torch.zeros_like(k[:, 0])
    p = torch.full_like(a, -1e38)
    outputs = []
    for k_t, v_t in zip(k.unbind(1), v.unbind(1)):
        # The result does not depend on the scale, so no gradient has to pass through it.
        q = torch.maximum(p, time_first + k_t).detach()
        old, new = torch.exp(p - q), torch.exp(time_first + k_t - q)
        outputs.append((old * a + new * v_t) / (old * b + new))
        q = torch.maximum(p + w, k_t).detach()
        old, new = torch.exp(p + w - q), torch.exp(k_t - q)
        a, b, p = old * a + new * v_t, old * b + new, q
    return torch.stack(outputs, 1)


class Recurrence(torch.autograd.Function):
    """s_t = decay_t · s_{t-1} + x_t from s_{-1} = 0, over decay [T, B, C] and x [T, 2, B, C]."""

    @staticmethod
    def forward(ctx, decay, x):
        states = x.clone()
        steps = states.unbind(0)
        for t, factor in enumerate(decay.unbind(0)):
            if t > 0:
                steps[t].addcmul_(factor, steps[t - 1])
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    def backward(ctx, grad):
        decay, states = ctx.saved_tensors
        grad_x = grad.clone()
        steps, factors = grad_x.unbind(0), decay.unbind(0)
        for t in range(len(steps) - 2, -1, -1):
            steps[t].addcmul_(factors[t + 1], steps[t + 1])
        grad_decay = torch.zeros_like(decay)
        torch.sum(grad_x[1:] * states[:-1], 1, out=grad_decay[1:])
        return grad_decay, grad_x


def fast_wkv(time_decay, time_first, k, v):
    """The same function, with the scales of all tokens computed at once: p_t = max over i <= t of k_i + (t - i)·w is a running
    maximum of k_i - i·w. What remains of the loop is one multiplication and addition of the numerator and denominator."""
    k, v = k.transpose(0, 1), v.transpose(0, 1)
    w = -torch.exp(time_decay)
    with torch.no_grad():
        # w may be -20, and t·w so large that float32 loses digits of p; as long as all use the same p that changes nothing,
        # and p_t >= k_t, which keeps exponents below zero, is made certain.
        drift = torch.arange(len(k), dtype=k.dtype).reshape(-1, 1, 1) * w
        p = torch.maximum(torch.cummax(k - drift, 0).values + drift, k)
        before = torch.cat([torch.full_like(p[:1], -1e30), p[:-1]])
        q = torch.maximum(before, time_first + k)
        before_to_p, before_to_q = before - p, before - q
    new = torch.exp(k - p)
    states = Recurrence.apply(torch.exp(before_to_p + w), torch.stack([new * v, new], 1))
    old, current = torch.exp(before_to_q), torch.exp(time_first + k - q)
    a, b = F.pad(states, (0, 0, 0, 0, 0, 0, 1, -1)).unbind(1)
    return ((old * a + current * v) / (old * b + current)).transpose(0, 1)


def logits(weights, inputs, wkv):
    """Logits [B, T, V] of windows [B, T], each from the empty state."""
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def project(x, name):
        return F.linear(x, weights[f"{name}.weight"])

    def shifted(x, part, names):
        last = F.pad(x, (0, 0, 1, -1))
        return (torch.lerp(last, x, weights[f"{part}.time_mix_{name}"]) for name in names)

    x = norm(F.embedding(inputs, weights["emb.weight"]), "blocks.0.ln0")
    for layer in range(sum(name.endswith("ln1.weight") for name in weights)):
        att, ffn = f"blocks.{layer}.att", f"blocks.{layer}.ffn"
        k, v, r = shifted(norm(x, f"blocks.{layer}.ln1"), att, "kvr")
        k, v, r = project(k, f"{att}.key"), project(v, f"{att}.value"), project(r, f"{att}.receptance")
        y = wkv(weights[f"{att}.time_decay"], weights[f"{att}.time_first"], k, v)
        x = x + project(torch.sigmoid(r) * y, f"{att}.output")
        k, r = shifted(norm(x, f"blocks.{layer}.ln2"), ffn, "kr")
        k = torch.relu(project(k, f"{ffn}.key")).square()
        x = x + torch.sigmoid(project(r, f"{ffn}.receptance")) * project(k, f"{ffn}.value")
    return project(norm(x, "ln_out"), "head")


class Learner:
    """A PyTorch model that learns by the recipe."""

    def __init__(self, recipe, weights, wkv, dtype=torch.float32, fused=False):
        self.recipe, self.wkv = recipe, wkv
        self.weights = {name: tensor.to(dtype, copy=True).requires_grad_() for name, tensor in weights.items()}
        groups = [{"params": [tensor], "scale": 2 if "time_decay" in name else 3 if "time_first" in name else 1,
                   "weight_decay": recipe.weight_decay if tensor.dim() == 2 else 0.0}
                  for name, tensor in self.weights.items()]
        if fused:  # one call per group: few large groups are faster
            together = {}
            for group in groups:
                key = group["scale"], group["weight_decay"]
                together.setdefault(key, {**group, "params": []})["params"] += group["params"]
            groups = list(together.values())
        # Without weight decay AdamW is Adam.
        optimizer = torch.optim.AdamW if recipe.weight_decay else torch.optim.Adam
        self.optimizer = optimizer(groups, lr=recipe.lr_init, betas=(0.9, 0.99), eps=1e-8, fused=fused)

    def step(self, number, inputs, targets):
        """The loss before this update, and the gradient's norm before it was clipped."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * self.recipe.lr(number)
        scores = logits(self.weights, inputs, self.wkv)
        loss = F.cross_entropy(scores.flatten(0, 1), targets.flatten())
        # L2Wrap, a gradient of l2_wrap/(B·T)·logit at the largest logit; the reported loss is without it.
        l2_wrap = 0.5 * self.recipe.l2_wrap * scores.max(-1).values.square().mean()
        self.optimizer.zero_grad()
        (loss + l2_wrap).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        return loss.item(), norm.item()


# Parity

def sequential_batches(tokens, recipe):
    """The program's batches with data.order=sequential: windows side by side over the first nine tenths, again and again."""
    tokens = torch.tensor(tokens[:int(len(tokens) * (1.0 - 0.1))])
    windows = (len(tokens) - 1) // recipe.ctx_len
    size = recipe.batch * recipe.accumulate
    for step in range(recipe.steps):
        starts = [(step * size + i) % windows * recipe.ctx_len for i in range(size)]
        batch = torch.stack([tokens[start:start + recipe.ctx_len + 1] for start in starts])
        yield batch[:, :-1], batch[:, 1:]


def train_with_pytorch(recipe, weights, tokens, dtype):
    learner = Learner(recipe, weights, plain_wkv, dtype)
    rows = [learner.step(i, *batch) for i, batch in enumerate(sequential_batches(tokens, recipe))]
    return rows, {name: tensor.detach().double() for name, tensor in learner.weights.items()}


def largest_difference(got, want):
    """The largest difference of two sets of weights, in parts of each tensor's largest entry, and the tensor's name."""
    assert got.keys() == want.keys(), got.keys() ^ want.keys()
    for name, tensor in want.items():
        assert got[name].shape == tensor.shape, (name, got[name].shape, tensor.shape)
    return max(((got[name].double() - want[name]).abs().max() / want[name].abs().max()).item() for name in want), \
        max(want, key=lambda name: (got[name].double() - want[name]).abs().max() / want[name].abs().max())


def compare(args, folder, title, recipe, weights, text):
    tokens = list((folder / "text").read_bytes())
    single, single_weights = train_with_pytorch(recipe, weights, tokens, torch.float32)
    double, double_weights = train_with_pytorch(recipe, weights, tokens, torch.float64)
    out = folder / title.replace(" ", "-")
    command = [args.train, "--text", text, "--tokenizer", "byte", "--start-from", folder / "init.safetensors", "--out", out,
               "--set", "data.order=sequential", *recipe.flags(), *args.also]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{args.train} failed:\n{run.stderr}")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, recipe.steps + 1)), "a row per step"
    ours = [(row["loss"], row["grad_norm"]) for row in rows]
    final = load_file(out / "model.safetensors")

    def distances(a, b):
        losses = [abs(x[0] - y[0]) for x, y in zip(a, b)]
        norms = [abs(x[1] / y[1] - 1) for x, y in zip(a, b)]
        return losses, norms

    losses, norms = distances(ours, single)
    weight, name = largest_difference(final, single_weights)
    lr = max(abs(row["lr"] / recipe.lr(i) - 1) for i, row in enumerate(rows))
    good = max(losses) <= LOSS_TOLERANCE and weight <= WEIGHT_TOLERANCE and max(norms) <= NORM_TOLERANCE and lr < 1e-12
    print(f"{title}: {recipe.steps} steps, loss {ours[0][0]:.4f} -> {ours[-1][0]:.4f}, {sum(norm > 1 for _, norm in ours)} "
          f"gradients clipped: {'equal' if good else 'DIFFERENT'}")
    print(f"  program to PyTorch f32:     loss {max(losses):.1e} (step 1: {losses[0]:.1e}), gradient norm {max(norms):.1e}, "
          f"weights {weight:.1e} ({name}), learning rate {lr:.0e}")
    for side, pairs, values in (("program    ", ours, final), ("PyTorch f32", single, single_weights)):
        losses, norms = distances(pairs, double)
        weight, name = largest_difference(values, double_weights)
        print(f"  {side} to PyTorch f64: loss {max(losses):.1e}, gradient norm {max(norms):.1e}, weights {weight:.1e} ({name})")
    moved, name = largest_difference({name: tensor for name, tensor in weights.items()}, single_weights)
    print(f"  the start to the end:       weights {moved:.1e} ({name})")
    if not good:
        for step, (row, pair) in enumerate(zip(ours, single), 1):
            print(f"  step {step}: loss {row[0]:.7f}, PyTorch {pair[0]:.7f}; gradient norm {row[1]:.6f}, PyTorch {pair[1]:.6f}")
    return good


def parity(args):
    torch.set_num_threads(1)
    recipe = Recipe(layers=3, width=32, vocab=256, ctx_len=24, batch=4, steps=20, warmup=5)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        weights = initial_weights(recipe, live=True)
        save_file(weights, folder / "init.safetensors")
        # Characters of one and two bytes, so that ids above 127 occur in valid UTF-8. The training part has 54 windows, so the
        # 80 of 20 steps go through it more than once, with a batch across the seam.
        rng = random.Random(1)
        text = "".join(chr(rng.choice((rng.randrange(0x80), rng.randrange(0x80, 0x800)))) for _ in range(970))
        (folder / "text").write_bytes(text.encode())
        variants = {
            "as recommended": recipe,
            "two micro-batches": replace(recipe, batch=2, accumulate=2),
            # Large, because 20 small steps of what is usual would be lost in the tolerance if they were left out.
            "weight decay": replace(recipe, weight_decay=1.0),
            "strong L2Wrap": replace(recipe, l2_wrap=0.03),
        }
        results = [compare(args, folder, title, variant, weights, folder / "text") for title, variant in variants.items()]
    return all(results)


# Speed

SPEED_RECIPES = {
    "4 x 128": Recipe(layers=4, width=128, vocab=0, ctx_len=64, batch=12, steps=0),
    "12 x 256": Recipe(layers=12, width=256, vocab=0, ctx_len=256, batch=8, steps=0),
}
WARM_UP = 2  # steps that are not counted


def peak_memory(pid):
    """The peak resident memory of a process in bytes, None when it has ended. Unlike rusage's figure, which a child
    inherits from its parent at birth, this is the program's own."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def watched(command, env):
    """Runs a process to its end; its output and its peak memory."""
    peak = 0
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=errors, env=env)
        while process.poll() is None:
            peak = peak_memory(process.pid) or peak
            time.sleep(0.05)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{command[0]} ended with status {process.returncode}:\n{errors.read()}")
        return output.read(), peak


def program_round(args, folder, recipe, steps, env):
    """Tokens per second without the first steps, peak memory, and the loss at the end."""
    out = folder / f"run-{time.monotonic_ns()}"
    recipe = replace(recipe, steps=WARM_UP + steps)
    command = [args.train, "--text", args.text, "--tokenizer", "char", "--n-layer", recipe.layers, "--n-embd", recipe.width,
               "--out", out, *recipe.flags(), *args.also]
    _, peak = watched(command, env)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][WARM_UP:]
    tokens = recipe.batch * recipe.ctx_len
    seconds = sum(tokens / row["tokens_per_second"] for row in rows)
    return tokens * len(rows) / seconds, peak, rows[-1]["loss"]


class NanoGpt(torch.nn.Module):
    """The Transformer of nanoGPT without dropout and biases: what its recipe for a processor trains. Its
    weights begin as PyTorch's layers do, not as nanoGPT's: only its speed is compared."""

    def __init__(self, recipe, heads=4):
        super().__init__()
        width = recipe.width
        linear = lambda into, out: torch.nn.Linear(into, out, bias=False)
        norm = lambda: torch.nn.LayerNorm(width, bias=False)
        self.heads = heads
        self.tokens, self.positions = torch.nn.Embedding(recipe.vocab, width), torch.nn.Embedding(recipe.ctx_len, width)
        self.blocks = torch.nn.ModuleList(
            torch.nn.ModuleDict({"ln1": norm(), "qkv": linear(width, 3 * width), "proj": linear(width, width), "ln2": norm(),
                                 "up": linear(width, 4 * width), "down": linear(4 * width, width)})
            for _ in range(recipe.layers))
        self.norm, self.head = norm(), linear(width, recipe.vocab)
        self.tokens.weight = self.head.weight

    def forward(self, ids):
        x = self.tokens(ids) + self.positions.weight
        batch, time, width = x.shape
        for block in self.blocks:
            q, k, v = (part.view(batch, time, self.heads, -1).transpose(1, 2)
                       for part in block["qkv"](block["ln1"](x)).split(width, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block["proj"](y.transpose(1, 2).reshape(batch, time, width))
            x = x + block["down"](F.gelu(block["up"](block["ln2"](x))))
        return self.head(self.norm(x))


def module_stepper(module, logits, recipe):
    """A step of AdamW with clipping for a module of PyTorch."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.lr_init, betas=(0.9, 0.99), fused=True)

    def step(number, inputs, targets):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr(number)
        loss = F.cross_entropy(logits(module, inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def stepper_of_pytorch(recipe):
    learner = Learner(recipe, initial_weights(recipe, live=False), fast_wkv, fused=True)
    return lambda number, inputs, targets: learner.step(number, inputs, targets)[0]


def stepper_of_transformers(recipe):
    from transformers import RwkvConfig, RwkvForCausalLM

    config = RwkvConfig(vocab_size=recipe.vocab, context_length=recipe.ctx_len, hidden_size=recipe.width,
                        num_hidden_layers=recipe.layers, use_cache=False)
    return module_stepper(RwkvForCausalLM(config).train(), lambda module, ids: module(ids).logits, recipe)


def stepper_of_nanogpt(recipe):
    return module_stepper(NanoGpt(recipe), lambda module, ids: module(ids), recipe)


# The other sides of --speed: RWKV-4 by this script with `fast_wkv`, RWKV-4 by the package transformers, whose WKV is a plain
# loop on a processor, and nanoGPT's Transformer of the same width and depth.
PEERS = {"PyTorch": stepper_of_pytorch, "transformers": stepper_of_transformers, "nanoGPT": stepper_of_nanogpt}


def peer_round(args):
    """Tokens per second, peak memory and loss of a peer, in the process that the comparison starts for it."""
    torch.set_num_threads(args.threads)
    recipe = Recipe(**json.loads(args.recipe))
    text = pathlib.Path(args.text).read_text()
    ids = {char: i for i, char in enumerate(sorted(set(text)))}
    tokens = torch.tensor([ids[char] for char in text])
    tokens = tokens[:len(tokens) * 9 // 10]
    step = PEERS[args.peer_round](recipe)
    for number in range(recipe.steps):
        if number == WARM_UP:
            started = time.perf_counter()
        starts = torch.randint(len(tokens) - recipe.ctx_len, (recipe.batch, 1))
        batch = tokens[starts + torch.arange(recipe.ctx_len + 1)]
        loss = step(number, batch[:, :-1], batch[:, 1:])
    seconds = time.perf_counter() - started
    speed = (recipe.steps - WARM_UP) * recipe.batch * recipe.ctx_len / seconds
    print(json.dumps({"speed": speed, "peak": peak_memory("self"), "loss": loss}))


def check_fast_wkv():
    """Loss and gradients of the fast form must be those of the plain one, also where channels forget at once."""
    recipe = Recipe(layers=2, width=32, vocab=17, ctx_len=70, batch=3, steps=1)
    weights = initial_weights(recipe, live=True)
    weights["blocks.1.att.key.weight"] *= 20
    tokens = torch.randint(recipe.vocab, (recipe.batch, recipe.ctx_len + 1))
    found = []
    for wkv in (plain_wkv, fast_wkv):
        learner = Learner(recipe, weights, wkv)
        loss, _ = learner.step(0, tokens[:, :-1], tokens[:, 1:])
        found.append((loss, {name: tensor.grad for name, tensor in learner.weights.items()}))
    (loss, grads), (fast_loss, fast_grads) = found
    distance, name = largest_difference(fast_grads, {name: grad.double() for name, grad in grads.items()})
    print(f"fast and plain WKV in PyTorch: loss {abs(loss - fast_loss):.1e} apart, gradients {distance:.1e} ({name})")
    assert abs(loss - fast_loss) < 1e-5 and distance < 1e-4


def speed(args):
    check_fast_wkv()
    text = pathlib.Path(args.text).read_text()
    env = os.environ | {"RAYON_NUM_THREADS": str(args.threads), "OMP_NUM_THREADS": str(args.threads)}
    print(f"PyTorch {torch.__version__}, {args.threads} threads each, load {os.getloadavg()[0]:.1f}")
    for title in args.sizes:
        recipe = replace(SPEED_RECIPES[title], vocab=len(set(text)))
        tokens = recipe.batch * recipe.ctx_len

        def peer(name):
            def round(_folder, steps):
                command = [sys.executable, __file__, "--text", args.text, "--threads", args.threads, "--peer-round", name,
                           "--recipe", json.dumps(asdict(replace(recipe, steps=WARM_UP + steps)))]
                found = json.loads(watched(command, env)[0])
                return found["speed"], found["peak"], found["loss"]

            return round

        def program(folder, steps):
            return program_round(args, folder, recipe, steps, env)

        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            sides = {"program": program} | {name: peer(name) for name in args.peers}
            # How many steps fill the time, by a short run of each side that is not counted.
            steps = {name: max(2, round(args.seconds * side(folder, 2)[0] / tokens)) for name, side in sides.items()}
            rounds = {name: [] for name in sides}
            for number in range(args.rounds):
                for name, side in sides.items():
                    rounds[name].append(side(folder, steps[name]))
                now = ", ".join(f"{name} {found[-1][0]:.0f}" for name, found in rounds.items())
                ratios = ", ".join(f"x{rounds['program'][-1][0] / rounds[name][-1][0]:.2f}" for name in args.peers)
                print(f"  {title}, round {number + 1}: {now} tokens/s ({ratios}), load {os.getloadavg()[0]:.1f}", flush=True)
        print(f"{title}, context {recipe.ctx_len}, batch {recipe.batch}")
        for name, found in rounds.items():
            speeds = [speed for speed, _, _ in found]
            ratios = sorted(ours / theirs for (ours, _, _), theirs in zip(rounds["program"], speeds))
            beside = (f" (the program: x{statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f})"
                      if name != "program" else "")
            print(f"  {name}: {statistics.median(speeds):.0f} tokens/s{beside}; {steps[name]} steps a round, peak memory "
                  f"{max(peak for _, peak, _ in found) / 1e6:.0f} MB, loss at the end {found[-1][2]:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", default="target/release/examples/train", help="the program")
    parser.add_argument("--also", nargs=argparse.REMAINDER, default=[], help="more flags for the program, last of all")
    parser.add_argument("--speed", action="store_true", help="measure speed and memory instead of parity")
    parser.add_argument("--text", help="the text for --speed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="time per round and side")
    parser.add_argument("--sizes", nargs="+", choices=SPEED_RECIPES, default=list(SPEED_RECIPES), help="models for --speed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["PyTorch"], help="the other sides of --speed")
    parser.add_argument("--peer-round", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--recipe", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.speed and not args.text:
        parser.error("--speed needs --text")
    if args.peer_round:
        peer_round(args)
    elif args.speed:
        speed(args)
    else:
        sys.exit(0 if parity(args) else 1)


if __name__ == "__main__":
    main()
