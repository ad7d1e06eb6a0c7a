"""What a Trainer pushes to the Hub while, and after, it trains a model sparsely.

A Trainer rewrites README.md in each push, pushes the dense weights of training checkpoints in the
background, and drops the errors of these pushes. Neither of that has an event that a callback could
answer, so three methods of the one Trainer that trains sparsely are replaced, on that instance:
``create_model_card``, ``push_to_hub`` and ``_push_from_checkpoint``.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from concurrent.futures import Future
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy
from transformers.utils import PushInProgress

from chts_hf.checkpoint.folder import TARGET_FOLDER
from chts_hf.checkpoint.inspection import inspect_file
from chts_hf.checkpoint.mask_file import save_masks
from chts_hf.checkpoint.model_card import model_card
from chts_hf.checkpoint.save import SparseSizes
from chts_hf.checkpoint.section import SparseFileError
from chts_hf.checkpoint.trainer_methods import TrainerMethods
from chts_hf.distributed.layout import class_name
from chts_hf.machine import machine_kind
from chts_hf.sparsifier import Sparsifier

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger(__name__)

RESULTS_FILE = "all_results.json"
_PRIVATE = ("_*", f"{PREFIX_CHECKPOINT_DIR}-*")  # what the Trainer never pushes
# Weight files, at the top of the repository: those that a push does not bring are of an older one.
_OLD_WEIGHTS = ("model.safetensors*", "model-*.safetensors*")


def calling_trainer(callback: TrainerCallback) -> Trainer | None:
    """The Trainer whose event a callback is just answering; events name everything but it.

    Args:
        callback: one that the Trainer has.
    """
    from transformers import Trainer  # slow to import, and needed by those who train only

    frame = inspect.currentframe()
    try:
        while frame is not None:
            holder = frame.f_locals.get("self")
            if isinstance(holder, Trainer) and callback in holder.callback_handler.callbacks:
                return holder
            frame = frame.f_back
    finally:
        del frame  # a frame that is kept keeps all it refers to
    return None


def publish_sparse(trainer: Trainer, run: Callable[[], Sparsifier | None]) -> None:
    """Have a Trainer's pushes hold the sparse file and the model card.

    Called when training begins; again for the same Trainer, it changes whose sparsifier is asked.

    Args:
        trainer: whose ``create_model_card``, ``push_to_hub`` and background pushes change.
        run: gives the sparsifier of its model.
    """
    _Pushes.put_in_place(trainer, run).first_step = trainer.state.global_step


class _Pushes(TrainerMethods):
    replaced = ("create_model_card", "push_to_hub", "_push_from_checkpoint")

    def __init__(self, trainer: Trainer, run: Callable[[], Sparsifier | None]) -> None:
        super().__init__(trainer, run)
        self._api = HfApi(library_name="chts_hf")
        self.first_step = 0  # the one that training went on from

    # -- the Trainer's methods ---------------------------------------------------------------

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write README.md: the Trainer's card first, then ours with what it says."""
        trainer = self._trainer
        self._own("create_model_card")(*args, **kwargs)
        sparsifier = self.run()
        if sparsifier is None or not trainer.is_world_process_zero():
            return
        path = self._folder / "README.md"
        draft = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
        card = model_card(
            trainer.hub_model_id or trainer.args.hub_model_id or self._folder.absolute().name,
            sparsifier.config,
            sparsifier.stats(),
            architecture=class_name(sparsifier.model),
            sizes=_sizes(self._folder),
            results=self._results(sparsifier),
            draft=draft,
            two_tokenizers=(self._folder / TARGET_FOLDER).is_dir(),
        )
        card.save(path)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Push as the Trainer does; weight files of earlier saves are then taken off the Hub."""
        trainer = self._trainer
        _wait_for(getattr(trainer, "push_in_progress", None))
        pushed = self._own("push_to_hub")(*args, **kwargs)
        if isinstance(pushed, Future):
            pushed.add_done_callback(self._after_push)
        elif pushed is not None:
            self._remove_old_weights()
        return pushed

    def push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push the sparse model and its card in the background, at each save that asks for it.

        Training checkpoints themselves stay dense, for resuming. A push is left out while the one
        before is not done; with ``hub_always_push`` it is waited for instead, since it reads the
        folder that this one writes.
        """
        trainer = self._trainer
        args = trainer.args
        if not trainer.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
            return
        running = trainer.push_in_progress
        if running is not None and not running.is_done() and not args.hub_always_push:
            return
        _wait_for(running)
        trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
        sparsifier = self.run()
        assert sparsifier is not None
        trainer.save_model(_internal_call=True)
        trainer.create_model_card(tags=list(getattr(sparsifier.model, "model_tags", None) or []))
        message = f"Training in progress, step {trainer.state.global_step}"
        patterns = {"ignore_patterns": [*_PRIVATE], "delete_patterns": [*_OLD_WEIGHTS]}
        jobs = [self._upload(self._folder, message, **patterns)]
        if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            # Without this file nobody could resume; the callback writes it after this push.
            save_masks(checkpoint_folder, sparsifier.state_dict(), sparsifier.config)
            last_only = args.hub_strategy == HubStrategy.CHECKPOINT
            place = "last-checkpoint" if last_only else Path(checkpoint_folder).name
            jobs.append(
                self._upload(Path(checkpoint_folder), f"{message}, checkpoint", path_in_repo=place)
            )
        trainer.push_in_progress = PushInProgress(cast(Any, jobs))  # type: ignore[assignment]

    # -- inside ------------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        assert self._trainer.args.output_dir is not None  # a Trainer without one does not push
        return Path(self._trainer.args.output_dir)

    def _results(self, sparsifier: Sparsifier) -> dict[str, Any]:
        """What is known of the run: its results file if it is of this run, else its times."""
        trainer = self._trainer
        path = self._folder / RESULTS_FILE
        if not trainer.is_in_train and path.is_file():
            results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if results.get("chts") == sparsifier.config.to_dict():
                return results
            logger.warning("the model card leaves %s out: it is of a run with other settings", path)
        times = next(
            (log for log in reversed(trainer.state.log_history) if "train_runtime" in log), {}
        )
        return times | {
            "steps": trainer.state.global_step,
            "resumed_from_step": self.first_step,
            "seed": trainer.args.seed,
            "machine": machine_kind(),
            "threads": torch.get_num_threads(),
            "topology_runtime": sparsifier.stats()["topology_runtime"],
        }

    def _upload(self, folder: Path, message: str, **options: Any) -> Future[Any]:
        """Upload in the background, one job after the other."""
        args, repo = self._trainer.args, self._trainer.hub_model_id
        assert repo is not None  # made when the Trainer was

        def push() -> Any:
            try:
                return self._api.upload_folder(
                    repo_id=repo,
                    folder_path=folder,
                    commit_message=message,
                    token=args.hub_token,
                    revision=args.hub_revision,
                    **options,
                )
            except Exception as error:
                _report(error)  # the Trainer waits for its jobs, and never looks at them
                raise

        return self._api.run_as_future(push)

    def _after_push(self, job: Future[Any]) -> None:
        """What becomes of a push that nobody waited for."""
        error = None if job.cancelled() else job.exception()
        if error is not None:
            _report(error)
        elif not job.cancelled():
            self._remove_old_weights()

    def _remove_old_weights(self) -> None:
        """Take the weight files of earlier pushes off the Hub: each save has new names."""
        trainer = self._reference()
        if trainer is None:
            return
        repo: dict[str, Any] = {
            "repo_id": trainer.hub_model_id,
            "token": trainer.args.hub_token,
            "revision": trainer.args.hub_revision,
        }
        try:
            old = [
                name
                for name in self._api.list_repo_files(**repo)
                if any(fnmatch(name, pattern) for pattern in _OLD_WEIGHTS)
                and not (self._folder / name).is_file()
            ]
            if old:
                message = "Remove the weights of earlier pushes"
                self._api.delete_files(delete_patterns=old, commit_message=message, **repo)
        except HfHubHTTPError as error:  # what was pushed is whole; these files are only in the way
            logger.warning("weight files of earlier pushes stay on the Hub: %s", error)


def _wait_for(push: PushInProgress | None) -> None:
    if push is not None:
        push.wait_until_done()


def _sizes(folder: Path) -> SparseSizes | None:
    try:
        return inspect_file(folder).sizes
    except SparseFileError:  # nothing sparse was saved there
        return None


def _report(error: BaseException) -> None:
    logger.warning(
        "a background push to the Hub failed: %s: %s. Training goes on; the next save pushes "
        "again, and trainer.push_to_hub() pushes now and raises what goes wrong",
        type(error).__name__, error,
    )  # fmt: skip
