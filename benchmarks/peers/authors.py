"""authors.py - LoRS-Merging as its authors compute it, stated anew in torch.

    authors.py FOLDER OUT.safetensors --models N [--sample M] [--thin]

Whole models in memory; every model's task vector in f32; of each attention and MLP matrix the SVD
with full U and V, the leading directions, the largest entries of what is left by topk; the sum of
all, scaled, on the base. --sample M decomposes M matrices of each shape (in all models), and tells
for how long the others would have taken; all else is done in full. --thin asks the SVD for no more
of U and V than there are singular values, as the method needs. Prints one JSON line.
"""
import argparse
import json
import re
import time

import torch
from safetensors.torch import load_file, save_file

IN_SCOPE = re.compile(r"\.((self|encoder)_attn\.\w+_proj|fc[12])\.weight$")


def low_rank_plus_sparse(delta, rank, density, full):
    u, s, vh = torch.linalg.svd(delta, full_matrices=full)
    low = (u[:, :rank] * s[:rank]) @ vh[:rank]
    residual = (delta - low).flatten()
    kept = torch.topk(residual.abs(), int(residual.numel() * density)).indices
    sparse = torch.zeros_like(residual)
    sparse[kept] = residual[kept]
    return low + sparse.view_as(low)


def by_shape(tensors):
    shapes = {}
    for name in sorted(tensors):
        if IN_SCOPE.search(name):
            shapes.setdefault(tuple(tensors[name].shape), []).append(name)
    return shapes


def spread(names, count):
    """`count` of the names, evenly from the first to the last; all for 0."""
    if not count or count >= len(names):
        return list(names)
    return [names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)]


def decompose(vectors, chosen, args):
    """Replace the chosen matrices of every model; the seconds of each."""
    seconds = []
    for vector in vectors:
        for name in chosen:
            start = time.perf_counter()
            vector[name] = low_rank_plus_sparse(vector[name], args.rank, args.density,
                                                not args.thin)
            seconds.append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--models", type=int, required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--density", type=float, required=True)
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--thin", action="store_true")
    args = parser.parse_args()

    base = load_file(f"{args.folder}/base/model.safetensors")
    vectors = []
    for k in range(1, args.models + 1):
        model = load_file(f"{args.folder}/model-{k}/model.safetensors")
        vectors.append({name: model[name].float() - base[name].float() for name in base})
        del model

    shapes, left_out, added = [], [], 0.0
    for shape, names in by_shape(base).items():
        chosen = spread(names, args.sample)
        seconds = decompose(vectors, chosen, args)
        mean = sum(seconds) / len(seconds)
        rest = (len(names) - len(chosen)) * args.models
        added += rest * mean
        left_out += sorted(set(names) - set(chosen))
        shapes.append({"shape": shape, "matrices": len(names) * args.models,
                       "measured": len(seconds), "mean_seconds": mean,
                       "least_seconds": min(seconds), "most_seconds": max(seconds),
                       "all_seconds": sum(seconds) + rest * mean})

    merged = {}
    for name, tensor in base.items():
        total = torch.zeros_like(vectors[0][name])
        for vector in vectors:
            total += vector[name]
        merged[name] = (tensor.float() + args.scale * total).to(tensor.dtype)
    save_file(merged, args.out)
    print(json.dumps({"shapes": shapes, "left_out": left_out, "added_seconds": added}))


if __name__ == "__main__":
    main()
