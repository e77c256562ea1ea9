"""Run by the Python of an sd-scripts installation, inside its folder: what its own dataset classes read of an export.

    python sdscripts_reads.py config DATASET.toml        python sdscripts_reads.py folders IMG_DIR REG_DIR

Prints one JSON document: every picture with its repeats, caption, kind and bucket.
"""

import argparse
import json
import os
import sys

sys.path.insert(0, os.getcwd())
import torch

try:
    import torchvision
except (
    RuntimeError
):  # CPU builds without torchvision's own operators: declaring the one it asks for is enough
    for _name in [m for m in sys.modules if m.startswith("torchvision")]:
        del sys.modules[_name]
    _ops = torch.library.Library("torchvision", "DEF")
    _ops.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401

from library import config_util, train_util  # type: ignore[import-not-found]

parser = argparse.ArgumentParser()
train_util.add_sd_models_arguments(parser)
train_util.add_dataset_arguments(parser, True, True, True)
train_util.add_training_arguments(parser, True)
config_util.add_config_arguments(parser)
if sys.argv[1] == "config":
    args = parser.parse_args(["--dataset_config", sys.argv[2], "--seed", "1"])
    told = config_util.load_user_config(args.dataset_config)
else:
    args = parser.parse_args(["--resolution", "64", "--caption_extension", ".txt", "--seed", "1"])
    subsets = config_util.generate_dreambooth_subsets_config_by_subdirs(*sys.argv[2:4])
    told = {"datasets": [{"subsets": subsets}]}
train_util.prepare_dataset_args(args, True)
blueprint = config_util.BlueprintGenerator(config_util.ConfigSanitizer(True, True, False, True)).generate(
    told, args
)
made = config_util.generate_dataset_group_by_blueprint(blueprint.dataset_group)
group = made[0] if isinstance(made, tuple) else made
found = []
for dataset in group.datasets:
    for info in dataset.image_data.values():
        train_util.load_image(info.absolute_path)
        found.append(
            {
                "path": info.absolute_path,
                "repeats": info.num_repeats,
                "caption": info.caption,
                "regularisation": info.is_reg,
                "bucket": list(info.bucket_reso),
                "size": list(info.image_size),
            }
        )
print("RESULT " + json.dumps({"pictures": found, "train_images": group.num_train_images}))
