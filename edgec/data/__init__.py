"""The user's data: calibration feeds, evaluations, scores, and the accuracy budget.

Shared by the rooms; imports numpy alone. See docs/quantization.md for what DATA may be on the command line.
"""

from edgec.data.budget import Budget
from edgec.data.dataset import Dataset, InputSpec
from edgec.data.evaluation import Evaluation, Run
from edgec.data.metrics import Score, agreement, cosine, sqnr_db
from edgec.data.sources import load_calibration, load_evaluation

__all__ = [
    "Budget",
    "Dataset",
    "Evaluation",
    "InputSpec",
    "Run",
    "Score",
    "agreement",
    "cosine",
    "load_calibration",
    "load_evaluation",
    "sqnr_db",
]
