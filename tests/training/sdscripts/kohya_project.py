"""A project that is trained by sd-scripts, on a base model whose file has the true header and no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio import choices, files, gates
from studio.captions.store import CaptionStore
from studio.dataset.intake import import_pictures
from studio.project import Intent, Project, create_project
from studio.settings import parse_settings
from studio.training.sdscripts import install
from studio.workspace import Workspace
from tests.modelfiles import headers
from tests.pages import worlds
from tests.training.sdscripts.sdscripts_small import stand_in

SMALL = {
    "backend": "kohya", "rank": 4, "alpha": 4, "epochs": 2, "repeats": 3, "batch_size": 1, "resolution": 256, "precision": "no",
    "cache_text_embeddings": False, "sample_every_epochs": 0, "optimizer": "adamw", "learning_rate": 1e-4,
    "save_every_epochs": 1,
}  # fmt: skip


def add_model(workspace: Workspace, place: Path, family: str = "sd15", **more: Any) -> None:
    """List a base model of the user's own under the id `mine`. place: a file, or a diffusers folder."""
    entry = {
        "id": "mine", "title": "Mine", "family": family, "format": "diffusers" if place.is_dir() else "checkpoint",
        "path": str(place), "resolution": 256, "bucket_step": 64,
        "prediction": "flow" if family in ("sd35", "flux") else "epsilon", **more,
    }  # fmt: skip
    files.write_yaml(workspace.models_dir / "models.yaml", {"models": [entry]})


def kohya_project(
    workspace: Workspace,
    folder: Path,
    *,
    how: str = "",
    engine: dict[str, str] | None = None,
    **settings: Any,
) -> Project:
    """Eight captioned pictures, a base model, and a stand-in (or another engine) that is set up. how: what goes wrong in it."""
    engine = engine or stand_in(folder / "sd", how)
    install.adopt(workspace, Path(engine["source"]), Path(engine["python"]))
    if not (workspace.models_dir / "models.yaml").exists():
        add_model(workspace, headers.write(folder / "mine.safetensors", headers.SD15))
    made = create_project(
        workspace,
        Intent(kind="style", name="Blue print", trigger="bluprnt", base_model="mine", description="Plans"),
    )
    import_pictures(made, [worlds.pictures(folder / "pictures")])
    CaptionStore(made).all()
    preset = choices.first_settings(made) and made.preset
    made.save_settings(parse_settings({**SMALL, **settings}), preset)
    return made


PROBED = 'PROBE{"failed": {}, "torch": "2.13.0", "cuda": false, "versions": {"accelerate": "1.6.0"}}'
MEASURED = {
    "seconds_per_step": 0.2, "peak_bytes": 75_000_000, "start_seconds": 1.0, "steps_run": 4, "forecast_seconds": 9.0,
    "forecast_words": "9 seconds", "steps": 24,
}  # fmt: skip


def ready_project(workspace: Workspace, folder: Path, **more: Any) -> Project:
    """The same behind four gates that pass, also for other processes; only the dry run's figures are written by hand."""
    made = kohya_project(workspace, folder, **more)
    (folder / "sd" / "probed").write_text(PROBED)
    for gate in gates.GATES[:3]:
        assert gates.run_gate(made, gate).passed, gate
    gates.save_verdict(made, "dry_run", [], gates.current_fingerprint(made, "dry_run"), MEASURED)
    return made
