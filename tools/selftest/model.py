"""Whisper in PyTorch, kept to what training needs (no KV cache, no masks on the audio)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Config:
    """Sizes of the network."""

    d: int = 256
    heads: int = 4
    enc_layers: int = 4
    dec_layers: int = 3
    vocab: int = 0
    mels: int = 80
    audio_ctx: int = 1500
    text_ctx: int = 448
    frame_classes: int = 0  # auxiliary per-frame word classifier (training only)
    phone_classes: int = 0  # auxiliary per-frame phoneme classifier (training only)
    phone_layer: int = 2  # ... reads the output of this many encoder blocks
    # cross-attention heads that are taught to look at the word they are about to write
    guided: tuple[tuple[int, int], ...] = ((1, 0), (2, 0), (2, 1))
    # heads of the first layer that are taught to look at the word written last ("I am here")
    guided_last: tuple[int, ...] = (0, 1)


def sinusoids(length: int, channels: int) -> Tensor:
    """Position encodings, as Whisper has them."""
    scale = torch.log(torch.tensor(10000.0)) / (channels // 2 - 1)
    inv = torch.exp(-scale * torch.arange(channels // 2))
    t = torch.arange(length)[:, None] * inv[None]
    return torch.cat([t.sin(), t.cos()], dim=1)


class Attention(nn.Module):
    """Multi-head attention; `want_heads` are returned with their weights."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k = nn.Linear(d, d), nn.Linear(d, d, bias=False)
        self.v, self.out = nn.Linear(d, d), nn.Linear(d, d)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(
        self,
        x: Tensor,
        source: Tensor | None = None,
        causal: bool = False,
        want_heads: list[int] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        source = x if source is None else source
        q, k, v = self._split(self.q(x)), self._split(self.k(source)), self._split(self.v(source))
        weights = None
        if k.shape[2] > 800:  # the fused kernel wins only on long windows (measured, bf16 CPU)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            if want_heads:
                logits = q[:, want_heads] @ k[:, want_heads].transpose(-1, -2)
                weights = (logits.float() * q.shape[-1] ** -0.5).softmax(-1)
        else:
            logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            if causal:
                n = logits.shape[-1]
                logits = logits + torch.full((n, n), -torch.inf, dtype=logits.dtype).triu(1)
            probs = logits.softmax(-1)
            y = probs.to(v.dtype) @ v
            if want_heads:
                weights = probs[:, want_heads].float()
        return self.out(y.transpose(1, 2).flatten(2)), weights


class Block(nn.Module):
    """One layer of the encoder, or (`cross`) of the decoder."""

    def __init__(self, d: int, heads: int, cross: bool) -> None:
        super().__init__()
        self.attn_ln, self.attn = nn.LayerNorm(d), Attention(d, heads)
        if cross:
            self.cross_ln, self.cross = nn.LayerNorm(d), Attention(d, heads)
        self.mlp_ln = nn.LayerNorm(d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(
        self, x: Tensor, audio: Tensor | None = None, want_heads: list[int] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        x = x + self.attn(self.attn_ln(x), causal=audio is not None)[0]
        weights = None
        if audio is not None:
            y, weights = self.cross(self.cross_ln(x), audio, want_heads=want_heads)
            x = x + y
        return x + self.down(F.gelu(self.up(self.mlp_ln(x)))), weights


class Whisper(nn.Module):
    """Encoder, decoder and the auxiliary heads of training."""

    def __init__(self, c: Config, dropout: float = 0.05) -> None:
        super().__init__()
        self.c = c
        self.conv1 = nn.Conv1d(c.mels, c.d, 3, padding=1)
        self.conv2 = nn.Conv1d(c.d, c.d, 3, stride=2, padding=1)
        # quieter than Whisper's unit sinusoids, which drown the conv features of a fresh model
        self.register_buffer("audio_pos", sinusoids(c.audio_ctx, c.d) * 0.15)
        self.encoder = nn.ModuleList(Block(c.d, c.heads, False) for _ in range(c.enc_layers))
        self.encoder_ln = nn.LayerNorm(c.d)
        self.tokens = nn.Embedding(c.vocab, c.d)
        self.text_pos = nn.Parameter(sinusoids(c.text_ctx, c.d) * 0.05)
        self.decoder = nn.ModuleList(Block(c.d, c.heads, True) for _ in range(c.dec_layers))
        self.decoder_ln = nn.LayerNorm(c.d)
        self.frame_head = nn.Linear(c.d, c.frame_classes)
        self.phone_ln, self.phone_head = nn.LayerNorm(c.d), nn.Linear(c.d, c.phone_classes)
        self.drop = nn.Dropout(dropout)
        nn.init.normal_(self.tokens.weight, std=0.02)
        depth = c.enc_layers + c.dec_layers
        for name, p in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                nn.init.normal_(p, std=0.04 / depth**0.5)

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """mel: (batch, 80, frames), frames even -> (batch, frames/2, d), and phoneme logits."""
        x = F.gelu(self.conv1(mel))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = self.drop(x + self.audio_pos[: x.shape[1]])
        phones = x
        for i, block in enumerate(self.encoder):
            x, _ = block(x)
            if i + 1 == self.c.phone_layer:
                phones = self.phone_head(self.phone_ln(x))
        return self.encoder_ln(x), phones

    def decode(self, ids: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the guided heads' cross-attention (batch, heads, tokens, frames).

        The ``guided_last`` heads come first.
        """
        x = self.drop(self.tokens(ids) + self.text_pos[: ids.shape[1]])
        guided = []
        for i, block in enumerate(self.decoder):
            want = [h for layer, h in self.c.guided if layer == i]
            want = list(self.c.guided_last) + want if i == 0 else want
            x, weights = block(x, audio, want)
            if weights is not None:
                guided.append(weights)
        x = self.decoder_ln(x)
        return x @ self.tokens.weight.T.to(x.dtype), torch.cat(guided, 1)
