"""The configuration: composed by Hydra, validated as a whole, frozen."""

from slipstream.config.run_config import Choice as Choice
from slipstream.config.run_config import Config as Config
from slipstream.config.validation import compose as compose
from slipstream.config.validation import composed as composed
from slipstream.config.validation import for_target as for_target
from slipstream.config.validation import validate as validate
