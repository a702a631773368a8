"""Builds the compiled kernels now: `python -m models.stylegan2.ops`. Exits 1 if plain PyTorch has to do."""

import logging
import sys

import torch

from models.stylegan2.ops import library

logging.basicConfig(level=logging.INFO, format="%(message)s")
device_types = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
sys.exit(0 if all([library.load(device_type) for device_type in device_types]) else 1)
