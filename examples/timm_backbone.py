"""A network of timm: python examples/timm_backbone.py data=shapes model=timm_model

model.architecture=resnet18: any that timm.list_models() names.
Weights of a file that timm saved: model.weights=model.safetensors model.weights_skip=[fc.*]
"""

import timm

from slipstream import register
from slipstream.cli import main


@register("model", takes=("image",))
def timm_model(form, outputs, *, architecture: str = "resnet10t"):
    """Build any network that timm.list_models() names, for images of any number of channels."""
    return timm.create_model(architecture, pretrained=False, in_chans=form.shape[0], num_classes=outputs)


if __name__ == "__main__":
    main()
