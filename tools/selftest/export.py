"""PyTorch checkpoint -> CTranslate2 Whisper directory that faster-whisper loads offline.

python -m tools.selftest.export run/last.pt model --quantization int8
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from ctranslate2.specs.whisper_spec import WhisperSpec
from tokenizers import Tokenizer

from tools.selftest import bpe


def build_spec(weights: dict[str, torch.Tensor], config: dict) -> WhisperSpec:
    """Fill a CTranslate2 specification with trained weights."""
    w = {k: v.float().numpy() for k, v in weights.items()}
    d, heads = config["d"], config["heads"]
    spec = WhisperSpec(config["enc_layers"], heads, config["dec_layers"], heads)

    def linear(target, *names: str) -> None:
        """One linear layer; several names are stacked (fused projections). k has no bias."""
        target.weight = np.concatenate([w[f"{n}.weight"] for n in names])
        target.bias = np.concatenate([w.get(f"{n}.bias", np.zeros(d, np.float32)) for n in names])

    def norm(target, name: str) -> None:
        target.gamma, target.beta = w[f"{name}.weight"], w[f"{name}.bias"]

    def block(layer, name: str, cross: bool) -> None:
        a = f"{name}.attn"
        norm(layer.self_attention.layer_norm, f"{name}.attn_ln")
        linear(layer.self_attention.linear[0], f"{a}.q", f"{a}.k", f"{a}.v")
        linear(layer.self_attention.linear[1], f"{a}.out")
        if cross:
            c = f"{name}.cross"
            norm(layer.attention.layer_norm, f"{name}.cross_ln")
            linear(layer.attention.linear[0], f"{c}.q")
            linear(layer.attention.linear[1], f"{c}.k", f"{c}.v")
            linear(layer.attention.linear[2], f"{c}.out")
        norm(layer.ffn.layer_norm, f"{name}.mlp_ln")
        linear(layer.ffn.linear_0, f"{name}.up")
        linear(layer.ffn.linear_1, f"{name}.down")

    encoder, decoder = spec.encoder, spec.decoder
    for conv in ("conv1", "conv2"):
        target = getattr(encoder, conv)
        target.weight, target.bias = w[f"{conv}.weight"], w[f"{conv}.bias"]
    encoder.position_encodings.encodings = w["audio_pos"]
    norm(encoder.layer_norm, "encoder_ln")
    for i, layer in enumerate(encoder.layer):
        block(layer, f"encoder.{i}", cross=False)
    decoder.embeddings.weight = w["tokens.weight"]
    decoder.projection.weight = decoder.embeddings.weight
    decoder.position_encodings.encodings = w["text_pos"]
    decoder.scale_embeddings = False
    norm(decoder.layer_norm, "decoder_ln")
    for i, layer in enumerate(decoder.layer):
        block(layer, f"decoder.{i}", cross=True)
    return spec


def export(checkpoint: str, out: str, quantization: str, tokenizer_file: str) -> None:
    """Write the directory that faster-whisper loads."""
    saved = torch.load(checkpoint, map_location="cpu")
    config = saved["config"]
    tok = Tokenizer.from_file(tokenizer_file)
    tokens = [tok.id_to_token(i) for i in range(bpe.VOCAB_SIZE)]
    spec = build_spec(saved["model"], config)
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = []  # an empty transcript is a legal answer (no speech)
    spec.config.lang_ids = []
    spec.config.alignment_heads = [list(h) for h in config["guided"]]
    spec.validate()
    spec.optimize(quantization=quantization)
    path = Path(out)
    path.mkdir(exist_ok=True, parents=True)
    spec.save(str(path))
    shutil.copy(tokenizer_file, path / "tokenizer.json")
    (path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "feature_extractor_type": "WhisperFeatureExtractor",
                "feature_size": 80,
                "sampling_rate": 16000,
                "hop_length": 160,
                "chunk_length": 30,
                "n_fft": 400,
                "n_samples": 480000,
                "nb_max_frames": 3000,
                "padding_value": 0.0,
            },
            indent=2,
        )
    )
    size = sum(f.stat().st_size for f in path.iterdir())
    print(f"{path}: step {saved['step']}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("checkpoint")
    p.add_argument("out")
    p.add_argument("--quantization", default="int8")
    p.add_argument("--tokenizer", default="tokenizer.json")
    a = p.parse_args()
    export(a.checkpoint, a.out, a.quantization, a.tokenizer)
