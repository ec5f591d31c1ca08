"""Whisper on a CPU with the encoder's context cropped to the clips, plus scoring of texts."""
import re
import unicodedata

import numpy as np
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

from common import RATE


def load(folder, dtype=torch.float32):
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    return (model, WhisperFeatureExtractor.from_pretrained(folder),
            WhisperTokenizer.from_pretrained(folder))


def features(extractor, clips, crop):
    """Log-mel frames [batch, mels, frames]; 3000 frames, or the longest clip plus half a second."""
    mel = extractor(clips, sampling_rate=RATE, return_tensors="pt").input_features
    if crop:
        longest = max(len(c) for c in clips) / RATE + 0.5
        mel = mel[:, :, :min(3000, 2 * int(np.ceil(longest * 50)))]
    return mel


def encode(model, mel):
    """The encoder on any even number of frames (the library's own insists on 3000)."""
    encoder = model.model.encoder
    x = torch.nn.functional.gelu(encoder.conv1(mel))
    x = torch.nn.functional.gelu(encoder.conv2(x)).permute(0, 2, 1)
    x = x + encoder.embed_positions.weight[:x.shape[1]]
    for layer in encoder.layers:
        x = layer(x, None)
        x = x[0] if isinstance(x, tuple) else x
    return encoder.layer_norm(x)


def prompt_ids(tokenizer, language):
    names = ("<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>")
    return [tokenizer.convert_tokens_to_ids(n) for n in names]


def text_ids(tokenizer, text):
    """The text as it follows the prompt: a leading space, then the end of text."""
    ids = tokenizer(" " + text, add_special_tokens=False).input_ids
    return ids + [tokenizer.eos_token_id]


def loss_of(model, mel, targets, prompt):
    """Mean cross-entropy over the text tokens of a batch (the prompt is not scored)."""
    longest = max(map(len, targets))
    eot = model.config.eos_token_id
    tokens = torch.full((len(targets), len(prompt) + longest), eot)
    labels = torch.full_like(tokens, -100)
    for row, ids in enumerate(targets):
        full = prompt + ids
        tokens[row, :len(full)] = torch.tensor(full)
        labels[row, len(prompt) - 1:len(full) - 1] = torch.tensor(ids)
    hidden = model.model.decoder(input_ids=tokens, encoder_hidden_states=encode(model, mel),
                                 use_cache=False).last_hidden_state
    logits = model.proj_out(hidden)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def normalise(text):
    """Whisper's basic normaliser: lower case, no bracketed words, marks and symbols to spaces."""
    text = re.sub(r"[<\[][^>\]]*[>\]]", "", text.lower())
    text = re.sub(r"\(([^)]+?)\)", "", text).replace("ё", "е").replace("œ", "oe")
    text = "".join(" " if unicodedata.category(c)[0] in "MSP" else c
                   for c in unicodedata.normalize("NFKC", text))
    return " ".join(text.split())


def edits(a, b):
    """Levenshtein distance of two sequences."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        left, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (x != y))
    return row[-1]


def error_rates(pairs):
    """(WER, CER) in per cent over (reference, hypothesis) pairs: summed edits / summed lengths."""
    pairs = [(normalise(r), normalise(h)) for r, h in pairs]
    words = sum(edits(r.split(), h.split()) for r, h in pairs)
    letters = sum(edits(r, h) for r, h in pairs)
    return (100 * words / sum(len(r.split()) for r, _ in pairs),
            100 * letters / sum(len(r) for r, _ in pairs))
