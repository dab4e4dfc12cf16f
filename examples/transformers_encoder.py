"""An encoder of transformers for texts: python examples/transformers_encoder.py data=text data.path=texts.csv
data.text=review data.target=label model=encoder

Random weights of a small BERT, or those of a local folder with config.json and model.safetensors:
model.folder=path/to/model. The run numbers words by its own vocabulary: the folder's embeddings of words fit
only if it is the same.
"""

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertConfig

from slipstream import register
from slipstream.cli import main


class Encoder(nn.Module):
    """The mean of the last states of the words, and a dense layer."""

    def __init__(self, encoder: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        present = (ids != 0).long()  # 0 is padding
        states = self.encoder(input_ids=ids, attention_mask=present).last_hidden_state
        return self.head((states * present[..., None]).sum(1) / present.sum(1, keepdim=True).clamp(min=1))


@register("model", takes=("tokens",))
def encoder(form, outputs, *, folder: str | None = None, width: int = 32, depth: int = 2):
    """Build a BERT of this width and depth, or load the folder's model with its weights."""
    if folder is None:
        small = BertConfig(
            vocab_size=form.vocabulary,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=2,
            intermediate_size=2 * width,
            max_position_embeddings=form.shape[0],
        )
        return Encoder(AutoModel.from_config(small), width, outputs)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    loaded = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    return Encoder(loaded, config.hidden_size, outputs)


if __name__ == "__main__":
    main()
