"""The full pipeline: train, generate one event per test event, and evaluate."""

import datetime as dt
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import awkward as ak
import torch

from hepgan.data.io import writer
from hepgan.data.weights import with_weights_of
from hepgan.errors import RunError
from hepgan.gan.devices import resolve_device
from hepgan.gan.members import drawn_evenly, member_folder, member_name, with_member
from hepgan.gan.model import GAN
from hepgan.gan.networks import count_parameters
from hepgan.gan.training import distributed
from hepgan.pipeline.config import RunConfig
from hepgan.pipeline.evaluation import evaluate_samples
from hepgan.pipeline.generation import with_progress
from hepgan.pipeline.provenance import provenance
from hepgan.pipeline.tracking import tracked
from hepgan.pipeline.training import Prepared, about_splits, cpu_threads, train_each
from hepgan.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from hepgan.evaluation.report.evaluation import Evaluation


def run(
    run: RunConfig,
    folder: str | os.PathLike[str],
    *,
    device: torch.device | str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    track: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> "Evaluation":
    """Runs the full pipeline: trains, generates one event per test event, and evaluates.

    In addition to the files of ``train``, ``folder`` gets ``generated.root``, ``scores.json``, ``plots/`` and ``report.html``. Each member of an
    ensemble generates one event per test event into its own folder; the report compares them all, and has the band of the ensemble. Its
    ``generated.root`` has one event per test event, drawn evenly from the members, whose number is the branch ``member``.

    ``track`` names trackers of the history and of the final scores, as in ``train``.

    Raises:
        HepganError: as ``train``.
    """
    if distributed.launched_processes() > 1:
        raise RunError(
            "several processes can only train; use torchrun … -m hepgan train, then hepgan run --resume with the same folder"
        )
    folder, device = Path(folder), resolve_device(str(device))
    with ExitStack() as stack, cpu_threads(run.threads), tracked(run, folder, track) as trackers:
        samples, warnings = {}, []
        for number, (gan, prepared) in enumerate(
            train_each(
                run, folder, stack,
                device=device, resume=resume, overwrite=overwrite, progress=progress, trackers=trackers,
            )
        ):  # fmt: skip
            name, own = (
                (member_name(number), member_folder(folder, number))
                if run.ensemble
                else ("generated", folder)
            )
            reference, schema = prepared.splits["test"], gan.encoding.schema
            conditions = {key: ak.to_numpy(reference[key]) for key in schema.conditions}
            # Of another seed for each member, so that their statistical errors are independent.
            parts = gan.sample_blocks(
                len(reference), conditions=conditions, seed=prepared.state.seed
            )
            blocks = list(with_progress(parts, len(reference), progress))
            writer.write(own / "generated.root", blocks, schema, tree=gan.tree, overwrite=resume)
            samples[name] = with_weights_of(reference, ak.concatenate(blocks), schema)
            if gan.kept and gan.kept.untrained:
                warnings.append(f"{name}: {gan.kept}" if run.ensemble else str(gan.kept))
        if run.ensemble:
            events = drawn_evenly(list(samples.values()))
            path, written = folder / "generated.root", with_member(schema)
            writer.write(path, [events], written, tree=gan.tree, overwrite=resume)
        evaluation = evaluate_samples(
            reference, samples, schema, run.geometry, folder,
            run.evaluate, run.seed, {"schema and geometry": "the run file"} | provenance(run.seed, device), device, progress,
            title=f"Generated and reference events: {run.description}" if run.description else "Generated and reference events",
            facts=about_gan(run, gan) | _about_events(prepared),
            training=prepared.splits["train"], warnings=warnings, ensemble=run.ensemble is not None,
        )  # fmt: skip
        for tracker in trackers:
            tracker.scores(evaluation.scores)
    return evaluation


def about_gan(run: RunConfig, gan: GAN) -> dict[str, str]:
    """Returns a summary of the GAN and its training for the report; without training steps, of the encoding."""
    if not run.steps:
        encoding = repr(gan.encoding).removeprefix("Encoding(").removesuffix(")")
        return {**_about_data(run, gan), "encoding": encoding}
    counts = count_parameters(run.gan, gan.encoding, discriminator_shapes=gan.discriminator_shapes)
    generator, *discriminators = run.gan.layouts
    return {
        **_about_data(run, gan),
        "generator": f"{generator} ({counts['generator']:,} parameters)",
        "discriminator": f"{'; '.join(map(str, discriminators)) or 'none'} ({counts['discriminator']:,} parameters)",
        **_about_energies(run),
        "objective": run.train.objective,
        "steps": f"{run.steps:,}, batches of {run.train.batch_size} events",
    }


def _about_events(prepared: Prepared) -> dict[str, str]:
    """Returns the number of events and the time that the encoding took."""
    facts = {"events": about_splits(prepared.splits, prepared.mode)}
    if prepared.seconds:
        facts["time of the encoding"] = str(dt.timedelta(seconds=round(prepared.seconds)))
    return facts


def _about_data(run: RunConfig, gan: GAN) -> dict[str, str]:
    """Returns the files, the number of members of an ensemble and their difference, and the GAN that the training started from."""
    facts = {"data": ", ".join(run.data.files)}
    if gan.started_from:
        facts["started from"] = gan.started_from
    if run.ensemble is None:
        return facts
    differ = (
        "seeds and bootstrap samples of the training events" if run.ensemble.bootstrap else "seeds"
    )
    return facts | {"ensemble": f"{run.ensemble.members} members, which differ by {differ}"}


def _about_energies(run: RunConfig) -> dict[str, str]:
    """Returns the first stage's networks, if there is one; their parameters are counted with the others."""
    stage = run.gan.energies
    if stage is None:
        return {}
    unchanged = "the noise, unchanged"
    networks = {"generator": stage.generator or unchanged, "discriminator": stage.discriminator}
    return {f"{name} of energies": layout for name, layout in networks.items() if layout}
