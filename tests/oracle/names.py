"""names.py - what Whisper's Hugging Face names mean, and what a recipe's values mean for a tensor.

Written from configs/README.md, not from the program.
"""
import re

OPENAI_PARTS = {
    "attn.query": "self_attn.q_proj", "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj", "attn.out": "self_attn.out_proj",
    "cross_attn.query": "encoder_attn.q_proj", "cross_attn.key": "encoder_attn.k_proj",
    "cross_attn.value": "encoder_attn.v_proj", "cross_attn.out": "encoder_attn.out_proj",
    "attn_ln": "self_attn_layer_norm", "cross_attn_ln": "encoder_attn_layer_norm",
    "mlp_ln": "final_layer_norm", "mlp.0": "fc1", "mlp.2": "fc2",
}
OPENAI_WHOLE = {
    "encoder.positional_embedding": "model.encoder.embed_positions.weight",
    "decoder.positional_embedding": "model.decoder.embed_positions.weight",
    "decoder.token_embedding.weight": "model.decoder.embed_tokens.weight",
}
SINUSOID = "model.encoder.embed_positions.weight"
TIED = {"proj_out.weight": "model.decoder.embed_tokens.weight"}


def canonical(name):
    """Hugging Face's name of a tensor in any of the naming schemes."""
    name = name.removeprefix("module.")
    if name in OPENAI_WHOLE:
        return OPENAI_WHOLE[name]
    block = re.fullmatch(r"(encoder|decoder)\.blocks\.(\d+)\.(.+)\.(weight|bias)", name)
    if block:
        stack, layer, part, kind = block.groups()
        return f"model.{stack}.layers.{layer}.{OPENAI_PARTS[part]}.{kind}"
    name = re.sub(r"^encoder\.ln_post\.", "encoder.layer_norm.", name)
    name = re.sub(r"^decoder\.ln\.", "decoder.layer_norm.", name)
    return "model." + name if name.startswith(("encoder.", "decoder.")) else name


class Subject:
    """A tensor as selectors see it."""

    def __init__(self, name, shape):
        self.name, self.shape = name, shape
        self.canonical = canonical(name)
        place = re.match(r"model\.(encoder|decoder)\.(?:layers\.(\d+)\.)?", self.canonical)
        self.stack = place.group(1) if place else None
        self.layer = int(place.group(2)) if place and place.group(2) else None
        if self.canonical == "proj_out.weight":
            self.stack = "decoder"

    def has_role(self, word):
        name = self.canonical
        attention = re.search(r"\.(self_attn|encoder_attn)\.(q|k|v|out)_proj\.", name)
        kind, _, part = word.partition(".")
        if kind in ("attention", "self_attention", "cross_attention"):
            wanted = {"self_attention": "self_attn", "cross_attention": "encoder_attn"}.get(kind)
            return bool(attention) and wanted in (None, attention.group(1)) and \
                part in ("", attention.group(2))
        patterns = {"mlp": r"\.fc[12]\.", "norm": r"layer_norm\.", "conv": r"\.conv[12]\.",
                    "embedding": r"embed_tokens\.|^proj_out\.", "position": r"embed_positions\."}
        return bool(re.search(patterns[word], name)) if word in patterns else None

    def matches(self, selector):
        """Does a selector of configs/README.md fit?"""
        if "&" in selector and not selector.startswith("regex:"):
            first, _, rest = selector.partition("&")
            return self.matches(first.strip()) and self.matches(rest.strip())
        if selector.startswith("!"):
            return not self.matches(selector[1:].strip())
        if selector == "*":
            return True
        if selector in ("encoder", "decoder"):
            return self.stack == selector
        if selector.startswith("layers:"):
            ends = [int(end) for end in selector[7:].split("-")]
            return self.layer is not None and ends[0] <= self.layer <= ends[-1]
        if selector.startswith("regex:"):
            pattern = selector[6:].strip()
            return bool(re.search(pattern, self.name) or re.search(pattern, self.canonical))
        role = self.has_role(selector)
        return selector in self.name if role is None else role


def interpolate(gradient, subject, n_layers):
    """A gradient's value at the subject's layer."""
    if subject.layer is None:
        return gradient[0]
    count = n_layers[subject.stack]
    at = 1.0 if count == 1 else subject.layer / (count - 1)
    place = at * (len(gradient) - 1)
    below = min(int(place), len(gradient) - 2)
    share = place - below
    return gradient[below] * (1 - share) + gradient[below + 1] * share


def value_for(written, subject, n_layers):
    """What a written value is for a tensor; None where none of its cases fits."""
    if isinstance(written, list) and written and isinstance(written[0], dict):
        for case in written:
            if "filter" not in case or subject.matches(case["filter"]):
                return value_for(case["value"], subject, n_layers)
        return None
    if isinstance(written, list):
        return interpolate(written, subject, n_layers)
    return written
