"""A large table with pandas and scikit-learn's preprocessing: `pandas_table.py read|epoch ENGINE`.

read makes the matrix alone; ENGINE is read_csv's. Missing numbers become the median, numbers are
standardized, categories one-hot, everything fitted on the rows to train on, to one float32 matrix of all
rows. The table's last column is the target. epoch: then one epoch of the tuned plain loop, which neither
validates nor logs nor saves.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import memory
import numpy as np
import pandas as pd
import plain
import pyarrow.parquet  # noqa: F401  before the clock begins
import task
import torch
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

mine = task.read()
torch.set_flush_denormal(True)
before = memory.forget()
clock = task.Clock(mine)
if mine.data.endswith(".parquet"):
    frame = pd.read_parquet(mine.data)
else:
    frame = pd.read_csv(mine.data, engine=sys.argv[2])
target = frame.pop(frame.columns[-1])
numbers = list(frame.select_dtypes("number"))
categories = [name for name in frame if name not in numbers]
frame = frame.astype(dict.fromkeys(numbers, np.float32))
train, held_out = train_test_split(np.arange(len(frame)), test_size=0.3, random_state=0)
held_out = held_out[: len(held_out) // 2]
transformer = ColumnTransformer(
    [
        ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (
            "categories",
            OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32),
            categories,
        ),
    ]
)
transformer.fit(frame.iloc[train])
matrix = np.ascontiguousarray(transformer.transform(frame), np.float32)
labels = target.to_numpy(np.int64)
clock.epoch()
accuracy, updates = float("nan"), 0
if sys.argv[1] == "epoch":
    data = {"x": matrix[train], "y": labels[train], "xv": matrix[held_out], "yv": labels[held_out]}
    tensors = {name: torch.from_numpy(array).to(mine.device) for name, array in data.items()}
    inputs = replace(mine, shape=[matrix.shape[1]])
    accuracy = plain.train(inputs, tensors, mine.rates[0], 0, clock)
    updates = mine.epochs * -(-len(train) // mine.batch_size)
clock.ended(accuracy, updates, memory=memory.peak() - before, features=matrix.shape[1])
