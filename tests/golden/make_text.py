#!/usr/bin/env python3
"""Golden token ids and text encoder states, made by running transformers on a CPU.

usage: make_text.py [--out tests/golden]

Needs transformers 5.24 with its tokenizers, torch, safetensors and numpy. Writes
  text_files/              a toy vocabulary as older releases lay it out: vocab.json, merges.txt,
                           special_tokens_map.json and a tokenizer_config.json that disagrees with
                           the map about the pad token, as the one of Stable Diffusion 2.1 does
  text_json/               the same as transformers 5 saves it: tokenizer.json and its config
  text_tokens.json         texts and their ids, without the filling; both folders give the same
  text_encoder.json        the two small text encoders: config and provenance
  text_encoder.safetensors what they make of two of the texts

The vocabulary is ours: 256 bytes, 256 bytes that end a word, merges counted on the few lines of
CORPUS and those of ODD_MERGES, and the two special tokens. Weights of the encoders follow from
generated_weights.py. Texts keep to characters of Unicode 14 and to marks of Unicode 9: beyond
those the reference and the libraries of the distributions know different versions.
"""
import argparse
import collections
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import generated_weights

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77

CORPUS = """
a photograph of a red house by the river in the morning light
a photo of the old stone bridge and the tower of the town hall
highly detailed, sharp focus, ultra high resolution, best quality
the leaves of the tree in the garden are green and the flowers are yellow
it's a street with cars that don't stop, and we're waiting; they've gone,
I'll go, I'm here, she'd stay
windows, roofs, bricks, signs, letters and numbers on the front of the building
cafe cafés naïve über straße
water, sky, clouds, mountains, snow, rocks, sand, grass, fur, feathers, skin, hair, eyes
"""

# Merges that no counting makes: a later word is better than its parts (which of two occurrences is
# joined first then matters), one whose result two pairs make, and one across a run of signs
ODD_MERGES = [("zqz", "q"), ("z", "q"), ("zq", "z"), ("zq", "z</w>"), ("q", "z"), ("z", "qz"),
              ("?", "?"), ("??", "?</w>"), (".", "."), ("..", "."), ("Ã", "©"), ("Ã", "©</w>"),
              ("<", "|"), ("|", "></w>"), ("'", "s</w>"), ("l", "l</w>"),
              ("'", "ll</w>")]


# ---- The vocabulary ----

def byte_symbols():
    """The printable sign of every byte, in the order of their ids."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    signs = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in signs:
            signs[byte] = chr(0x100 + len(signs) - len(printable))
    return signs


def counted_merges(count):
    """The most frequent pair again and again; the alphabetically first of equals."""
    signs, words = byte_symbols(), collections.Counter()
    for word in CORPUS.lower().split():
        symbols = [signs[byte] for byte in word.encode()]
        words[(*symbols[:-1], symbols[-1] + "</w>")] += 1
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined = collections.Counter()
        for word, times in words.items():
            symbols, i = [], 0
            while i < len(word):
                pair = word[i:i + 2] == best
                symbols.append("".join(best) if pair else word[i])
                i += 2 if pair else 1
            joined[tuple(symbols)] += times
        words = joined
    return merges


def vocabulary():
    signs = list(byte_symbols().values())
    merges = [pair for pair in counted_merges(90) if pair not in ODD_MERGES] + ODD_MERGES
    tokens = signs + [sign + "</w>" for sign in signs]
    for pair in merges:
        if "".join(pair) not in tokens:
            tokens.append("".join(pair))
    return {token: i for i, token in enumerate([*tokens, BOS, EOS])}, merges


def special(content, kind=None):
    token = {"content": content, "lstrip": False, "normalized": True, "rstrip": False,
             "single_word": False}
    return {"__type": kind, **token} if kind else token


def write_files(folder):
    """The older layout; vocab.json and merges.txt are written by the library."""
    vocab, merges = vocabulary()
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=merges)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer.backend_tokenizer.model.save(str(folder))
    write_json(folder / "special_tokens_map.json", {
        "bos_token": special(BOS), "eos_token": special(EOS), "pad_token": "!",
        "unk_token": special(EOS)})
    write_json(folder / "tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": special(BOS, "AddedToken"), "do_lower_case": True,
        "eos_token": special(EOS, "AddedToken"), "errors": "replace", "model_max_length": LENGTH,
        "pad_token": EOS, "tokenizer_class": "CLIPTokenizer",
        "unk_token": special(EOS, "AddedToken")})
    return transformers.CLIPTokenizer.from_pretrained(folder)


def write_saved(folder, tokenizer):
    """The layout of transformers 5."""
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as saved:
        tokenizer.save_pretrained(saved)
        folder.mkdir(parents=True)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            # Compact: the library's own words without its spaces
            words = json.loads(pathlib.Path(saved, name).read_text())
            text = json.dumps(words, ensure_ascii=False, separators=(",", ":"))
            (folder / name).write_text(text + "\n", encoding="utf-8")
    return transformers.CLIPTokenizer.from_pretrained(folder)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


# ---- The texts ----

def texts():
    yield from ["", " ", "\n\t ", "a", "A", "z", "é", "0", "7", ".", "!", "!!", "!!!", "?!",
                "?! ?!", "!?", "a!b", "wow! nice", "!a", "a!", "¡hola!", "! !", "'!'", "!'s"]
    # Words and capitals
    yield from ["a photo of the house", "A PHOTO OF THE HOUSE", "Photograph  of\na\tRed House",
                "highly detailed, sharp focus, ultra high resolution, best quality",
                "masterpiece,best quality,(sharp:1.2),[blur]", "x" * 40, "supercalifragilistic",
                "the-old_stone/bridge", "e.g. U.S.A.", "C++20 and C#", "snake_case camelCase"]
    # Contractions
    yield from ["it's", "IT'S", "it’s", "don't", "we're", "they've", "I'm", "I'll", "she'd",
                "it'sx", "'s", "''s", "'s's", "x'", "'x", "'rex", "'vet", "'llama", "'duck", "'ma",
                "rock'n'roll", "o'clock", "y'all'd've", "'S 'T 'RE 'VE 'M 'LL 'D", "' s", "'ſ",
                "ſ's", "l'été"]
    # Digits
    yield from ["2024", "3.14159", "x4 x8 x14", "8K", "4k uhd", "1/2", "50%", "#1", "a1b2c3",
                "1st 2nd", "007", "1,000,000", "f/2.8 1/250s ISO100", "16:9"]
    # Runs of signs
    yield from ["...", "....", ". . .", "??", "???", "????", "?.?", "()[]{}", "<>", "<|", "|>",
                "<||>", "--", "—", "***bold***", "$$$", "a&b", "&amp; &lt;",
                "https://example.org/a?b=c&d=e#f", "me@example.org", ":-)", "\\n", "\"quoted\"",
                "«quoted»", "`code`", "~^~", "_", "a_b", "@#%^&*"]
    # Merges of unusual order
    yield from ["zqzq", "zqz", "zqzqzq", "qzqz", "zzqq", "qzq", "zqzqz zq qz", "zqqz"]
    # Special tokens written out
    yield from [BOS, EOS, f"a {BOS} b", f"a{BOS}b", f"{EOS}{EOS}", "<|StartOfText|>",
                "<|ENDOFTEXT|> A", "<|startoftext|", "|startoftext|>", "< |startoftext|>",
                f"{BOS}!!{EOS}", f"!{EOS}?", f"..{BOS}..", "<|endoftext |>", "<|startof!text|>",
                "<|ſtartoftext|>"]
    # White space of all kinds
    yield from ["a\u00a0b", "a\u2003b", "a\u3000b", "a\u2028b\u2029c", "a\u0085b",
                "a\u000bb\u000cc", "a\rb\r\nc", "a\u200bb", "a\ufeffb", "a\u180eb", "a\u1680b",
                "a\u202fb\u205fc", "a\x1cb\x1fc", "a\x00b", "\x7f", "  lead", "trail  ",
                "a \u0301b"]
    # Composed and decomposed
    yield from ["café", "cafe\u0301", "CAFÉ", "CAFE\u0301", "A\u030a", "Å", "\u212b", "\u2126",
                "ﬁ", "ｆｕｌｌ", "e\u0323\u0302", "e\u0302\u0323", "ệ", "q\u0307\u0323",
                "\u1e9b\u0323", "\u0344", "\u0958", "\u2adc", "가", "\u1100\u1161",
                "\u1100\u1161\u11a8", "각\u11a8", "\u3099", "か\u3099", "\u0301", "a!\u0301",
                "a\u0301!", "J\u030c T\u0308", "=\u0338", "!\u0338", "\u0b47\u0b56",
                "\U000110a5\U000110ba",
                "\U0001d15e", "\uf900"]
    # Letters, numbers and marks beyond ASCII
    yield from ["Ελληνικά", "ΟΔΟΣ", "Σ", "ΣΑΣ Σ.", "Русский ЁЖ",
                "Հայերեն", "ქართული ᲥᲐᲠᲗᲣᲚᲘ", "עברית",
                "العربية", "हिन्दी", "ไทย", "中文字符",
                "日本語テキスト", "한국어", "𠀀𠀁", "İstanbul", "ISTANBUL", "ıI",
                "Straße", "STRASSE", "ẞ", "ǅ ǆ Ǆ", "ŉ", "x²", "½ ¾", "Ⅷ ⅷ", "①②",
                "٣٤٥", "१२३", "三", "〇", "𝟘𝟙", "𝐀𝑏", "ª º", "µ μ",
                "K\u212a", "Ⓐ ⓐ", "ꙮ", "Ꭰ ꭰ", "𐐀 𐐨", "ʰ ˈ", "ʹ", "€ £ ¥",
                "° ′ ″", "№ 5", "™ ©", "x\u20e3", "a\u0300\u0301\u0302b"]
    # Pictographs and joiners
    yield from ["🙂", "a🙂b", "👩\u200d👩\u200d👧", "👍🏽", "❤️", "🇩🇪",
                "✈ 🚀🚀", "\u200d", "\u200c\u200d", "\ufffd", "\ufffe", "\U0010ffff",
                "\ue000", "\U000e0001"]
    # Too long
    yield from [" ".join(["a"] * 74), " ".join(["a"] * 75), " ".join(["a"] * 76), "1" * 200,
                "!" * 100, "photograph of " * 60, "é" * 90, "zq" * 150, "?" * 301,
                "x " * 40 + BOS + " y" * 60]


# ---- The encoders ----

CONFIG = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3,
          "intermediate_size": 64, "max_position_embeddings": LENGTH, "projection_dim": 16}
ENCODERS = {"gelu": {"hidden_act": "gelu", "layer_norm_eps": 1e-5},
            "quick_gelu": {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-2}}
PROMPTS = ["a photograph of the old stone bridge, 8K", "!" + "Ελληνικά ½ it's " * 12]
ROWS = 8  # every eighth token of the taps, all of the end


def encode(tokenizer, prompts):
    return tokenizer(prompts, max_length=LENGTH, padding="max_length", truncation=True)["input_ids"]


@torch.no_grad()
def encoder_states(config, ids):
    """Every module's output, by name."""
    model = transformers.CLIPTextModel(config).eval()
    names = {"text_model." + name: tensor for name, tensor in model.state_dict().items()
             if not name.endswith("position_ids")}
    generated_weights.fill(names)  # by the names of the files; the tensors are the model's own
    seen = {}

    def listen(name):
        def hook(_, __, output):
            seen[name] = (output[0] if isinstance(output, tuple) else output).clone()
        return hook

    for name, module in model.named_modules():
        if name in ("embeddings", "final_layer_norm") or name.split(".")[-1].isdigit():
            module.register_forward_hook(listen(name))
    end = model(torch.tensor(ids)).last_hidden_state
    assert torch.equal(end, seen["final_layer_norm"]) and len(seen) == 2 + config.num_hidden_layers
    return {name: value if name == "final_layer_norm" else value[:, ::ROWS].contiguous()
            for name, value in seen.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    made_by = (f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}, "
               f"torch {torch.__version__.split('+')[0]}, CPU; tests/golden/make_text.py")

    tokenizer = write_files(out / "text_files")
    saved = write_saved(out / "text_json", tokenizer)
    pairs = []
    for text in texts():
        ids = encode(tokenizer, [text])[0]
        assert ids == encode(saved, [text])[0] and len(ids) == LENGTH
        kept = ids[:len(ids) - ids[::-1].index(tokenizer.eos_token_id)]
        assert set(ids[len(kept):]) <= {tokenizer.pad_token_id}
        pairs.append([text, kept])
    lines = ",\n".join("  " + json.dumps(pair, separators=(",", ":")) for pair in pairs)
    (out / "text_tokens.json").write_text(
        f'{{"made_by": {json.dumps(made_by)},\n'
        f'"length": {LENGTH}, "pad": {tokenizer.pad_token_id}, "bos": {tokenizer.bos_token_id}, '
        f'"eos": {tokenizer.eos_token_id},\n'
        f'"pairs": [\n{lines}\n]}}\n')

    ids, tensors, configs = encode(tokenizer, PROMPTS), {}, {}
    for act, fields in ENCODERS.items():
        config = transformers.CLIPTextConfig(
            vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **CONFIG,
            **fields)
        configs[act] = config.to_dict()
        for name, value in encoder_states(config, ids).items():
            tensors[f"{act}.{name}"] = value
    write_json(out / "text_encoder.json", {"made_by": made_by, "prompts": PROMPTS, "rows": ROWS,
                                           "ids": ids, "configs": configs})
    save_file(tensors, out / "text_encoder.safetensors", metadata={"made_by": made_by})
    for name, value in tensors.items():
        print(f"{name} {list(value.shape)} std {value.std():.3f} max {value.abs().max():.3f}")
    print(f"{len(pairs)} texts, {len(tokenizer)} tokens")


if __name__ == "__main__":
    main()
