"""The user's data: calibration feeds, evaluations, scores, and the accuracy budget.

Shared by the rooms; imports numpy alone. See docs/quantization.md for what DATA may be on the command line.
"""

from edgec.data.budget import Budget
from edgec.data.dataset import Dataset, InputSpec
from edgec.data.evaluation import Evaluation, Run
from edgec.data.likeness import agreement, closeness, direction, likeness, suited
from edgec.data.metrics import Score, cosine, sqnr_db
from edgec.data.sources import load_calibration, load_evaluation

__all__ = [
    "Budget",
    "Dataset",
    "Evaluation",
    "InputSpec",
    "Run",
    "Score",
    "agreement",
    "closeness",
    "cosine",
    "direction",
    "likeness",
    "load_calibration",
    "load_evaluation",
    "sqnr_db",
    "suited",
]
