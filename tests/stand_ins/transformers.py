"""Stands in for transformers where it is not installed: configurations, models, folders of files."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file, save_file
from torch import nn


class BertConfig(SimpleNamespace):
    """The settings of a model as attributes."""


class _Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(0.1)

    def forward(self, input_ids, attention_mask):
        states = self.dropout(self.dense(self.embeddings(input_ids)).tanh()) * attention_mask[..., None]
        return SimpleNamespace(last_hidden_state=states)

    def save_pretrained(self, folder):
        Path(folder).mkdir()
        Path(folder, "config.json").write_text(json.dumps(vars(self.config)))
        save_file(self.state_dict(), Path(folder, "model.safetensors"))


class AutoConfig:
    """Reads config.json."""

    @staticmethod
    def from_pretrained(folder, *, local_files_only):
        return BertConfig(**json.loads(Path(folder, "config.json").read_text()))


class AutoModel:
    """Makes a model with random weights, or with those of a folder."""

    @staticmethod
    def from_config(config):
        return _Encoder(config)

    @staticmethod
    def from_pretrained(folder, *, local_files_only, dtype):
        assert dtype == torch.float32
        made = _Encoder(AutoConfig.from_pretrained(folder, local_files_only=local_files_only))
        made.load_state_dict(load_file(Path(folder, "model.safetensors")))
        return made
