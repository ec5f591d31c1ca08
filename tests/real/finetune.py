"""Full fine-tune of the base on one language: a few dozen AdamW steps on the CPU.

  finetune.py ru|fr [--steps N] [--batch N] [--lr X] [--seed N]

All weights train in f32, the way transformers hands them out: its v5 loader leaves the encoder's
sinusoid trainable (v4 freezes it), so the fine-tunes move it, as those of v5 users do, and a merge
that must copy it from the base has something to get wrong. The encoder sees each batch cropped to
its longest clip. Writes models/LANG (f16, the base's dtype, rounded
once from the f32 master), models/LANG-f32 (the master itself) and results/finetune-LANG.json.
"""
import argparse
import time

import numpy as np
import torch

from common import (MODELS, RESULTS, SPEECH, log, manifest, read_clip, read_safetensors, sha256,
                    versions, write_json)
from whisper_cpu import features, load, loss_of, prompt_ids, text_ids

STEPS = {"ru": 40, "fr": 80}  # the French clips are short, so more of them cost the same
WARMUP, CLIP_NORM, WEIGHT_DECAY, BETAS, EPS = 4, 1.0, 0.0, (0.9, 0.999), 1e-8


def batches(rows, size, count, seed):
    """`count` batches over seeded shuffles of the rows, epoch after epoch."""
    generator, queue = np.random.default_rng(seed), []
    for _ in range(count):
        while len(queue) < size:
            queue += [rows[i] for i in generator.permutation(len(rows))]
        yield queue[:size]
        queue = queue[size:]


class Data:
    def __init__(self, extractor, tokenizer, language):
        self.extractor, self.tokenizer = extractor, tokenizer
        self.prompt = prompt_ids(tokenizer, language)

    def loss(self, model, rows):
        mel = features(self.extractor, [read_clip(SPEECH / r["file"]) for r in rows], crop=True)
        return loss_of(model, mel, [text_ids(self.tokenizer, r["text"]) for r in rows], self.prompt)

    @torch.inference_mode()
    def mean_loss(self, model, rows, batch):
        """Mean of the batch means, in the manifest's order: the same before and after."""
        parts = [rows[i:i + batch] for i in range(0, len(rows), batch)]
        return float(np.mean([float(self.loss(model, part)) for part in parts]))


def save(folder, state, dtype):
    """The base's side files, and its tensor names with the trained values."""
    from safetensors.numpy import save_file
    folder.mkdir(parents=True, exist_ok=True)
    for path in (MODELS / "base").iterdir():
        if path.suffix != ".safetensors":
            text = path.read_text("utf-8")
            if path.name == "config.json":
                text = text.replace('"float16"', f'"{dtype}"')
            (folder / path.name).write_text(text, "utf-8")
    save_file({k: v.astype(dtype) for k, v in state.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("language", choices=sorted(STEPS))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    steps, began = args.steps or STEPS[args.language], time.monotonic()
    torch.manual_seed(args.seed)

    base, _ = read_safetensors(MODELS / "base" / "model.safetensors")
    model, extractor, tokenizer = load(MODELS / "base")
    data = Data(extractor, tokenizer, args.language)
    train, test = manifest(args.language, "train"), manifest(args.language, "test")
    before = data.mean_loss(model.eval(), test, args.batch)
    log(f"{args.language}: {len(train)} training clips, test loss before {before:.4f}")

    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=args.lr, betas=BETAS, eps=EPS,
                                  weight_decay=WEIGHT_DECAY)
    losses = []
    for step, rows in enumerate(batches(train, args.batch, steps, args.seed), 1):
        for group in optimiser.param_groups:
            group["lr"] = args.lr * min(1.0, step / WARMUP)
        loss = data.loss(model, rows)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        optimiser.step()
        losses.append(round(float(loss.detach()), 4))
        if step % 5 == 0 or step == 1:
            log(f"{args.language} step {step}/{steps} loss {losses[-1]:.4f} norm {float(norm):.2f}")
    train_seconds = time.monotonic() - began

    after = data.mean_loss(model.eval(), test, args.batch)
    own = {k: v.detach().numpy() for k, v in model.state_dict().items() if k in base}
    if own.keys() != base.keys():
        raise SystemExit("the trained model does not hold the base's tensors")
    for name, dtype in ((args.language, "float16"), (args.language + "-f32", "float32")):
        save(MODELS / name, own, dtype)
    moved = [k for k in base if own[k].astype(np.float16).tobytes() != base[k].tobytes()]
    delta = sum(float(((own[k].astype(np.float64) - base[k]) ** 2).sum()) for k in base)
    lost = sum(float((own[k].astype(np.float16).astype(np.float64) - own[k]).__pow__(2).sum())
               for k in base)
    write_json(RESULTS / f"finetune-{args.language}.json", {
        "language": args.language, "steps": steps, "batch": args.batch, "lr": args.lr,
        "warmup_steps": WARMUP, "schedule": "constant after warm-up", "optimiser": "AdamW",
        "betas": BETAS, "eps": EPS, "weight_decay": WEIGHT_DECAY, "clip_norm": CLIP_NORM,
        "seed": args.seed, "master": "float32", "saved": "float16", "context": "cropped to batch",
        "train_clips": len(train), "test_clips": len(test), "train_losses": losses,
        "test_loss_before": round(before, 4), "test_loss_after": round(after, 4),
        "tensors_changed": len(moved), "tensors": len(base),
        "tensors_unchanged": sorted(set(base) - set(moved)),
        "delta_norm": delta ** 0.5, "f16_rounding_norm": lost ** 0.5,
        "seconds": round(time.monotonic() - began, 1), "train_seconds": round(train_seconds, 1),
        "threads": torch.get_num_threads(), "versions": versions("torch", "transformers"),
        "sha256": {n: sha256(MODELS / n / "model.safetensors")
                   for n in ("base", args.language, args.language + "-f32")}})
    log(f"{args.language}: test loss {before:.4f} -> {after:.4f}, {len(moved)} tensors changed")


if __name__ == "__main__":
    main()
