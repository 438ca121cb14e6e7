"""Olive: its passes around onnxruntime's quantizer, by a configuration and a data set of ours."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.quantization.recipe import TRANSFORMER, Case, Recipe

SCRIPT = """
from pathlib import Path
from benchmarks.quantization.recipe import TRANSFORMER, Case
from olive.data.registry import Registry

class Samples:
    def __init__(self, folder):
        self.feeds = list(Case(Path(folder)).feeds())
    def __len__(self):
        return len(self.feeds)
    def __getitem__(self, i):
        return self.feeds[i], 0

@Registry.register_dataset()
def zoo_samples(data_dir=None, folder="", **kwargs):
    return Samples(folder)

@Registry.register_dataloader()
def one_by_one(dataset, batch_size=1, **kwargs):
    return [dataset[i] for i in range(len(dataset))]
"""


def quantized(case: Case, out: Path, *, passes: dict[str, Any], data: bool) -> None:
    from olive import run

    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / "samples.py"
        script.write_text(SCRIPT)
        config: dict[str, Any] = {
            "input_model": {"type": "ONNXModel", "model_path": case.model},
            "passes": {name: {"type": name, **options} for name, options in passes.items()},
            "output_dir": f"{scratch}/out",
            "cache_dir": f"{scratch}/cache",
            "log_severity_level": 3,
        }
        if data:
            config["data_configs"] = [
                {
                    "name": "samples",
                    "user_script": str(script),
                    "load_dataset_config": {"type": "zoo_samples", "params": {"folder": str(case.folder)}},
                    "dataloader_config": {"type": "one_by_one"},
                }
            ]
            config["passes"]["OnnxStaticQuantization"]["data_config"] = "samples"
        path = Path(scratch) / "config.json"
        path.write_text(json.dumps(config))
        run(str(path))
        made = sorted(Path(f"{scratch}/out").rglob("*.onnx"))
        if len(made) != 1:
            raise FileNotFoundError(f"Olive wrote {len(made)} models")
        shutil.copyfile(made[0], out)


BEST = {"quant_format": "QDQ", "per_channel": True, "activation_type": "uint8", "precision": "int8"}
BEST |= {"calibrate_method": "MinMax", "quant_preprocess": True}
LARGE = ("efficientnet_lite0", *TRANSFORMER)
PEEPHOLE: dict[str, Any] = {"OnnxPeepholeOptimizer": {}}
RECIPES = (
    Recipe("static, defaults", quantized, {"passes": {"OnnxStaticQuantization": {}}, "data": True}),
    Recipe(
        "static, U8S8 per channel", quantized, {"passes": PEEPHOLE | {"OnnxStaticQuantization": BEST}, "data": True}
    ),
    Recipe("dynamic, defaults", quantized, {"passes": {"OnnxDynamicQuantization": {}}, "data": False}),
    Recipe("float16", quantized, {"passes": {"OnnxFloatToFloat16": {"keep_io_types": True}}, "data": False}, LARGE),
)
