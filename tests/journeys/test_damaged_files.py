"""A file that is damaged between its staging and its load is reported, and its neighbours are loaded."""

import os
from pathlib import Path

from tests.journeys.stack import Stack
from tests.journeys.test_outcomes import arrival_of, paused, rows, run_of, wait_for_state
from tests.receiver import Receiver


def test_a_staged_file_that_is_cut_short_is_in_front_of_a_person_and_loads_once_it_is_put_back(
    stack: Stack, receiver: Receiver
):
    whole = "damaged,cut\n" + "".join(f"0,{n}\n" for n in range(1000))
    stack.know_one_of(["damaged"], "BIGINT")
    with paused(stack):
        others = {"beside.csv": "damaged,beside\n0,1\n", "also.csv": "damaged,also\n0,1\n"}
        for name, text in {"cut.csv": whole, **others}.items():
            partial = stack.inbox / f".{name}"
            partial.write_text(text)
            partial.rename(stack.inbox / name)
        run_of(stack, "cut.csv")
        folder = Path(arrival_of(stack, "cut.csv")["folder"])
        os.truncate(folder / "cut.csv", len(whole) // 2)
    failed = wait_for_state(stack, "cut.csv", "failed")
    for name in ("beside", "also"):
        run_of(stack, f"{name}.csv")
        wait_for_state(stack, f"{name}.csv", arrival_of(stack, f"{name}.csv")["state"])
        assert rows(stack, name) == [1]
    assert failed["file_state"] == "rejected"
    reason = failed["file_reason"]
    assert f"expected {len(whole):,} bytes" in reason
    assert f"got {len(whole) // 2:,} bytes" in reason
    assert f"rejected in inbox metrics: cut.csv: {reason}" in stack.command("sensors", "status").stdout
    assert (stack.state_dir / "failed" / "arrivals" / failed["id"] / "links" / "cut.csv").exists()
    assert receiver.naming("cut.csv")

    (folder / "cut.csv").write_text(whole)
    assert stack.command("sensors", "retry", failed["id"]).returncode == 0
    wait_for_state(stack, "cut.csv", "loaded")
    assert rows(stack, "cut") == list(range(1000))
