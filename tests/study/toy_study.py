"""A study of one toy network at two sizes, beside its images."""

TEXT = r"""name = "toy"
seed = 1

[dataset]
source = "chest"
group_by = '(p\d{3})_'

[[extract]]
name = "sizes"
backbones = ["${NET}"]
input_size = [32, 48]
engine = "tensorflow"
views = 1

[[extract]]
name = "trivial"
backbones = ["metadata"]

[evaluation]
folds = 3
tune = false

[[train]]
name = "each size"
from = "sizes"
heads = ["logreg", "majority"]

[[train]]
name = "both sizes"
backbones = [
  "metadata",
  "toynet@32+toynet@48",
]
heads = ["logreg"]
views = 0

[[ensemble]]
name = "mean"
members = ["each size/logreg", "both sizes"]

[report]
formats = ["markdown"]
html = true
"""
