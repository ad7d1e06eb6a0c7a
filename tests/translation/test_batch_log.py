"""Numbers of batches."""

from __future__ import annotations

from pathlib import Path

import torch

from chts_hf.translation.batch_log import BatchLog, batch_number, batches_digest


def _batch(*values: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([values]), "labels": torch.tensor([[7, -100]])}


def test_a_batch_has_a_number_of_its_own() -> None:
    number = batch_number(_batch(1, 2, 3))
    assert number == batch_number(_batch(1, 2, 3))
    others = [_batch(2, 1, 3), _batch(1, 2, 4), _batch(1, 2), {**_batch(1, 2, 3)}]
    others[3]["labels"] = torch.tensor([[8, -100]])
    assert len({int(batch_number(one)) for one in others} | {int(number)}) == 5


def test_a_digest_is_of_all_steps_in_order(tmp_path: Path) -> None:
    def write(name: str, *steps: tuple[int, int]) -> Path:
        log = BatchLog(tmp_path / name)
        for step, value in steps:
            log.add(step, _batch(value))
        log.flush()
        log.flush()
        return log.path

    whole = batches_digest(write("a", (1, 5), (2, 6), (3, 7)), 3)
    assert whole is not None
    assert len(whole) == 16
    # Gone on with after step 1, then again from step 1.
    again = write("b", (1, 5), (2, 6))
    write("b", (2, 6), (3, 7))
    assert batches_digest(again, 3) == whole
    assert batches_digest(write("c", (1, 6), (2, 5), (3, 7)), 3) != whole
    assert batches_digest(write("d", (1, 5), (3, 7)), 3) is None
    assert batches_digest(tmp_path / "none", 3) is None
    # Two micro-batches of a step are told from one, and from the same the other way round.
    twice = batches_digest(write("e", (1, 5), (1, 6)), 1)
    assert twice != batches_digest(write("f", (1, 6), (1, 5)), 1)
    again.write_text(again.read_text() + "4 00")  # half a line
    assert batches_digest(again, 3) == whole
    again.write_text(again.read_text() + "\n")
    write("b", (3, 8))  # a resume that was not exact
    assert batches_digest(again, 3) not in (whole, None)
    BatchLog(again).clear()
    assert not again.exists()
