"""Pictures for which sd-scripts has no bucket, beside its own answers at commit 48d368fa, and the gate that names them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from studio.dataset.buckets import too_narrow
from studio.dataset.intake import import_pictures
from studio.gates.config import config_gate
from studio.settings import TrainingSettings, parse_settings
from studio.workspace import Workspace
from tests.training.sdscripts.kohya_project import SMALL, kohya_project

# Resolution, step, width, height; whether the script divided by zero or made a bucket of no width.
SEEN = [
    (256, 32, 30, 30, True),
    (512, 64, 17920, 256, True),
    (256, 32, 46550, 665, True),
    (256, 64, 28, 476, True),
    (256, 32, 26670, 381, True),
    (256, 64, 467, 14010, True),
    (256, 64, 652, 19560, True),
    (256, 64, 236, 7080, True),
    (64, 64, 6456, 538, True),
    (64, 64, 3450, 690, True),
    (64, 32, 19650, 655, True),
    (64, 32, 461, 5532, True),
    (1024, 32, 466, 7922, False),
    (64, 32, 526, 526, False),
    (512, 64, 220, 440, False),
    (1024, 32, 51, 612, False),
    (1024, 64, 14980, 214, False),
    (64, 32, 247, 247, False),
    (1024, 32, 44450, 635, False),
    (512, 32, 932, 466, False),
]


@pytest.mark.parametrize("row", SEEN)
def test_as_sd_scripts_answers(row: tuple[int, int, int, int, bool]) -> None:
    resolution, step, width, height, stops = row
    settings = TrainingSettings(resolution=resolution, bucket_step=step, bucket_no_upscale=True)
    assert too_narrow(width, height, settings) == stops
    assert not too_narrow(width, height, settings.model_copy(update={"bucket_no_upscale": False}))


def test_the_gate_names_the_picture_before_the_script_stops_at_it(tmp_path: Path) -> None:
    project = kohya_project(Workspace(tmp_path / "ws"), tmp_path)
    assert "picture-too-narrow" not in {f.code for f in config_gate(project).findings}
    strip = tmp_path / "more" / "strip.png"
    strip.parent.mkdir()
    Image.new("RGB", (1900, 60), "teal").save(strip)
    import_pictures(project, [strip.parent])
    told = {f.code: f for f in config_gate(project).findings}["picture-too-narrow"]
    assert (told.severity, told.where) == ("block", ("strip.png",))
    assert told.what == "One picture is too narrow for a bucket step of 64 px."
    larger = parse_settings({**SMALL, "bucket_no_upscale": False})
    project.save_settings(larger, project.preset)
    assert "picture-too-narrow" not in {f.code for f in config_gate(project).findings}
