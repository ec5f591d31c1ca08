"""Transcribe the held-out clips of both languages with one model folder: WER, CER, samples.

  transcribe.py FOLDER [-o out.json] [--language ru ...] [--clips N] [--crop]

The folder is loaded by transformers as any user would (weights, tokenizer, feature extractor,
generation settings) and decoded greedily with the language given. By default each clip is padded
to the full 30 s, as Whisper is used in practice; --crop shortens the encoder instead (faster).
"""
import argparse
import time

import torch

from common import LANGUAGES, SPEECH, log, manifest, read_clip, versions, write_json
from whisper_cpu import encode, error_rates, features, load


def decode(model, extractor, tokenizer, language, rows, batch, crop):
    texts = []
    for start in range(0, len(rows), batch):
        clips = [read_clip(SPEECH / r["file"]) for r in rows[start:start + batch]]
        mel = features(extractor, clips, crop)
        given = {"input_features": mel}
        if crop:
            from transformers.modeling_outputs import BaseModelOutput
            given = {"encoder_outputs": BaseModelOutput(last_hidden_state=encode(model, mel))}
        ids = model.generate(**given, language=language, task="transcribe", num_beams=1,
                             do_sample=False, max_new_tokens=64)
        texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [t.strip() for t in texts]


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("-o", "--output")
    parser.add_argument("--language", nargs="+", default=list(LANGUAGES))
    parser.add_argument("--clips", type=int, help="at most this many clips of each language")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--crop", action="store_true")
    parser.add_argument("--samples", type=int, default=4, help="lines to print")
    args = parser.parse_args()
    model, extractor, tokenizer = load(args.folder)
    model.eval()
    result = {"folder": args.folder.rstrip("/").rsplit("/", 1)[-1], "decoding": "greedy, f32",
              "context": "cropped" if args.crop else "30 s",
              "versions": versions("torch", "transformers"), "languages": {}}
    for language in args.language:
        rows, began = manifest(language, "test")[:args.clips], time.monotonic()
        texts = decode(model, extractor, tokenizer, language, rows, args.batch, args.crop)
        pairs = [(r["text"], t) for r, t in zip(rows, texts)]
        wer, cer = error_rates(pairs)
        result["languages"][language] = {
            "clips": len(rows), "wer": round(wer, 2), "cer": round(cer, 2),
            "seconds": round(time.monotonic() - began, 1),
            "rows": [{"id": r["id"], "text": r["text"], "heard": t} for r, t in zip(rows, texts)]}
        print(f"{result['folder']} {language}: {len(rows)} clips, WER {wer:.1f} %, CER {cer:.1f} %")
        for r, t in pairs[:args.samples]:
            print(f"    said:  {r}\n    heard: {t}")
    if args.output:
        write_json(args.output, result)
        log("wrote", args.output)


if __name__ == "__main__":
    main()
