"""peft_merge.py - a merge by peft.utils.merge_utils, tensor by tensor.

    peft_merge.py FOLDER OUT.safetensors --models N --method task_arithmetic|ties|magnitude_prune

PEFT combines lists of task tensors; reading models, forming differences (in f32) and writing are
left to its user, and done here as sparingly as its interface allows: one tensor of all models at a
time, the results kept for one file. Vectors are not pruned by magnitude_prune, as by `lors`.
"""
import argparse

import torch
from peft.utils import merge_utils
from safetensors import safe_open
from safetensors.torch import save_file


def combine(method, deltas, args):
    weights = torch.full((len(deltas),), args.weight)
    if method == "ties":
        return merge_utils.ties(deltas, weights, args.density)
    if method == "magnitude_prune" and deltas[0].dim() > 1:
        return merge_utils.magnitude_prune(deltas, weights, args.density)
    return merge_utils.task_arithmetic(deltas, weights)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--models", type=int, required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--weight", type=float, required=True)
    parser.add_argument("--density", type=float, required=True)
    args = parser.parse_args()

    base, *models = [safe_open(f"{args.folder}/{name}/model.safetensors", "pt") for name in
                     ["base"] + [f"model-{k}" for k in range(1, args.models + 1)]]
    merged = {}
    for name in base.keys():
        before = base.get_tensor(name)
        start = before.float()
        deltas = [model.get_tensor(name).float() - start for model in models]
        merged[name] = (start + combine(args.method, deltas, args)).to(before.dtype)
    save_file(merged, args.out)


if __name__ == "__main__":
    main()
